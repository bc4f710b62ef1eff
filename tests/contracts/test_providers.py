"""What every provider promises, and what the way over the network adds to it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pricewire.domain.quote import price_text
from pricewire.errors import ProviderDown, ProviderError, ProviderTimedOut, UnknownSymbol
from pricewire.providers.alpha_vantage import ALPHA_VANTAGE
from pricewire.providers.history import History
from pricewire.providers.rest import RestProvider
from pricewire.services.fetching import Provider
from tests.vendor_tools import KNOWN, answering, now, rest

KEY = "T0PSECRETKEY"
BODY = b'{ "Global Quote": {"01. symbol": "IBM", "05. price": "112.1300",\n "07. latest trading day": "2024-03-20"}}'  # noqa: E501
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


def alpha_vantage(origin: str, timeout_seconds: float = 5) -> RestProvider:
    return RestProvider(
        ALPHA_VANTAGE,
        keys={"api_key": KEY},
        base_url=origin,
        timeout_seconds=timeout_seconds,
        clock=now,
    )


def answer(request: Request) -> Response:
    if request.args.get("symbol") != "IBM":
        return Response('{"Global Quote": {}}')
    return Response(BODY, headers={"Content-Type": "application/json", "Set-Cookie": "a=b"})


@pytest.fixture
async def vendor(httpserver: HTTPServer) -> AsyncIterator[RestProvider]:
    provider = alpha_vantage(httpserver.url_for(""))
    yield provider
    await provider.aclose()


@pytest.fixture(params=[*KNOWN, "history"])
async def provider(
    request: pytest.FixtureRequest, httpserver: HTTPServer
) -> AsyncIterator[Provider]:
    made: Provider
    if request.param == "history":
        made = History(file=None, interval_seconds=1, clock=now)
    else:
        httpserver.expect_request(re.compile(".*")).respond_with_handler(answering(request.param))
        made = rest(request.param, httpserver.url_for(""))
    yield made
    await made.aclose()


@pytest.fixture
def symbol(provider: Provider) -> str:
    """The one symbol that the provider knows, in a form of ours."""
    return KNOWN[provider.name].symbol if provider.name in KNOWN else "IBM"


async def test_a_fetch_is_a_quote_and_the_answer_it_came_from(
    provider: Provider, symbol: str
) -> None:
    fetched = await provider.fetch(symbol)
    (quote,) = fetched.quotes
    assert quote.symbol == symbol
    assert price_text(quote.price).encode() in fetched.raw.body
    assert fetched.raw.provider == provider.name
    assert fetched.raw.status == 200
    assert fetched.raw.fetched_at.utcoffset() == timedelta(0)
    assert abs(now() - fetched.raw.fetched_at) < timedelta(minutes=1)
    assert all(name == name.lower() for name, _ in fetched.raw.headers)


async def test_ids_are_unique_and_ordered_by_time(provider: Provider, symbol: str) -> None:
    fetched = [await provider.fetch(symbol) for _ in range(20)]
    ids = [one.raw.id for one in fetched]
    assert {one.version for one in ids} == {7}
    assert ids == sorted(set(ids))


async def test_concurrent_fetches_do_not_mix(provider: Provider, symbol: str) -> None:
    asked = [symbol, "NONE.SUCH"] * 40
    results = await asyncio.gather(*map(provider.fetch, asked), return_exceptions=True)
    for named, result in zip(asked, results, strict=True):
        if named == symbol:
            assert not isinstance(result, BaseException)
            assert result.quotes[0].symbol == symbol
        else:
            assert isinstance(result, UnknownSymbol)


async def test_an_unknown_symbol_is_told_as_such(provider: Provider) -> None:
    with pytest.raises(UnknownSymbol, match=r"NONE\.SUCH"):
        await provider.fetch("NONE.SUCH")


async def test_closing_twice_is_fine(provider: Provider, symbol: str) -> None:
    await provider.fetch(symbol)
    await provider.aclose()
    await provider.aclose()


async def test_the_raw_answer_is_kept_byte_for_byte(
    vendor: RestProvider, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/query").respond_with_handler(answer)
    raw = (await vendor.fetch("IBM")).raw
    assert raw.body == BODY
    assert ("content-type", "application/json") in raw.headers
    assert "set-cookie" not in dict(raw.headers)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("^GSPC", {"function": "GLOBAL_QUOTE", "symbol": "^GSPC"}),
        ("A&B=C", {"function": "GLOBAL_QUOTE", "symbol": "A&B=C"}),
        ("a/b", {"function": "GLOBAL_QUOTE", "symbol": "a/b"}),
        (
            "BTC/USD",
            {"function": "CURRENCY_EXCHANGE_RATE", "from_currency": "BTC", "to_currency": "USD"},
        ),
    ],
)
async def test_symbols_reach_the_vendor_as_they_are(
    vendor: RestProvider, httpserver: HTTPServer, symbol: str, expected: dict[str, str]
) -> None:
    seen: list[dict[str, str]] = []

    def note(request: Request) -> Response:
        seen.append(request.args.to_dict())
        return Response("{}")

    httpserver.expect_request("/query").respond_with_handler(note)
    with pytest.raises(UnknownSymbol):
        await vendor.fetch(symbol)
    assert seen == [expected | {"apikey": KEY}]


async def test_the_key_is_in_no_url_no_log_and_no_exception(
    vendor: RestProvider, httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    httpserver.expect_ordered_request("/query").respond_with_handler(answer)
    raw = (await vendor.fetch("IBM")).raw
    assert KEY not in raw.url
    assert raw.url.endswith("/query?function=GLOBAL_QUOTE&symbol=IBM")
    echo = json.dumps(
        {"Information": f"We have detected your API key as {KEY}: 25 requests per day"}
    )
    httpserver.expect_ordered_request("/query").respond_with_data(echo)
    broken = alpha_vantage(f"http://127.0.0.1:{unused_port()}")
    for failing in (vendor, broken):
        with pytest.raises(ProviderError) as raised:
            await failing.fetch("IBM")
        assert KEY not in "".join(traceback.format_exception(raised.value))
    await broken.aclose()
    # The vendor's end runs in this process too, and does log what it was asked.
    ours = [record for record in caplog.records if record.name != "werkzeug"]
    assert not any(KEY in record.getMessage() for record in ours)


async def test_a_redirect_is_not_followed(vendor: RestProvider, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/query").respond_with_data(
        status=302, headers={"Location": "/elsewhere"}
    )
    with pytest.raises(ProviderError, match="HTTP 302"):
        await vendor.fetch("IBM")
    assert len(httpserver.log) == 1


async def test_nobody_listens() -> None:
    provider = alpha_vantage(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(ProviderDown, match="cannot be reached"):
        await provider.fetch("IBM")
    await provider.aclose()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk, timeout_seconds: float = 5) -> AsyncIterator[RestProvider]:
    """A provider whose vendor is `talk`, called once a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = alpha_vantage(f"http://127.0.0.1:{port}", timeout_seconds)
        try:
            yield provider
        finally:
            await provider.aclose()


async def asked(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def always(reply: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(reply)
        await writer.drain()

    return talk


async def test_a_vendor_that_is_silent_or_stops_midway_times_out() -> None:
    for start in (b"", ANSWER[:40], ANSWER[:-1]):

        async def talk(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes = start
        ) -> None:
            await asked(reader)
            writer.write(start)
            await reader.read()

        async with talking(talk, timeout_seconds=0.2) as provider:
            with pytest.raises(ProviderTimedOut):
                await provider.fetch("IBM")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        ANSWER[:20],
        ANSWER[:-1],
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 * 1024 * 1024 + 1),
    ],
)
async def test_a_vendor_that_breaks_off_or_talks_nonsense_is_down(reply: bytes) -> None:
    async with talking(always(reply)) as provider:
        with pytest.raises(ProviderDown, match="no complete answer"):
            await provider.fetch("IBM")


@pytest.mark.parametrize(
    "reply",
    [
        ANSWER,
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ANSWER,
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + BODY,
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (BODY[:3], len(BODY) - 3, BODY[3:]),
    ],
)
async def test_each_way_to_end_a_body_is_understood(reply: bytes) -> None:
    async with talking(always(reply)) as provider:
        for _ in range(3):
            assert (await provider.fetch("IBM")).raw.body == BODY


async def test_a_connection_is_used_again_and_replaced_when_the_vendor_closed_it() -> None:
    connections, requests = 0, 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, requests
        connections += 1
        for _ in range(3):
            await asked(reader)
            requests += 1
            writer.write(ANSWER)
        await asked(reader)  # and closes without a word

    async with talking(talk) as provider:
        for _ in range(7):
            assert (await provider.fetch("IBM")).raw.body == BODY
    assert (connections, requests) == (3, 7)


async def test_bytes_behind_an_answer_never_become_the_next_one() -> None:
    async with talking(always(ANSWER + ANSWER.replace(b"112.1300", b"666.0000"))) as provider:
        for _ in range(3):
            assert (await provider.fetch("IBM")).raw.body == BODY


async def test_a_cancelled_call_leaves_no_answer_for_the_next() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await asked(reader):
            slow = b"symbol=SLOW" in request
            await asyncio.sleep(0.1 if slow else 0)
            writer.write(ANSWER.replace(b"IBM", b"SLO") if slow else ANSWER)

    async with talking(talk) as provider:
        await provider.fetch("IBM")
        call = asyncio.create_task(provider.fetch("SLOW"))
        await asyncio.sleep(0.03)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await provider.fetch("IBM")).raw.body == BODY
