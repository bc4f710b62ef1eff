"""What is true about prices: symbols, ids, quotes, digits, attempts."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.event import (
    EventId,
    Source,
    failed_attempts,
    parse_event_id,
    parse_source,
)
from pricewire.domain.quote import Precision, price_text
from pricewire.domain.symbol import MAX_SYMBOL_LENGTH, parse_symbol
from pricewire.errors import InvalidParameter, InvalidSymbol, NotAPrice
from tests.builders import MARKET_TIME, make_quote

STORE = UUID("018e5b2e-0000-7000-8000-000000000001")
ATTEMPT = timedelta(seconds=10)
SYMBOLS = st.from_regex(r"[A-Za-z0-9^.$][A-Za-z0-9^.$&:/=_-]{0,31}", fullmatch=True)


@pytest.mark.parametrize(
    "symbol",
    ["AAPL", "BRK.B", "^GSPC", "BTC-USD", "EUR/USD", "BINANCE:BTCUSDT", "EURUSD=X", "M&M.NS"],
)
def test_a_symbol_is_kept_as_the_caller_wrote_it(symbol: str) -> None:
    assert parse_symbol(symbol) == symbol
    assert parse_symbol(symbol.lower()) == symbol.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "AAPL ",
        " AAPL",
        "A B",
        "AAPL\n",
        "A~1",
        "~",
        "\x00",
        "A\x7f",
        "ÄPL",
        "A" * 33,
        "-A",
        "/etc",
        "A%20",
        "A?",
        "A#B",
        "A\\B",
        "<b>",
        "А",
    ],
)
def test_what_is_no_symbol_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(InvalidSymbol, match="a symbol has 1 to 32"):
        parse_symbol(text)


@given(st.text(max_size=40) | SYMBOLS | st.builds(lambda a, b: a + b, SYMBOLS, st.characters()))
def test_no_symbol_ever_holds_a_tilde_a_control_character_or_a_space(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except InvalidSymbol:
        return
    assert symbol == text
    assert "~" not in symbol
    assert 1 <= len(symbol.encode()) <= MAX_SYMBOL_LENGTH
    assert not any(unicodedata.category(one)[0] in "CZ" for one in symbol)


@given(SYMBOLS, st.integers(1, 10**18 - 1), st.booleans())
def test_an_event_id_is_read_as_it_was_written(
    symbol: str, sequence: int, backfilled: bool
) -> None:
    event_id = EventId(symbol, sequence, backfilled)
    assert parse_event_id(str(event_id)) == event_id


def test_the_id_of_a_past_price_is_not_that_of_a_live_one() -> None:
    assert str(EventId("AAPL", 17, backfilled=True)) == "AAPL~h17"
    assert parse_event_id("AAPL~h17") != parse_event_id("AAPL~17")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "AAPL",
        "AAPL~",
        "~1",
        "AAPL~0",
        "AAPL~01",
        "AAPL~-1",
        "AAPL~+1",
        "AAPL~ 1",
        "AAPL~1~2",
        "AAPL~1.0",
        "AAPL~1\n",
        "AAPL~²",
        "AAPL~١",
        "AAPL~h",
        "AAPL~h0",
        "AAPL~h01",
        "AAPL~hh1",
        "AAPL~H1",
        "AAPL~1h",
        "A B~1",
        "A~" + "9" * 19,
    ],
)
def test_what_is_no_event_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is no event id"):
        parse_event_id(text)


@pytest.mark.parametrize(
    "price", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "0.00", "-0", "-1", "1E-65", "1E+65"]
)
def test_a_quote_refuses_what_is_no_price(price: str) -> None:
    with pytest.raises(NotAPrice):
        make_quote(price=price)


def test_a_quote_refuses_more_digits_than_anybody_keeps() -> None:
    assert make_quote(price="1" * 64).price == Decimal("1" * 64)
    with pytest.raises(NotAPrice):
        make_quote(price="1" * 65)


@pytest.mark.parametrize(
    "timestamp",
    [
        MARKET_TIME.replace(tzinfo=None),
        MARKET_TIME.astimezone(timezone(timedelta(hours=-5))),
        datetime(1599, 12, 31, tzinfo=UTC),
    ],
)
def test_a_quote_refuses_a_time_that_is_naive_elsewhere_or_absurd(timestamp: datetime) -> None:
    with pytest.raises(NotAPrice, match="AAPL"):
        make_quote(timestamp=timestamp)


def test_a_precision_is_worth_saying_where_it_is_coarser_than_a_second() -> None:
    said = {one for one in Precision if one.coarser_than_second}
    assert said == {Precision.MINUTE, Precision.DAY, Precision.NONE}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("1E-40")))
def test_the_text_of_a_price_is_exact_and_plain(price: Decimal) -> None:
    text = price_text(price)
    assert Decimal(text) == price
    assert set(text) <= set("0123456789.")
    exponent = price.as_tuple().exponent
    assert isinstance(exponent, int)
    assert len(text.partition(".")[2]) == max(0, -exponent)


@pytest.mark.parametrize(
    ("price", "text"),
    [("112.1300", "112.1300"), ("1E-8", "0.00000001"), ("1E+3", "1000"), ("007.50", "7.50")],
)
def test_the_text_of_a_price_keeps_its_zeros(price: str, text: str) -> None:
    assert price_text(Decimal(price)) == text


@given(st.uuids(), st.integers(0, 999_999_999))
def test_a_source_is_read_as_it_was_written(store_id: UUID, generation: int) -> None:
    source = Source(store_id, generation)
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/pricewire/test",
        f"/pricewire/{STORE}",
        f"/pricewire/{STORE}/",
        f"/other/{STORE}/1",
        f"/pricewire/{STORE}/1/averages/2",
        f"/pricewire/{STORE}/1\n",
        f"/pricewire/{STORE}/-1",
    ],
)
def test_the_source_of_somebody_else_is_none_of_ours(text: str) -> None:
    assert parse_source(text) is None


@pytest.mark.parametrize(
    ("seconds", "blocked", "attempts"),
    [
        (0, 0, 0),
        (9.999, 0, 0),
        (10, 0, 1),
        (29, 0, 2),
        (30, 0, 3),
        (29, -300, 2),
        (30, 15, 1),
        (-5, 0, 0),
        (100, None, 0),
    ],
)
def test_an_attempt_fails_each_span_that_an_event_waits_in_a_blocked_shard(
    seconds: float, blocked: float | None, attempts: int
) -> None:
    assert attempts == failed_attempts(
        now=MARKET_TIME + timedelta(seconds=seconds),
        blocked_since=None if blocked is None else MARKET_TIME + timedelta(seconds=blocked),
        recorded_at=MARKET_TIME,
        attempt=ATTEMPT,
    )
