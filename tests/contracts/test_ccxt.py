"""An exchange by ccxt, asked at a local server: exact digits, ccxt's errors as ours."""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
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
from tests.mutations import mutate
from tests.provider_bodies_stocks import Body
from tests.vendor_tools import now

pytest.importorskip("ccxt")

BODIES = int(os.environ.get("PRICEWIRE_TEST_MUTATIONS", "2000"))
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
        (b'{"last": ' + b"[" * 100_000, 200, ProviderError),
        (b'{"last": NaN}', 200, NotAPrice),
        (b'{"last": Infinity}', 200, NotAPrice),
        (b'{"last": -1}', 200, NotAPrice),
        (b'{"last": 1e400}', 200, NotAPrice),
        (b"\xff\xfe", 200, ProviderError),
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


class Session:
    """What ccxt asks over HTTP by: answers one body, without a network."""

    status, reason, headers = 200, "OK", {"Content-Type": "application/json"}
    content = None

    def __init__(self) -> None:
        self.body = b""

    @contextlib.asynccontextmanager
    async def get(self, *_: object, **__: object) -> AsyncIterator[Session]:
        yield self

    async def text(self, *, errors: str) -> str:
        return self.body.decode("utf-8", errors)

    async def close(self) -> None:
        pass


@pytest.mark.timeout(7200)
async def test_a_broken_body_is_a_price_that_its_bytes_support_or_a_typed_error(
    provider: CcxtProvider, httpserver: HTTPServer
) -> None:
    serve(httpserver)
    await provider.fetch("ABC/USD")
    await provider._client.close()
    provider._client.enableRateLimit = False
    session = provider._client.session = Session()
    case = Body(provider.name, "ticker", TICKER, 200, ("ABC/USD",), "")
    prices = 0
    for seed in range(BODIES):
        chance = random.Random(seed)
        session.body = mutate(case, chance)
        session.status = chance.choice((200, 200, 200, 403, 429, 500))
        refused: ProviderError | None = None
        try:
            fetched = await provider.fetch("ABC/USD")
        except ProviderError as error:
            refused = error
        if refused is not None:
            assert refused.detail.isprintable(), seed
            assert refused.raw is not None, seed
            continue
        [quote] = fetched.quotes
        assert quote.price.is_finite(), seed
        assert quote.price > 0, seed
        supported = {Decimal(one) for one in re.findall(r"[0-9]+(?:\.[0-9]+)?", str(session.body))}
        assert quote.price in supported | exponents(session.body), seed
        prices += 1
    assert prices > BODIES / 20


def exponents(body: bytes) -> set[Decimal]:
    """Return the numbers of a body that are written with an exponent or a bare point."""
    written = re.findall(rb"[0-9.]+[eE][+-]?[0-9]{1,4}|[0-9]+\.|\.[0-9]+", body)
    return {Decimal(one.decode()) for one in written if one.count(b".") < 2}


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
