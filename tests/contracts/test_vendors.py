"""What all vendors' adapters add to the provider's contract: keys, batches, histories, URLs."""

from __future__ import annotations

import base64
import json
import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pricewire.domain.quote import Fetched, RawResponse
from pricewire.errors import InvalidParameter, ProviderError
from pricewire.providers.anatomy import Answer, Span
from pricewire.providers.catalogue import VENDORS
from pricewire.providers.rest import RestProvider
from tests.keyless_bodies.cases import Case
from tests.provider_bodies import BODIES, CASES
from tests.vendor_tools import CANARY, KNOWN, answering, canaries, now, rest

EVERYTHING = re.compile(".*")
SPAN = Span(
    symbol="ACME",
    interval="1d",
    start=datetime(2024, 3, 18, tzinfo=UTC),
    end=datetime(2024, 3, 22, tzinfo=UTC),
)


@pytest.fixture(params=list(KNOWN))
async def vendor(
    request: pytest.FixtureRequest, httpserver: HTTPServer
) -> AsyncIterator[RestProvider]:
    provider = rest(request.param, httpserver.url_for(""))
    yield provider
    await provider.aclose()


def traces(key: str) -> Iterator[bytes]:
    """The forms in which a key could show."""
    yield key.encode()
    yield quote(key, safe="").encode()
    yield base64.b64encode(key.encode())


def shows_a_key(text: str) -> bool:
    folded = text.upper()
    return "C4NARY" in folded or any(one.decode().upper() in folded for one in traces(CANARY))


async def test_the_key_reaches_the_vendor_and_no_url_that_is_kept(
    vendor: RestProvider, httpserver: HTTPServer
) -> None:
    asked: list[Request] = []
    httpserver.expect_request(EVERYTHING).respond_with_handler(answering(vendor.name, asked))
    fetched = await vendor.fetch(KNOWN[vendor.name].symbol)
    [request] = asked
    told = f"{request.url} {list(request.args.values())} {list(request.headers.values())}"
    assert all(key in told for key in canaries(vendor.name).values())
    assert not shows_a_key(repr(fetched))
    assert not any("C4NARY" in value for _, value in fetched.raw.headers)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
async def test_a_key_that_a_vendor_repeats_is_in_no_error_and_no_log(
    vendor: RestProvider, httpserver: HTTPServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = " ".join(canaries(vendor.name).values()) or CANARY
    bodies = [
        f"what is {keys} you sent?",
        f'{{"error": "{keys}", "message": "key {keys}", "Information": "{keys}", "code": 401}}',
        f'{{"detail": "{keys}", "status": "error", "msg": "{keys}", "code": 401}}',
        f'{{"chart": {{"result": null, "error": {{"code": "x", "description": "{keys}"}}}}}}',
        f'{{"error": ["EGeneral:{keys}"]}}',
        f'[{{"ticker": "{keys}", "symbol": "{keys}", "T": "error", "msg": "{keys}"}}]',
    ]
    for body in bodies:
        httpserver.clear()
        httpserver.expect_request(EVERYTHING).respond_with_data(body, status)
        with pytest.raises(ProviderError) as raised:
            await vendor.fetch(KNOWN[vendor.name].symbol)
        if canaries(vendor.name):
            assert not shows_a_key("".join(traceback.format_exception(raised.value)))
            assert not shows_a_key(raised.value.detail)
    ours = [one.getMessage() for one in caplog.records if one.name != "werkzeug"]
    assert not any(shows_a_key(line) for line in ours)


async def test_a_vendor_that_cannot_be_reached_shows_no_key(vendor: RestProvider) -> None:
    gone = rest(vendor.name, "http://127.0.0.1:1")
    with pytest.raises(ProviderError) as raised:
        await gone.fetch(KNOWN[vendor.name].symbol)
    assert not shows_a_key("".join(traceback.format_exception(raised.value)))
    await gone.aclose()


async def test_a_batch_is_one_call_and_tells_whom_it_lacks(
    vendor: RestProvider, httpserver: HTTPServer
) -> None:
    if vendor.batch == 1:
        with pytest.raises(InvalidParameter, match="at most 1"):
            await vendor.fetch_many(("A", "B"))
        return
    [case, *_] = [
        body
        for body in BODIES
        if body.provider == vendor.name and len(body.symbols) > 1 and body.status == 200
    ]
    httpserver.expect_request(EVERYTHING).respond_with_data(case.body)
    fetched = await vendor.fetch_many(case.symbols)
    assert len(httpserver.log) == 1
    assert {one.symbol for one in fetched.quotes} | set(fetched.refused) == set(case.symbols)
    assert len(fetched.quotes) == len({one.symbol for one in fetched.quotes})


async def test_two_forms_of_one_symbol_both_get_the_price(httpserver: HTTPServer) -> None:
    vendor = rest("kraken", httpserver.url_for(""))
    httpserver.expect_request(EVERYTHING).respond_with_data(KNOWN["kraken"].live.body)
    fetched: Fetched = await vendor.fetch_many(("BTC/USD", "XBTUSD"))
    await vendor.aclose()
    assert [one.symbol for one in fetched.quotes] == ["BTC/USD", "XBTUSD"]
    assert httpserver.log[0][0].args["pair"] == "XBTUSD"


HISTORIES = [case for case in CASES if case.body.name in ("daily", "candles", "klines", "bars")]
HISTORIES += [case for case in CASES if (case.body.provider, case.body.name) == ("yahoo", "chart")]


@pytest.mark.parametrize("case", HISTORIES, ids=lambda case: case.body.provider)
@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "1h", "1d"])
async def test_a_history_gives_bars(httpserver: HTTPServer, case: Case, interval: str) -> None:
    body = case.body
    httpserver.expect_request(EVERYTHING).respond_with_data(body.body)
    vendor = rest(body.provider, httpserver.url_for(""))
    fetched = await vendor.history(Span(body.symbols[0], interval, SPAN.start, SPAN.end))
    await vendor.aclose()
    assert fetched.bars
    assert {bar.symbol for bar in fetched.bars} == set(body.symbols)


@pytest.mark.parametrize("name", [one.name for one in VENDORS.values() if one.history])
def test_a_history_request_is_about_the_symbol_and_holds_no_float(name: str) -> None:
    vendor = VENDORS[name]
    assert vendor.history is not None
    symbol = KNOWN[name].symbol
    for interval in ("1m", "5m", "15m", "1h", "1d"):
        request = vendor.history(Span(symbol, interval, SPAN.start, SPAN.end))
        told = f"{request.path}?{'&'.join(f'{a}={b}' for a, b in request.params.items())}"
        assert KNOWN[name].own in told.upper()
        assert "e+" not in told


@pytest.mark.parametrize("name", KNOWN)
def test_a_url_tells_its_symbol(name: str) -> None:
    vendor = VENDORS[name]
    request = vendor.request((KNOWN[name].symbol,))
    query = "&".join(f"{a}={quote(b, safe='')}" for a, b in request.params.items())
    named = vendor.asked(f"{vendor.origin}{request.path}?{query}")
    assert [one.upper() for one in named] == [KNOWN[name].own]
    for other in ("", "https://vendor.test", "http://[bad", vendor.origin):
        assert vendor.asked(other) == ()


@pytest.mark.parametrize("name", KNOWN)
def test_the_vendors_own_form_of_a_symbol_is_taken_as_it_is(name: str) -> None:
    known, vendor = KNOWN[name], VENDORS[name]
    assert vendor.request((known.own,)) == vendor.request((known.symbol,))
    answer = Answer(
        body=known.live.body, status=200, fetched_at=now(), symbols=(known.own,), url=""
    )
    [one] = vendor.parse(answer).quotes
    assert one.symbol == known.own


async def test_symbols_with_odd_letters_stay_inside_their_place(
    vendor: RestProvider, httpserver: HTTPServer
) -> None:
    seen: list[str] = []

    def note(request: Request) -> Response:
        seen.append(request.environ.get("RAW_URI", request.full_path))
        return Response("{}")

    httpserver.expect_request(EVERYTHING).respond_with_handler(note)
    for symbol in ("A/../../B", "^A&B=C", "A:B"):
        with pytest.raises(ProviderError):
            await vendor.fetch(symbol)
    path = [one.partition("?")[0] for one in seen]
    assert not any("/../" in one for one in path)
    assert not any("&B=C" in one for one in seen)


async def test_a_refusal_comes_with_the_answer_that_says_so_and_without_the_key(
    vendor: RestProvider, httpserver: HTTPServer
) -> None:
    keys = list(canaries(vendor.name).values())
    forms = [form for key in keys for form in (key, quote(key, safe=""), key.lower())]
    said = json.dumps({"error": ["EGeneral:Nothing", *forms, *(json.dumps(key) for key in keys)]})
    httpserver.expect_request(EVERYTHING).respond_with_data(said, 403)
    with pytest.raises(ProviderError) as refused:
        await vendor.fetch(KNOWN[vendor.name].symbol)
    raw = refused.value.raw
    assert isinstance(raw, RawResponse)
    assert (raw.provider, raw.status) == (vendor.name, 403)
    assert not shows_a_key(raw.body.decode())
    assert b"EGeneral:Nothing" in raw.body
    if not keys:
        assert raw.body == said.encode()
