"""Tiingo's requests and answers: null prices, New York offsets and throttles in plain text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.errors import InvalidParameter
from pricewire.providers.anatomy import Span
from pricewire.providers.tiingo import TIINGO
from tests.provider_bodies_stocks import Body
from tests.stock_mutations import bodies, check, echoing, mutate, seeds
from tests.stock_outcomes import NOW, SECRET, bar_line, outcome, parsed, refusal

PRICES = {
    "iex": ["acme 42.37 2024-06-24T14:28:55.5Z millisecond last IEX"],
    "iex_closed": ["ACME 42.33 2024-06-24T20:00:00Z second last IEX"],
    "iex_batch": [
        "ACME 42.37 2024-06-24T14:28:55.5Z millisecond last IEX",
        "BRK.B 42.33 2024-06-24T20:00:00Z second last IEX",
        "NOPE unknown_symbol",
    ],
    "iex_without_time": ["ACME 42.33 none last IEX"],
    "daily": ["ACME 43 2024-03-21T00:00:00Z day close raw"],
    "intraday": ["ACME 42.75 2024-03-20T14:00:00Z minute last"],
    "coins": ["BTC/USD 61000.83 2024-03-20T20:20:03.712Z microsecond last USD BINANCE"],
    "coin_days": ["BTC-USD 42.5 2024-03-20T00:00:00Z day close USD"],
    "currencies": ["EUR/USD 1.12855 2024-03-20T21:00:01.289Z microsecond mid USD"],
    "frame": ["ACME 42.475 2024-01-30T18:33:45.383129126Z nanosecond last IEX"],
    "frame_reference": ["ACME 42.48 2024-01-30T18:33:45.383129126Z nanosecond last IEX"],
    "frame_of_coins": ["BTC/USD 61000.8 2024-01-30T18:03:40.195515Z microsecond last USD bitfinex"],
    "frame_of_currencies": ["EUR/USD 1.0765 2024-01-30T18:03:40.195Z microsecond mid USD"],
}

REFUSALS = {
    "iex_of_another": ("not_a_price", None),
    "iex_without_price": ("not_a_price", None),
    "iex_unknown": ("unknown_symbol", None),
    "frame_heartbeat": ("not_a_price", None),
    "frame_refused": ("invalid_key", None),
    "unknown": ("unknown_symbol", None),
    "unknown_ticker": ("unknown_symbol", None),
    "not_found_page": ("not_a_price", None),
    "throttled_hour": ("rate_limited_hourly", 2380.0),
    "throttled_hour_text": ("rate_limited_hourly", 2380.0),
    "throttled_day": ("rate_limited_daily", 41980.0),
    "throttled_month_text": ("rate_limited_monthly", 2633980.0),
    "throttled_somehow": ("rate_limited", 2380.0),
    "invalid_key": ("invalid_key", None),
    "no_key": ("invalid_key", None),
    "premium": ("premium_required", None),
    "csv": ("not_a_price", None),
    "down": ("provider_down", 30),
}

BARS = {
    "daily": ["ACME 2024-03-20 41 43 40 42.5", "ACME 2024-03-21 41 43 40 43"],
    "intraday": ["ACME 2024-03-20T13:30Z 41 43 40 42.5", "ACME 2024-03-20T14:00Z 41 43 40 42.75"],
    "coin_days": ["BTC-USD 2024-03-20 41 43 40 42.5"],
}


@pytest.mark.parametrize("name", PRICES)
def test_what_is_a_price(name: str) -> None:
    assert outcome(TIINGO, name) == PRICES[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_none(name: str) -> None:
    assert refusal(TIINGO, name) == REFUSALS[name]


@pytest.mark.parametrize("name", BARS)
def test_what_is_a_bar(name: str) -> None:
    assert [bar_line(bar) for bar in parsed(TIINGO, name).bars] == BARS[name]


def test_the_last_trade_has_both_sides_beside_it() -> None:
    quote = parsed(TIINGO, "iex").quotes[0]
    assert (quote.bid, quote.ask, quote.size) == (Decimal("42.3"), Decimal("42.5"), Decimal(100))
    assert parsed(TIINGO, "iex_closed").quotes[0].bid is None


def test_nanoseconds_with_an_offset_of_new_york() -> None:
    quote = parsed(TIINGO, "frame").quotes[0]
    assert quote.timestamp.isoformat() == "2024-01-30T18:33:45.383129+00:00"
    assert quote.nanosecond == 126


@pytest.mark.parametrize(
    ("symbols", "path", "tickers"),
    [
        (("ACME", "BRK.B", "BRK-B"), "/iex/", "acme,brk-b"),
        (("BTC/USD", "ETH-USD"), "/tiingo/crypto/top", "btcusd,ethusd"),
        (("EURUSD=X",), "/tiingo/fx/top", "eurusd"),
        (("btcusd",), "/iex/", "btcusd"),
    ],
)
def test_what_is_asked_for(symbols: tuple[str, ...], path: str, tickers: str) -> None:
    request = TIINGO.request(symbols)
    assert (request.path, request.params) == (path, {"tickers": tickers})


def test_kinds_of_symbols_are_not_mixed() -> None:
    with pytest.raises(InvalidParameter):
        TIINGO.request(("ACME", "BTC/USD"))


@pytest.mark.parametrize(
    ("symbol", "interval", "path"),
    [
        ("BRK.B", "1d", "/tiingo/daily/brk-b/prices"),
        ("ACME", "5m", "/iex/acme/prices"),
        ("BTC/USD", "1d", "/tiingo/crypto/prices"),
        ("EUR/USD", "1h", "/tiingo/fx/eurusd/prices"),
    ],
)
def test_where_history_is(symbol: str, interval: str, path: str) -> None:
    assert TIINGO.history is not None
    request = TIINGO.history(Span(symbol=symbol, interval=interval, start=NOW, end=NOW))
    assert request.path == path
    assert request.params["startDate"] == "2026-07-01"


def test_the_key_goes_into_a_header_alone() -> None:
    credentials = TIINGO.sign({"api_key": SECRET})
    assert (credentials.headers, credentials.params) == ({"Authorization": f"Token {SECRET}"}, {})


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("iex/?tickers=acme,googl", ("ACME", "GOOGL")),
        ("iex/ACME", ("ACME",)),
        ("iex/ACME/prices?resampleFreq=5min", ("ACME",)),
        ("tiingo/daily/brk-b/prices", ("BRK-B",)),
        ("tiingo/crypto/top?tickers=btcusd", ("BTCUSD",)),
        ("tiingo/fx/eurusd/prices", ("EURUSD",)),
        ("tiingo/fx/top?tickers=eurusd", ("EURUSD",)),
        ("api/test", ()),
    ],
)
def test_the_symbols_of_a_url(path: str, asked: tuple[str, ...]) -> None:
    assert TIINGO.asked(f"https://api.tiingo.com/{path}") == asked


@pytest.mark.parametrize("case", bodies(TIINGO), ids=lambda case: case.name)
def test_no_error_repeats_the_key(case: Body) -> None:
    check(TIINGO, case, echoing(case), case.status)


@given(seeds(TIINGO), st.data())
def test_a_broken_body_is_a_price_that_it_holds_or_a_typed_error(
    case: Body, data: st.DataObject
) -> None:
    status = data.draw(st.just(case.status) | st.sampled_from([200, 301, 404, 429, 500]))
    check(TIINGO, case, mutate(case, data), status)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_typed_error(content: bytes, status: int) -> None:
    check(TIINGO, seed, content, status)


seed = Body("tiingo", "any", b"", 200, ("ACME",), "")
