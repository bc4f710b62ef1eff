"""Past prices: which are one, how many equal ones there are, and times as files have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.past import MarketTime, Occurrences, PastPrice, identity_of, read_market_time
from pricewire.domain.quote import Precision, Quote
from tests.builders import MARKET_TIME, make_quote

TRADES = st.builds(
    lambda symbol, price, size, minute: make_quote(
        symbol,
        price,
        size=None if size is None else Decimal(size),
        timestamp=MARKET_TIME + timedelta(minutes=minute),
    ),
    st.sampled_from(["ES", "NQ"]),
    st.sampled_from(["1640.25", "1640.250", "1640.5", "2"]),
    st.sampled_from([None, "1", "1.0", "2"]),
    st.integers(0, 3),
)


def by_time(quotes: list[Quote]) -> list[Quote]:
    return sorted(quotes, key=lambda quote: quote.timestamp)


@given(st.lists(TRADES, max_size=40))
def test_every_row_of_a_file_is_a_price_of_its_own(quotes: list[Quote]) -> None:
    count = Occurrences().count
    found = [identity_of(count(quote), "file") for quote in by_time(quotes)]
    assert len(set(found)) == len(quotes)


@given(st.lists(TRADES, max_size=40), st.lists(TRADES, max_size=10), st.lists(TRADES, max_size=10))
def test_whatever_else_another_file_holds_what_it_shares_with_this_one_is_the_same(
    quotes: list[Quote], before: list[Quote], after: list[Quote]
) -> None:
    """A file that overlaps holds the shared times whole."""
    early = [replaced(quote, -10) for quote in before]
    late = [replaced(quote, 10) for quote in after]
    one, other = Occurrences(), Occurrences()
    here = [identity_of(one.count(quote), "file") for quote in by_time(quotes)]
    there = [
        identity_of(other.count(quote), "file")
        for quote in [*by_time(early), *by_time(quotes), *by_time(late)]
    ]
    assert there[len(early) : len(early) + len(here)] == here


def replaced(quote: Quote, minutes: int) -> Quote:
    return make_quote(
        quote.symbol,
        str(quote.price),
        size=quote.size,
        timestamp=quote.timestamp + timedelta(minutes=minutes),
    )


def test_symbols_may_stand_between_each_other() -> None:
    count = Occurrences().count
    quotes = [make_quote("ES"), make_quote("NQ"), make_quote("ES"), make_quote("NQ")]
    assert [count(quote).occurrence for quote in quotes] == [0, 0, 1, 1]


def test_members_do_not_run_into_each_other() -> None:
    one = PastPrice(make_quote("A", "1", trade_id="23"))
    other = PastPrice(make_quote("A", "1", size=Decimal(2), trade_id="3"))
    assert identity_of(one, "f") != identity_of(other, "f")


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "moment", "nanosecond", "precision"),
    [
        ("2013-09-01", at(2013, 9, 1), 0, Precision.DAY),
        ("2013-09-01T17:00Z", at(2013, 9, 1, 17), 0, Precision.MINUTE),
        ("2013-09-01 17:00:05+02:00", at(2013, 9, 1, 15, 0, 5), 0, Precision.SECOND),
        ("2013-09-01T17:00:05-0500", at(2013, 9, 1, 22, 0, 5), 0, Precision.SECOND),
        ("2013-09-01 17:00:00.083 UTC", at(2013, 9, 1, 17, 0, 0, 83000), 0, Precision.MILLISECOND),
        ("2013-09-01T17:00:00,1Z", at(2013, 9, 1, 17, 0, 0, 100000), 0, Precision.MILLISECOND),
        ("2013-09-01T17:00:00.1234Z", at(2013, 9, 1, 17, 0, 0, 123400), 0, Precision.MICROSECOND),
        (
            "2013-09-01T17:00:00.123456789Z",
            at(2013, 9, 1, 17, 0, 0, 123456),
            789,
            Precision.NANOSECOND,
        ),
        (
            "2013-09-01 17:00:00.083",
            datetime(2013, 9, 1, 17, 0, 0, 83000),  # noqa: DTZ001
            0,
            Precision.MILLISECOND,
        ),
    ],
)
def test_a_time_is_read_with_the_precision_that_it_is_written_with(
    text: str, moment: datetime, nanosecond: int, precision: Precision
) -> None:
    assert read_market_time(text) == MarketTime(moment, nanosecond, precision)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0000-01-01",
        "0000-01-01T00:00:00Z",
        "2013-02-30",
        "2013-13-01",
        "2013-09-01T24:00:01Z",
        "2013-09-01T25:00Z",
        "2013-09-01T17:00:60Z",
        "2013-09-01T17:00:00.1234567890Z",
        "2013-09-01T17:00:00+24:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "20130901",
        "2013-09-01T",
        "2013-09-01 17",
        "1378054800",
        " 2013-09-01",
        "2013-09-01\n",
        "２０１３-09-01",
        "now",
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_market_time(text) is None


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,Z+-]{0,20}"))
def test_no_text_raises(text: str) -> None:
    found = read_market_time(text)
    assert found is None or 0 <= found.nanosecond <= 999
