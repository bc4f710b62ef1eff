"""An exchange by ccxt, asked at a local server: exact digits, ccxt's errors as ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from pricewire.domain.quote import Precision, price_text
from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderTimedOut,
    StartupError,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.ccxt import CcxtProvider
from tests.vendor_tools import now

pytest.importorskip("ccxt")

PAIRS = [{"name": "ABC/USD", "url_symbol": "abcusd", "base_decimals": 8, "counter_decimals": 2}]
MARKETS = [
    {
        "name": "ABC/USD",
        "description": "Abc / U.S. dollar",
        "market_symbol": "abcusd",
        "base_currency": "ABC",
        "counter_currency": "USD",
        "base_decimals": 8,
        "counter_decimals": 2,
        "minimum_order_value": "10",
        "trading": "Enabled",
        "market_type": "SPOT",
    }
]
TICKER = b'{"timestamp":"1710943329","last":42.12345678901234567890,"bid":"42.10","ask":"42.20"}'


def serve(httpserver: HTTPServer, body: bytes = TICKER, status: int = 200) -> None:
    for path, content in (("markets", MARKETS), ("trading-pairs-info", PAIRS), ("currencies", [])):
        httpserver.expect_request(re.compile(rf".*/{path}/")).respond_with_json(content)
    httpserver.expect_request(re.compile(r".*/ticker/abcusd/")).respond_with_data(
        body, status, content_type="application/json"
    )


@pytest.fixture
async def provider(httpserver: HTTPServer) -> AsyncIterator[CcxtProvider]:
    made = CcxtProvider("bitstamp", timeout_seconds=5, clock=now, origin=httpserver.url_for(""))
    yield made
    await made.aclose()


@pytest.mark.parametrize("symbol", ["ABC/USD", "ABC-USD", "abcusd"])
async def test_a_fetch_is_an_exact_quote_and_the_answer_it_came_from(
    provider: CcxtProvider, httpserver: HTTPServer, symbol: str
) -> None:
    serve(httpserver)
    fetched = await provider.fetch(symbol)
    [quote] = fetched.quotes
    assert provider.name == "ccxt:bitstamp"
    assert (quote.symbol, price_text(quote.price)) == (symbol, "42.12345678901234567890")
    assert quote.timestamp == datetime(2024, 3, 20, 14, 2, 9, tzinfo=UTC)
    assert quote.precision is Precision.MILLISECOND
    assert quote.currency == "USD"
    assert fetched.raw.body == TICKER
    assert fetched.raw.status == 200
    assert "/ticker/abcusd/" in fetched.raw.url
    assert fetched.raw.provider == "ccxt:bitstamp"


async def test_a_ticker_without_a_time_says_so(
    provider: CcxtProvider, httpserver: HTTPServer
) -> None:
    serve(httpserver, b'{"last": "1.50"}')
    fetched = await provider.fetch("ABC/USD")
    assert fetched.quotes[0].precision is Precision.NONE
    assert fetched.quotes[0].timestamp == fetched.raw.fetched_at


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"last": "0"}', 200, NotAPrice),
        (b'{"last": null}', 200, NotAPrice),
        (b"{}", 200, NotAPrice),
        (b"<html>", 200, ProviderError),
        (b'{"last": {}}', 200, NotAPrice),
        (b"[]", 200, ProviderError),
        (b"{}", 429, Throttled),
        (b"<html>Bad Gateway</html>", 502, ProviderDown),
    ],
)
async def test_what_is_no_price(
    provider: CcxtProvider, httpserver: HTTPServer, body: bytes, status: int, error: Any
) -> None:
    serve(httpserver, body, status)
    with pytest.raises(error):
        await provider.fetch("ABC/USD")


async def test_an_unknown_symbol_is_told_as_such(
    provider: CcxtProvider, httpserver: HTTPServer
) -> None:
    serve(httpserver)
    with pytest.raises(UnknownSymbol, match="NO/SUCH"):
        await provider.fetch("NO/SUCH")


async def test_nobody_listens_and_nobody_answers(httpserver: HTTPServer) -> None:
    gone = CcxtProvider("bitstamp", timeout_seconds=5, clock=now, origin="http://127.0.0.1:1")
    with pytest.raises((ProviderDown, ProviderTimedOut)):
        await gone.fetch("ABC/USD")
    await gone.aclose()


async def test_an_exchange_that_is_none_is_refused_at_start_up() -> None:
    with pytest.raises(StartupError, match="no exchange 'nosuch'"):
        CcxtProvider("nosuch", timeout_seconds=5, clock=now)
