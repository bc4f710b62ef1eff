"""Twelve Data's requests and answers: errors inside a 200, and times no finer than they are."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.errors import NotAPrice
from pricewire.providers.anatomy import Answer, Span, read
from pricewire.providers.twelve_data import TWELVE_DATA
from tests.provider_bodies_stocks import Body, body
from tests.stock_mutations import bodies, check, echoing, mutate, seeds
from tests.stock_outcomes import NOW, SECRET, bar_line, outcome, parsed, refusal

PRICES = {
    "price": ["ACME 20.86750 none last"],
    "quote": ["ACME 42.42000 2024-03-20T19:59:00Z minute last USD NASDAQ"],
    "quote_closed": ["ACME 42.42000 2024-03-20T00:00:00Z day close USD NASDAQ"],
    "quote_of_a_minute": ["ACME 42.42000 2024-03-20T13:30:00Z minute last USD NASDAQ"],
    "quote_on_an_exchange": ["ACME:XETR 42.42000 2024-03-20T19:59:00Z minute last EUR XETR"],
    "rate": ["EUR-USD 1.16844 2024-03-20T13:30:00Z second last USD"],
    "eod": ["ACME 42.42000 2024-03-20T00:00:00Z day close USD CBOE"],
    "series": ["ACME 2.40 2024-07-10T19:59:00Z minute last USD"],
    "daily": ["ACME 2.50 2024-07-10T00:00:00Z day close USD"],
    "feed": ["ACME 42.25 2024-03-20T13:30:00Z second last USD NASDAQ"],
    "batch": [
        "ACME 42.42000 2024-03-20T19:59:00Z minute last USD NASDAQ",
        "BRK-B 42.42000 2024-03-20T19:59:00Z minute last USD NASDAQ",
        "NOPE unknown_symbol",
        "GOLD premium_required",
        "SWAP not_a_price",
    ],
    "batch_prices": ["ACME 42.50 none last", "BTC-USD 61000.10 none last USD"],
}

REFUSALS = {
    "quote_of_another": ("not_a_price", None),
    "feed_status": ("not_a_price", None),
    "throttled_minute": ("rate_limited_minute", 40.0),
    "throttled_minute_429": ("rate_limited_minute", 40.0),
    "throttled_day": ("rate_limited_daily", 27580.0),
    "throttled": ("rate_limited", 40.0),
    "unknown": ("unknown_symbol", None),
    "unknown_400": ("unknown_symbol", None),
    "unknown_404": ("unknown_symbol", None),
    "invalid_key": ("invalid_key", None),
    "premium": ("premium_required", None),
    "premium_symbol": ("premium_required", None),
    "too_long": ("not_a_price", None),
    "no_dates": ("not_a_price", None),
    "down": ("provider_down", 30),
    "html": ("provider_down", 30),
}

BARS = {
    "series": [
        "ACME 2024-07-10T19:59Z 2.0 2.5 1.9 2.40",
        "ACME 2024-07-10T19:58Z 1.9 2.1 1.8 2.00",
    ],
    "daily": ["ACME 2024-07-10 2 3 1 2.50"],
}


@pytest.mark.parametrize("name", PRICES)
def test_what_is_a_price(name: str) -> None:
    assert outcome(TWELVE_DATA, name) == PRICES[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_none(name: str) -> None:
    assert refusal(TWELVE_DATA, name) == REFUSALS[name]


@pytest.mark.parametrize("name", BARS)
def test_what_is_a_bar(name: str) -> None:
    assert [bar_line(bar) for bar in parsed(TWELVE_DATA, name).bars] == BARS[name]


def test_a_series_that_was_asked_for_in_utc_is_in_utc() -> None:
    bars = parsed(TWELVE_DATA, "series", url="https://x/time_series?timezone=UTC").bars
    assert bar_line(bars[0]) == "ACME 2024-07-10T15:59Z 2.0 2.5 1.9 2.40"
    assert (bars[0].volume, bars[0].interval, bars[0].currency) == (Decimal(7), "1min", "USD")


def test_an_answer_for_another_exchange_is_refused() -> None:
    case = body("twelve_data", "quote_on_an_exchange")
    answer = Answer(body=case.body, status=200, fetched_at=NOW, symbols=("ACME:XLON",))
    with pytest.raises(NotAPrice, match="was asked for ACME:XLON and answered ACME"):
        read(TWELVE_DATA, answer)


@pytest.mark.parametrize(
    ("symbol", "own"),
    [
        ("ACME", "ACME"),
        ("BRK-B", "BRK.B"),
        ("^GSPC", "SPX"),
        ("I:SPX", "SPX"),
        ("BTC-USD", "BTC/USD"),
        ("EURUSD=X", "EUR/USD"),
        ("VOW3:XETR", "VOW3:XETR"),
    ],
)
def test_symbols_in_the_form_of_the_vendor(symbol: str, own: str) -> None:
    request = TWELVE_DATA.request((symbol, "MSFT", "MSFT"))
    assert (request.path, request.params) == ("/quote", {"symbol": f"{own},MSFT"})


def test_a_batch_fits_into_the_credits_of_a_minute() -> None:
    assert TWELVE_DATA.batch == 8


def test_history_is_asked_for_in_utc() -> None:
    assert TWELVE_DATA.history is not None
    request = TWELVE_DATA.history(Span(symbol="ACME", interval="1m", start=NOW, end=NOW))
    assert request.path == "/time_series"
    assert request.params["interval"] == "1min"
    assert request.params["start_date"] == "2026-07-01 16:20:20"
    assert request.params["timezone"] == "UTC"


def test_the_key_goes_into_a_header_alone() -> None:
    credentials = TWELVE_DATA.sign({"api_key": SECRET})
    assert credentials.headers == {"Authorization": f"apikey {SECRET}"}
    assert credentials.params == {}


def test_the_symbols_of_a_url() -> None:
    asked = TWELVE_DATA.asked("https://api.twelvedata.com/quote?symbol=EUR%2FUSD,ACME")
    assert asked == ("EUR/USD", "ACME")


@pytest.mark.parametrize("case", bodies(TWELVE_DATA), ids=lambda case: case.name)
def test_no_error_repeats_the_key(case: Body) -> None:
    check(TWELVE_DATA, case, echoing(case), case.status)


@given(seeds(TWELVE_DATA), st.data())
def test_a_broken_body_is_a_price_that_it_holds_or_a_typed_error(
    case: Body, data: st.DataObject
) -> None:
    status = data.draw(st.just(case.status) | st.sampled_from([200, 301, 404, 429, 500]))
    check(TWELVE_DATA, case, mutate(case, data), status)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_typed_error(content: bytes, status: int) -> None:
    check(TWELVE_DATA, seed, content, status)


seed = Body("twelve_data", "any", b"", 200, ("ACME",), "")
