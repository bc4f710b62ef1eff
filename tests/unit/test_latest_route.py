"""`GET /v1/prices/latest` over guarded providers: lists, problems with attempts, stored prices."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pricewire.bootstrap import Services
from pricewire.domain.event import EventId
from pricewire.errors import NotAPrice, Throttle, Throttled, UnknownSymbol
from pricewire.web.app import create_app
from pricewire.web.prices import LONG_QUERY_BYTES, MAX_SYMBOLS, PATH
from tests.fakes import in_virtual_time
from tests.vendor_fakes import Market, Vendor, market

Answer = tuple[int, dict[bytes, bytes], Any]


async def get(made: Market, query: str) -> Answer:
    app = create_app(cast("Services", SimpleNamespace(latest=made.latest, topic="price-events")))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": PATH, "headers": [], "root_path": ""}
    await app(scope | {"query_string": query.encode()}, receive, send)
    start, body = sent[:2]
    return start["status"], dict(start["headers"]), json.loads(body["body"])


@in_virtual_time
async def test_a_price_says_what_it_is_and_how_fresh() -> None:
    async with market(Vendor("kraken")) as made:
        status, _, told = await get(made, "symbol=BTC/USD")
    assert status == 200
    assert told["currency"] == "USD"
    assert (told["kind"], told["delayed"], told["adjusted"]) == ("last", False, None)
    assert (told["session"], told["cached"], told["stale"]) == ("open", False, False)
    assert told["age_seconds"] == pytest.approx(2.75, abs=0.1)
    assert (told["stale_reason"], told["attempts"], told["exchange"]) == (None, [], None)


@in_virtual_time
async def test_where_nobody_has_a_price_the_problem_names_them_all() -> None:
    first = Vendor("first", Throttled("enough", throttle=Throttle.DAY, retry_after=3600))
    async with market(first, Vendor("second", NotAPrice("<html>"))) as made:
        status, headers, told = await get(made, "symbol=AAPL")
    assert (status, told["code"]) == (503, "rate_limited_daily")
    assert headers[b"retry-after"] == b"3600"
    assert told["retry_after"] == 3600
    assert told["attempts"] == [
        {"provider": "first", "code": "rate_limited_daily", "detail": "enough"},
        {"provider": "second", "code": "not_a_price", "detail": "<html>"},
    ]


@in_virtual_time
async def test_of_several_each_has_its_price_or_its_own_error() -> None:
    vendor = Vendor("first")
    vendor.batch = 10
    vendor.refuses = {"NOPE": UnknownSymbol("no NOPE")}
    async with market(vendor) as made:
        status, _, told = await get(made, "symbol=AAPL,NOPE,A~B,MSFT,AAPL,")
        assert status == 200
        assert vendor.calls == [("AAPL", "NOPE", "MSFT")]
        assert len(made.store.raws) == 1
    rows = told["prices"]
    assert [one["symbol"] for one in rows] == ["AAPL", "NOPE", "A~B", "MSFT", "AAPL", ""]
    codes = [one.get("error", {}).get("code") for one in rows]
    assert codes == [None, "unknown_symbol", "invalid_symbol", None, None, "invalid_symbol"]
    assert rows[1]["error"]["status"] == 404
    assert rows[0] == rows[4]


@in_virtual_time
async def test_several_that_are_stored_cost_no_call() -> None:
    vendor = Vendor("first")
    vendor.batch = 10
    async with market(vendor) as made:
        await get(made, "symbol=A,B")
        for symbol in ("A", "B"):
            made.receipts.queue(EventId(symbol, 1))
        _, _, told = await get(made, "symbol=A,B,C&max_age=60")
        assert vendor.calls == [("A", "B"), ("C",)]
    assert [one["cached"] for one in told["prices"]] == [True, True, False]


@in_virtual_time
async def test_too_many_symbols_are_refused_and_a_long_question_is_read() -> None:
    async with market(Vendor("first")) as made:
        status, _, told = await get(made, "symbol=" + ",".join(["A"] * (MAX_SYMBOLS + 1)))
        assert (status, told["code"]) == (422, "invalid_parameter")
        status, _, told = await get(made, f"symbol=A&more={'x' * LONG_QUERY_BYTES}")
        assert (status, told["symbol"]) == (200, "A")
