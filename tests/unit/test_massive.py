"""Massive's requests and answers: nanoseconds and milliseconds each in their place."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.providers.anatomy import Span
from pricewire.providers.massive import MASSIVE
from tests.provider_bodies_stocks import Body
from tests.stock_mutations import bodies, check, echoing, mutate, seeds
from tests.stock_outcomes import NOW, SECRET, bar_line, outcome, parsed, refusal

PRICES = {
    "trade": ["ACME 42.25 2022-04-28T20:55:19.310617301Z nanosecond last"],
    "nbbo": ["ACME 42.655 2022-05-10T14:25:54.1718385Z nanosecond mid"],
    "prev": ["ACME 42.6 2024-03-20T20:00:00Z millisecond close adjusted"],
    "prev_delayed": ["ACME 42.6 2024-03-20T00:00:00Z day close raw"],
    "days": ["ACME 42.75 2024-03-21T00:00:00Z day close adjusted"],
    "minutes": ["BTC/USD 42.6 2024-03-20T13:30:00Z minute last USD"],
    "grouped": ["ACME 42.6 2024-03-20T20:00:00Z millisecond close adjusted"],
    "open_close": ["ACME 42.5 2024-03-20T00:00:00Z day close"],
    "snapshot": ["ACME 42.61 2024-03-20T14:02:09.722539521Z nanosecond last"],
    "snapshot_without_trades": ["ACME 42.55 2024-03-20T14:01:00Z minute delayed"],
    "snapshots": [
        "ACME 42.61 2024-03-20T14:02:09.722539521Z nanosecond last",
        "BRK-B 42.61 2024-03-20T14:02:09.722539521Z nanosecond last",
    ],
    "snapshot_of_a_pair": ["BTC-USD 61000.5 2024-03-20T14:02:09.722Z millisecond last USD"],
    "snapshot_of_currencies": ["EUR/USD 1.0861 2024-03-20T14:02:09.722Z millisecond mid USD"],
    "unified": [
        "ACME 42.5 2024-03-20T14:02:09.722539521Z nanosecond delayed",
        "^GSPC 5224.62 2024-03-20T14:02:09.722539521Z nanosecond last",
        "NOPE unknown_symbol",
        "GOLD premium_required",
    ],
    "trades": ["ACME 42.5 2022-04-28T21:37:02.461979401Z nanosecond last"],
    "quotes": ["ACME 42.65 2022-04-28T21:37:02.4619794Z nanosecond mid"],
    "last_of_a_pair": ["BTC/USD 61000.12 2024-03-20T14:02:09.722Z millisecond last USD"],
    "last_of_currencies": ["EURUSD=X 1.0861 2024-03-20T14:02:09Z millisecond mid USD"],
    "frame": ["ACME 42.87 2024-03-20T14:02:09.722Z millisecond last"],
    "frame_of_a_pair": ["BTC/USD 61000.25 2024-03-20T14:02:09.722Z millisecond last USD"],
    "frame_of_currencies": ["EUR/USD 1.0861 2024-03-20T14:02:09.722Z millisecond mid USD"],
}

REFUSALS = {
    "trade_of_another": ("not_a_price", None),
    "trade_in_ms": ("not_a_price", None),
    "no_results": ("unknown_symbol", None),
    "snapshot_cleared": ("not_a_price", None),
    "frame_connected": ("not_a_price", None),
    "frame_refused": ("invalid_key", None),
    "invalid_key": ("invalid_key", None),
    "invalid_key_message": ("invalid_key", None),
    "premium": ("premium_required", None),
    "unknown": ("unknown_symbol", None),
    "throttled": ("rate_limited_minute", 60),
    "throttled_empty": ("rate_limited", 60),
    "no_route": ("not_a_price", None),
}

BARS = {
    "prev": ["ACME 2024-03-20T20:00Z 41.5 43 41 42.6"],
    "prev_delayed": ["ACME 2024-03-20 41.5 43 41 42.6"],
    "days": ["ACME 2024-03-20 41.5 43 41 42.6", "ACME 2024-03-21 41.5 43 41 42.75"],
    "minutes": ["BTC/USD 2024-03-20T13:30Z 41.5 43 41 42.6"],
    "grouped": ["ACME 2024-03-20T20:00Z 41.5 43 41 42.6"],
    "open_close": ["ACME 2024-03-20 41 43 40 42.5"],
    "frame": ["ACME 2024-03-20T14:01Z 42 43 41 42.5"],
}


@pytest.mark.parametrize("name", PRICES)
def test_what_is_a_price(name: str) -> None:
    assert outcome(MASSIVE, name) == PRICES[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_none(name: str) -> None:
    assert refusal(MASSIVE, name) == REFUSALS[name]


@pytest.mark.parametrize("name", BARS)
def test_what_is_a_bar(name: str) -> None:
    assert [bar_line(bar) for bar in parsed(MASSIVE, name).bars] == BARS[name]


def test_nineteen_digits_do_not_pass_through_a_float() -> None:
    quote = parsed(MASSIVE, "trade").quotes[0]
    assert (quote.timestamp.microsecond, quote.nanosecond) == (310617, 301)
    assert (quote.size, quote.trade_id) == (Decimal(2), "237")


def test_a_volume_may_have_an_exponent() -> None:
    assert parsed(MASSIVE, "prev").bars[0].volume == 112117471


def test_a_delayed_plan_is_told() -> None:
    assert not parsed(MASSIVE, "prev").quotes[0].delayed
    assert parsed(MASSIVE, "prev_delayed").quotes[0].delayed
    assert [quote.delayed for quote in parsed(MASSIVE, "unified").quotes] == [True, False]


def test_upper_case_is_the_ask() -> None:
    quote = parsed(MASSIVE, "nbbo").quotes[0]
    assert (quote.bid, quote.ask) == (Decimal("42.65"), Decimal("42.66"))


def test_bars_within_a_day_are_no_days_even_at_midnight() -> None:
    url = "https://api.massive.com/v2/aggs/ticker/ACME/range/5/minute/1/2"
    bar = parsed(MASSIVE, "days", url=url).bars[0]
    assert bar_line(bar) == "ACME 2024-03-20T04:00Z 41.5 43 41 42.6"
    assert bar.interval == "5minute"


@pytest.mark.parametrize(
    ("symbol", "own"),
    [
        ("ACME", "ACME"),
        ("BACpE", "BACpE"),
        ("BRK-B", "BRK.B"),
        ("^GSPC", "I%3ASPX"),
        ("I:SPX", "I%3ASPX"),
        ("BTC-USD", "X%3ABTCUSD"),
        ("X:BTCUSD", "X%3ABTCUSD"),
        ("EUR/USD", "C%3AEURUSD"),
        ("EURUSD=X", "C%3AEURUSD"),
    ],
)
def test_symbols_in_the_form_of_the_vendor(symbol: str, own: str) -> None:
    assert MASSIVE.request((symbol,)).path == f"/v2/aggs/ticker/{own}/prev"


def test_history_is_asked_for_in_milliseconds() -> None:
    assert MASSIVE.history is not None
    request = MASSIVE.history(Span(symbol="ACME", interval="1d", start=NOW, end=NOW))
    assert request.path == "/v2/aggs/ticker/ACME/range/1/day/1782922820000/1782922820000"
    assert request.params["adjusted"] == "false"


def test_the_key_goes_into_a_header_alone() -> None:
    credentials = MASSIVE.sign({"api_key": SECRET})
    assert credentials.headers == {"Authorization": f"Bearer {SECRET}"}
    assert credentials.params == {}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("v2/last/trade/ACME", ("ACME",)),
        ("v2/aggs/ticker/X%3ABTCUSD/prev", ("X:BTCUSD",)),
        ("v2/snapshot/locale/us/markets/stocks/tickers/ACME", ("ACME",)),
        ("v2/snapshot/locale/us/markets/stocks/tickers?tickers=ACME,BRK.B", ("ACME", "BRK.B")),
        ("v3/snapshot?ticker.any_of=ACME,I:SPX", ("ACME", "I:SPX")),
        ("v3/trades/ACME?limit=2", ("ACME",)),
        ("v1/open-close/ACME/2024-03-20", ("ACME",)),
        ("v1/last/crypto/BTC/USD", ("X:BTCUSD",)),
        ("v1/last_quote/currencies/EUR/USD", ("C:EURUSD",)),
        ("v3/reference/exchanges", ()),
    ],
)
def test_the_symbols_of_a_url(path: str, asked: tuple[str, ...]) -> None:
    assert MASSIVE.asked(f"https://api.massive.com/{path}") == asked


@pytest.mark.parametrize("case", bodies(MASSIVE), ids=lambda case: case.name)
def test_no_error_repeats_the_key(case: Body) -> None:
    check(MASSIVE, case, echoing(case), case.status)


@given(seeds(MASSIVE), st.data())
def test_a_broken_body_is_a_price_that_it_holds_or_a_typed_error(
    case: Body, data: st.DataObject
) -> None:
    status = data.draw(st.just(case.status) | st.sampled_from([200, 301, 404, 429, 500]))
    check(MASSIVE, case, mutate(case, data), status)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_typed_error(content: bytes, status: int) -> None:
    check(MASSIVE, seed, content, status)


seed = Body("massive", "any", b"", 200, ("ACME",), "")
