"""Alpaca's requests and answers: what is left out is unknown, and nanoseconds stay."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.errors import InvalidParameter
from pricewire.providers.alpaca import ALPACA
from pricewire.providers.anatomy import Span
from tests.provider_bodies_stocks import Body
from tests.stock_mutations import bodies, check, echoing, mutate, seeds
from tests.stock_outcomes import NOW, SECRET, bar_line, outcome, parsed, refusal

PRICES = {
    "trade": ["ACME 42.1298 2024-03-20T14:02:09.722539521Z nanosecond last V"],
    "trades": [
        "ACME 42.1298 2024-03-20T14:02:09.722539521Z nanosecond last V",
        "BRK-B 410 2024-03-20T14:02:09.722539521Z nanosecond last V",
        "NOPE unknown_symbol",
    ],
    "trade_alone": ["ACME 42.1298 2024-03-20T14:02:09.722539521Z nanosecond last V"],
    "trades_of_a_day": [
        "ACME 42.1298 2024-03-20T14:02:09.722539521Z nanosecond last V",
        "ACME 42.25 2024-03-20T14:02:10.183Z millisecond last V",
    ],
    "pair": ["BTC-USD 61000 2024-03-20T14:03:31.960672Z microsecond last USD"],
    "quotes": ["ACME 42.105 2024-03-20T14:02:43.651613184Z nanosecond mid"],
    "days": ["ACME 43 2024-03-21T00:00:00Z day close"],
    "minute": ["ACME 42.5 2024-03-20T14:02:00Z minute last"],
    "snapshots": [
        "ACME 42.1298 2024-03-20T14:02:09.722539521Z nanosecond last V",
        "NOPE unknown_symbol",
    ],
    "snapshots_of_pairs": ["BTC/USD 61000.5 2024-03-20T14:03:31.18Z millisecond last USD"],
    "frame": ["ACME 42.55 2024-03-20T14:03:31.180926Z microsecond last D"],
}

REFUSALS = {
    "trade_of_another": ("not_a_price", None),
    "quotes_crossed": ("not_a_price", None),
    "quotes_one_sided": ("not_a_price", None),
    "frame_connected": ("not_a_price", None),
    "frame_refused": ("invalid_key", None),
    "frame_full": ("rate_limited", 10),
    "unknown": ("unknown_symbol", None),
    "unknown_bars": ("unknown_symbol", None),
    "invalid_symbol": ("unknown_symbol", None),
    "invalid_key": ("invalid_key", None),
    "invalid_key_401": ("invalid_key", None),
    "premium": ("premium_required", None),
    "throttled": ("rate_limited", 60),
    "bad_request": ("not_a_price", None),
    "down": ("provider_down", 30),
}

BARS = {
    "days": ["ACME 2024-03-20 41 43.5 40.25 42.5", "ACME 2024-03-21 41 43.5 40.25 43"],
    "minute": ["ACME 2024-03-20T14:02Z 41 43.5 40.25 42.5"],
}


@pytest.mark.parametrize("name", PRICES)
def test_what_is_a_price(name: str) -> None:
    assert outcome(ALPACA, name) == PRICES[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_none(name: str) -> None:
    assert refusal(ALPACA, name) == REFUSALS[name]


@pytest.mark.parametrize("name", BARS)
def test_what_is_a_bar(name: str) -> None:
    assert [bar_line(bar) for bar in parsed(ALPACA, name).bars] == BARS[name]


def test_the_wait_is_the_one_that_the_headers_tell() -> None:
    reset = f"{NOW.timestamp() + 17:.0f}"
    assert refusal(ALPACA, "throttled", headers={"x-ratelimit-reset": reset})[1] == 17


def test_the_delayed_feed_is_told() -> None:
    origin = "https://data.alpaca.markets/v2/stocks/trades/latest?symbols=ACME&feed="
    assert parsed(ALPACA, "trade", url=origin + "delayed_sip").quotes[0].delayed
    assert not parsed(ALPACA, "trade", url=origin + "iex").quotes[0].delayed


def test_a_trade_has_its_size_and_number() -> None:
    quote = parsed(ALPACA, "trade").quotes[0]
    assert (quote.size, quote.trade_id) == (Decimal(100), "22730")


def test_the_feed_is_the_one_that_is_free() -> None:
    request = ALPACA.request(("ACME", "BRK-B", "BRK.B"))
    assert request.path == "/v2/stocks/trades/latest"
    assert request.params == {"symbols": "ACME,BRK.B", "feed": "iex"}


def test_pairs_are_asked_for_elsewhere_and_by_themselves() -> None:
    request = ALPACA.request(("BTC-USD", "ETH/USD"))
    assert request.path == "/v1beta3/crypto/us/latest/trades"
    assert request.params == {"symbols": "BTC/USD,ETH/USD"}
    with pytest.raises(InvalidParameter):
        ALPACA.request(("BTC-USD", "ACME"))


def test_history_is_asked_for_as_traded() -> None:
    assert ALPACA.history is not None
    request = ALPACA.history(Span(symbol="ACME", interval="1d", start=NOW, end=NOW))
    assert request.path == "/v2/stocks/bars"
    assert request.params["timeframe"] == "1Day"
    assert request.params["start"] == "2026-07-01T16:20:20Z"
    assert (request.params["feed"], request.params["adjustment"]) == ("iex", "raw")


def test_both_keys_go_into_headers_alone() -> None:
    credentials = ALPACA.sign({"api_key_id": "one", "api_secret_key": SECRET})
    assert credentials.headers == {"APCA-API-KEY-ID": "one", "APCA-API-SECRET-KEY": SECRET}
    assert credentials.params == {}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("v2/stocks/trades/latest?symbols=ACME,TSLA&feed=iex", ("ACME", "TSLA")),
        ("v1beta3/crypto/us/latest/trades?symbols=BTC%2FUSD", ("BTC/USD",)),
        ("v2/stocks/ACME/trades/latest", ("ACME",)),
        ("v2/stocks/trades/latest", ()),
    ],
)
def test_the_symbols_of_a_url(path: str, asked: tuple[str, ...]) -> None:
    assert ALPACA.asked(f"https://data.alpaca.markets/{path}") == asked


@pytest.mark.parametrize("case", bodies(ALPACA), ids=lambda case: case.name)
def test_no_error_repeats_the_key(case: Body) -> None:
    check(ALPACA, case, echoing(case), case.status)


@given(seeds(ALPACA), st.data())
def test_a_broken_body_is_a_price_that_it_holds_or_a_typed_error(
    case: Body, data: st.DataObject
) -> None:
    status = data.draw(st.just(case.status) | st.sampled_from([200, 301, 404, 429, 500]))
    check(ALPACA, case, mutate(case, data), status)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_typed_error(content: bytes, status: int) -> None:
    check(ALPACA, seed, content, status)


seed = Body("alpaca", "any", b"", 200, ("ACME",), "")
