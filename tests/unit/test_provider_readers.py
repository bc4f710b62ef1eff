"""The readers that all parsers share: digits, instants, zones, URLs, waits, symbols."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.quote import Bar, Precision, PriceKind, price_text
from pricewire.errors import NotAPrice, ProviderRefused, UnknownSymbol
from pricewire.providers import readers, refusals, symbols
from pricewire.providers.anatomy import Answer, masked
from pricewire.providers.binance import own_symbol as binance
from pricewire.providers.coinbase import own_symbol as coinbase
from pricewire.providers.found import Found
from pricewire.providers.kraken import altname as kraken
from pricewire.providers.yahoo import own_symbol as yahoo
from tests.builders import MARKET_TIME, make_quote

NOW = datetime(2026, 7, 1, 16, 20, 20, tzinfo=UTC)


def answer(**given: object) -> Answer:
    known: dict[str, object] = {"body": b"", "status": 200, "fetched_at": NOW}
    return Answer(**known | given)  # type: ignore[arg-type]


@given(st.from_regex(r"[1-9][0-9]{0,17}(\.[0-9]{1,20})?", fullmatch=True))
def test_digits_come_through_in_a_number_and_in_a_string(digits: str) -> None:
    body = f'{{"a": {digits}, "b": "{digits}"}}'.encode()
    content = readers.members(readers.read_json(body))
    for name in "ab":
        value = readers.number(content[name])
        assert value is not None
        assert price_text(value) == digits


@pytest.mark.parametrize(
    "value",
    [
        "",
        " 1",
        "1 ",
        "1_0",
        "٣",
        "0x1",
        "NaN",
        "Infinity",
        "1e9999",
        "--1",
        "1,5",
        None,
        True,
        [],
        {},
    ],
)
def test_what_is_no_number(value: object) -> None:
    assert readers.number(value) is None


@pytest.mark.parametrize("body", [b"", b"NaN", b"[1,", b"\xff", b"[" * 100_000, b"Infinity"])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(readers.NotJson):
        readers.read_json(body)


@pytest.mark.parametrize(
    ("value", "unit", "moment", "nanosecond"),
    [
        (1651179319310617301, "nanosecond", "2022-04-28T20:55:19.310617", 301),
        (1651179319310617, "microsecond", "2022-04-28T20:55:19.310617", 0),
        (1651179319310, "millisecond", "2022-04-28T20:55:19.310", 0),
        (1651179319, "second", "2022-04-28T20:55:19", 0),
        (345479400, "second", "1980-12-12T14:30:00", 0),
    ],
)
def test_an_epoch_is_counted_in_its_unit(
    value: int, unit: str, moment: str, nanosecond: int
) -> None:
    stamp = readers.epoch(value, Precision(unit))
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert stamp == (expected, Precision(unit), nanosecond)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (0, "second"),
        (-1, "second"),
        (True, "second"),
        ("1651179319", "second"),
        (10**30, "nanosecond"),
        (1651179319310, "second"),
        (1651179319, "millisecond"),
        (1651179319, "nanosecond"),
    ],
)
def test_zero_and_another_unit_are_no_time(value: object, unit: str) -> None:
    assert readers.epoch(value, Precision(unit)) is None


@pytest.mark.parametrize(
    ("text", "moment", "precision", "nanosecond"),
    [
        ("2022-03-18T14:02:09.722539521Z", "14:02:09.722539", "nanosecond", 521),
        ("2022-03-18T10:02:09.722539521-04:00", "14:02:09.722539", "nanosecond", 521),
        ("2022-03-18T14:02:09.722539Z", "14:02:09.722539", "microsecond", 0),
        ("2022-03-18T14:02:09.7Z", "14:02:09.7", "millisecond", 0),
        ("2022-03-18T14:02:09+00:00", "14:02:09", "second", 0),
    ],
)
def test_an_instant_in_text_keeps_its_digits(
    text: str, moment: str, precision: str, nanosecond: int
) -> None:
    stamp = readers.rfc3339(text)
    expected = datetime.fromisoformat(f"2022-03-18T{moment}").replace(tzinfo=UTC)
    assert stamp == (expected, Precision(precision), nanosecond)


@pytest.mark.parametrize(
    "text",
    ["2022-03-18T14:02:09", "2022-13-18T14:02:09Z", "2022-03-18", "0001-01-01T00:00:00+23:00", 7],
)
def test_what_is_no_instant(text: object) -> None:
    assert readers.rfc3339(text) is None


def test_seconds_with_a_fraction_keep_their_digits() -> None:
    stamp = readers.epoch_seconds(Decimal("1710943335.9822779"))
    assert stamp is not None
    assert (stamp.moment.microsecond, stamp.nanosecond) == (982277, 900)
    for value in (Decimal("1e30"), Decimal("0.5"), "x", None, Decimal("1710943335.9822779000")):
        assert readers.epoch_seconds(value) is None


@pytest.mark.parametrize("zone", ["Nowhere/Land", "", "../UTC", "America"])
def test_a_zone_that_is_none_gives_no_time(zone: str) -> None:
    assert readers.local_time("2024-03-20 10:00:00", zone) is None


def test_parts_of_a_url() -> None:
    url = "https://vendor.test/v2/last/trade/BRK%2FB?symbol=A%26B&x=%5EG"
    assert readers.after(url, "last", "trade") == "BRK/B"
    assert readers.parameter(url, "symbol") == "A&B"
    for broken in ("http://[", "", "x"):
        assert readers.after(broken, "last") == ""
        assert readers.parameter(broken, "symbol") == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 5)}, 5),
        ({"x-ratelimit-reset": "1"}, 1),
        ({"retry-after": "-5"}, 60),
        ({"retry-after": "soon"}, 60),
        ({"retry-after": "9" * 12}, 31 * 86_400),
    ],
)
def test_a_wait_is_the_headers_within_reason(headers: dict[str, str], seconds: float) -> None:
    assert refusals.wait(answer(headers=headers), 60) == seconds


def test_a_status_tells_what_the_words_do_not() -> None:
    error = refusals.by_status("Vendor", "", answer(status=451))
    assert isinstance(error, ProviderRefused)
    assert (error.code, error.detail) == ("region_refused", "Vendor: HTTP 451")


@pytest.mark.parametrize("told", ["k/EY+1", "K%2Fey%2B1", "k%2fey%2b1", "xK/ey+1x"])
def test_a_secret_is_masked_in_any_case_and_encoding(told: str) -> None:
    shown = masked(f"your key {told}.", ("K/ey+1", ""))
    assert "***" in shown
    assert "ey" not in shown.replace("key", "")


@pytest.mark.parametrize("form", ["BTC/USD", "BTC-USD", "btc-usd", "XBTUSD", "XXBTZUSD", "BTCUSD"])
def test_a_pair_means_one_thing_in_each_vendors_form(form: str) -> None:
    assert (coinbase(form), kraken(form), binance(form)) == ("BTC-USD", "XBTUSD", "BTCUSD")


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("DOTUSD", ("DOT", "USD")),
        ("ARBUSD", ("ARB", "USD")),
        ("XBTUSDT", ("BTC", "USDT")),
        ("USDTUSD", ("USDT", "USD")),
        ("USDCUSDT", ("USDC", "USDT")),
        ("BTCFDUSD", ("BTC", "FDUSD")),
        ("XETHXXBT", ("ETH", "BTC")),
        ("ZEURZUSD", ("EUR", "USD")),
        ("XDG/EUR", ("DOGE", "EUR")),
        ("1INCH-USD", ("1INCH", "USD")),
        ("EURUSD=X", ("EUR", "USD")),
        ("ACME", None),
        ("", None),
    ],
)
def test_what_is_a_pair_of_coins(symbol: str, pair: tuple[str, str] | None) -> None:
    assert symbols.coin_pair(symbol) == pair


@pytest.mark.parametrize(
    ("symbol", "own"),
    [
        ("BRK.B", "BRK-B"),
        ("BRK-B", "BRK-B"),
        ("^GSPC", "^GSPC"),
        ("I:SPX", "^GSPC"),
        ("^IXIC", "^IXIC"),
        ("EUR/USD", "EURUSD=X"),
        ("EURUSD=X", "EURUSD=X"),
        ("BTC/USD", "BTC-USD"),
        ("VOD.L", "VOD.L"),
        ("SAP.DE", "SAP.DE"),
        ("GC=F", "GC=F"),
    ],
)
def test_symbols_in_yahoos_form(symbol: str, own: str) -> None:
    assert yahoo(symbol) == own


def test_a_delayed_last_trade_is_of_the_kind_delayed_and_the_other_way_round() -> None:
    assert make_quote(delayed=True).kind is PriceKind.DELAYED
    assert make_quote(kind=PriceKind.DELAYED).delayed
    late = make_quote(kind=PriceKind.MID, delayed=True)
    assert (late.kind, late.delayed) == (PriceKind.MID, True)
    assert not make_quote().delayed


@pytest.mark.parametrize("nanosecond", [-1, 1000])
def test_nanoseconds_are_what_microseconds_leave(nanosecond: int) -> None:
    with pytest.raises(NotAPrice):
        make_quote(nanosecond=nanosecond)


def test_a_bar_has_four_prices_and_a_low_below_its_high() -> None:
    def bar(**changes: str) -> Bar:
        prices = {"open": "2", "high": "3", "low": "1", "close": "2"} | changes
        exact: dict[str, Any] = {name: Decimal(price) for name, price in prices.items()}
        return Bar(symbol="A", timestamp=MARKET_TIME, precision=Precision.MINUTE, **exact)

    assert bar().close == 2
    for wrong in ({"close": "0"}, {"open": "NaN"}, {"low": "4"}, {"high": "-3"}):
        with pytest.raises(NotAPrice):
            bar(**wrong)


def test_a_tally_ends_with_a_price_or_a_reason_for_each_symbol() -> None:
    found = Found("Vendor", answer(symbols=("a", "A", "B", "C")), str.upper)
    assert found.caller("OTHER") is None
    found.quote("a", "1.50", found.no_time)
    found.quote("B", "0", found.no_time)
    parsed = found.result()
    assert [(one.symbol, one.price) for one in parsed.quotes] == [
        ("a", Decimal("1.50")),
        ("A", Decimal("1.50")),
    ]
    assert {name: type(error) for name, error in parsed.refused.items()} == {
        "B": NotAPrice,
        "C": UnknownSymbol,
    }
