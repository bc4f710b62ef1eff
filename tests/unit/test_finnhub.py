"""Finnhub's requests and answers: zeros are no price, and a 429 without a key is no throttle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.providers.anatomy import Span
from pricewire.providers.finnhub import FINNHUB
from tests.provider_bodies_stocks import Body
from tests.stock_mutations import bodies, check, echoing, mutate, seeds
from tests.stock_outcomes import NOW, SECRET, bar_line, outcome, parsed, refusal

PRICES = {
    "quote": ["ACME 42.5 2024-03-20T20:00:00Z second last"],
    "trades": [
        "ACME 42.7 2024-03-20T14:02:09.722Z millisecond last",
        "ACME 42.71 2024-03-20T14:02:09.724Z millisecond last",
    ],
    "candles": ["ACME 43.25 2024-03-21T00:00:00Z day close"],
}

REFUSALS = {
    "unknown": ("unknown_symbol", None),
    "no_time": ("not_a_price", None),
    "ping": ("not_a_price", None),
    "feed_error": ("unknown_symbol", None),
    "no_candles": ("unknown_symbol", None),
    "premium": ("premium_required", None),
    "premium_401": ("premium_required", None),
    "invalid_key": ("invalid_key", None),
    "throttled": ("rate_limited", 60),
    "no_key": ("invalid_key", None),
    "no_key_text": ("invalid_key", None),
    "html": ("provider_down", 30),
}

BARS = {
    "candles": ["ACME 2024-03-20 41 43 40 42.5", "ACME 2024-03-21 42 44 41 43.25"],
}


@pytest.mark.parametrize("name", PRICES)
def test_what_is_a_price(name: str) -> None:
    assert outcome(FINNHUB, name) == PRICES[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_none(name: str) -> None:
    assert refusal(FINNHUB, name) == REFUSALS[name]


@pytest.mark.parametrize("name", BARS)
def test_what_is_a_bar(name: str) -> None:
    assert [bar_line(bar) for bar in parsed(FINNHUB, name).bars] == BARS[name]


def test_the_wait_is_the_one_that_the_headers_tell() -> None:
    reset = f"{NOW.timestamp() + 17:.0f}"
    for headers, wait in (({"x-ratelimit-reset": reset}, 17), ({"retry-after": "5"}, 5)):
        assert refusal(FINNHUB, "throttled", headers=headers) == ("rate_limited", wait)


def test_candles_of_minutes_are_no_days_even_at_midnight() -> None:
    url = "https://finnhub.io/api/v1/crypto/candle?symbol=X&resolution=5"
    bars = parsed(FINNHUB, "candles", url=url).bars
    assert bar_line(bars[0]) == "ACME 2024-03-20T00:00Z 41 43 40 42.5"
    assert bars[0].interval == "5"


def test_a_trade_has_its_size() -> None:
    assert [quote.size for quote in parsed(FINNHUB, "trades").quotes] == [10, 3]


@pytest.mark.parametrize(
    ("symbol", "own"),
    [
        ("ACME", "ACME"),
        ("BRK-B", "BRK.B"),
        ("BRK.B", "BRK.B"),
        ("^GSPC", "^GSPC"),
        ("BTC/USDT", "BINANCE:BTCUSDT"),
        ("BTC-USD", "COINBASE:BTC-USD"),
        ("BINANCE:BTCUSDT", "BINANCE:BTCUSDT"),
        ("EUR/USD", "OANDA:EUR_USD"),
        ("EURUSD=X", "OANDA:EUR_USD"),
    ],
)
def test_symbols_in_the_form_of_the_vendor(symbol: str, own: str) -> None:
    request = FINNHUB.request((symbol,))
    assert (request.path, request.params) == ("/api/v1/quote", {"symbol": own})


def test_history_is_asked_for_in_seconds() -> None:
    assert FINNHUB.history is not None
    request = FINNHUB.history(Span(symbol="BTC/USD", interval="1h", start=NOW, end=NOW))
    assert request.path == "/api/v1/crypto/candle"
    assert request.params == {
        "symbol": "COINBASE:BTC-USD",
        "resolution": "60",
        "from": "1782922820",
        "to": "1782922820",
    }


def test_the_key_goes_into_a_header_alone() -> None:
    credentials = FINNHUB.sign({"api_key": SECRET})
    assert (credentials.headers, credentials.params) == ({"X-Finnhub-Token": SECRET}, {})


def test_the_symbol_of_a_url() -> None:
    assert FINNHUB.asked("https://finnhub.io/api/v1/quote?symbol=ACME") == ("ACME",)
    assert FINNHUB.asked("wss://ws.finnhub.io") == ()


@pytest.mark.parametrize("case", bodies(FINNHUB), ids=lambda case: case.name)
def test_no_error_repeats_the_key(case: Body) -> None:
    check(FINNHUB, case, echoing(case), case.status)


@given(seeds(FINNHUB), st.data())
def test_a_broken_body_is_a_price_that_it_holds_or_a_typed_error(
    case: Body, data: st.DataObject
) -> None:
    status = data.draw(st.just(case.status) | st.sampled_from([200, 301, 404, 429, 500]))
    check(FINNHUB, case, mutate(case, data), status)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_typed_error(content: bytes, status: int) -> None:
    check(FINNHUB, seed, content, status)


seed = Body("finnhub", "any", b"", 200, ("ACME",), "")
