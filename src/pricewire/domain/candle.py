"""Candles: open, high, low, close and count of a symbol's prices over an interval; pure and exact.

`streams.candles` makes them of price events, `services.candles` merges those of two series.
Invariant: what a candle holds depends on the prices and their order in the log alone: the open is
the price with the smallest market time, the close the one with the greatest, and of equal times
the log's order decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pricewire.domain.exchange import exchange_of, market_day
from pricewire.domain.quote import Precision
from pricewire.errors import InvalidParameter

EARLIEST: Final = datetime(1600, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""A time before the one or from the other on is no market's; beyond them no day can be reckoned."""
_MOMENT: Final = timedelta(microseconds=1)


class Interval(StrEnum):
    """How long a candle is; a day is one of the symbol's market."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    HOUR = "1h"
    DAY = "1d"


class Series(StrEnum):
    """Which prices a candle is made of: past ones that were brought in later, or those of now."""

    HISTORY = "history"
    LIVE = "live"


def parse_interval(text: str) -> Interval:
    """Return the interval that `text` names.

    Raises:
        InvalidParameter: says which there are.
    """
    try:
        return Interval(text)
    except ValueError:
        raise InvalidParameter(f"interval={text[:32]!r} is none of {', '.join(Interval)}") from None


@dataclass(frozen=True, slots=True)
class Span:
    """Where a candle begins, and where the next one does."""

    start: datetime
    end: datetime


def span_of(symbol: str, interval: Interval, at: datetime) -> Span:
    """Return the candle's span that a market time, between `EARLIEST` and `LATEST`, is in."""
    if interval is Interval.DAY:
        return _day_span(symbol, at, Precision.SECOND)
    if interval is Interval.HOUR:
        start = at.replace(minute=0, second=0, microsecond=0)
        return Span(start, start + timedelta(hours=1))
    if interval is Interval.MINUTE:
        start = at.replace(second=0, microsecond=0)
        return Span(start, start + timedelta(minutes=1))
    start = at.replace(minute=at.minute - at.minute % 5, second=0, microsecond=0)
    return Span(start, start + timedelta(minutes=5))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a price stands in its candles.

    Args:
        at: its market time; of a price of which the day alone is known, the day's last moment.
        intervals: those that it counts for.
    """

    at: datetime
    intervals: Sequence[Interval]


_ALL: Final = tuple(Interval)
_DAYS_ONLY: Final = (Interval.DAY,)


def place_of(symbol: str, timestamp: datetime, precision: Precision) -> Place:
    """Return where a price stands; a price counts for no interval finer than its time is known.

    One without a time of the market's counts for none: it would be dated by our clock, and a quote
    that is asked for on a Sunday would make a candle of Sunday.
    """
    if precision is Precision.NONE or not EARLIEST <= timestamp < LATEST:
        return Place(timestamp, ())
    if precision is Precision.DAY:
        return Place(_day_span(symbol, timestamp, precision).end - _MOMENT, _DAYS_ONLY)
    return Place(timestamp, _ALL)


def _day_span(symbol: str, at: datetime, precision: Precision) -> Span:
    exchange = exchange_of(symbol)
    day = market_day(symbol, at, precision=precision)
    return Span(exchange.begin_of(day), exchange.begin_of(day + timedelta(days=1)))


@dataclass(slots=True)
class Candle:
    """One candle.

    Args:
        start: aware UTC, and so is `end`, at which the next candle may begin.
        first_at: market time of `open`, and `first_offset` its place in the log; so for `close`.
        revision: 0 while it is open, 1 when it closes, one more with each later change.
    """

    start: datetime
    end: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    count: int
    first_at: datetime
    first_offset: int
    last_at: datetime
    last_offset: int
    revision: int = 0

    def add(self, price: Decimal, at: datetime, offset: int) -> None:
        """Count a price that the log has behind all that were counted."""
        self.count += 1
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        if at >= self.last_at:
            self.close, self.last_at, self.last_offset = price, at, offset
        elif at < self.first_at:
            self.open, self.first_at, self.first_offset = price, at, offset


def new_candle(span: Span, price: Decimal, at: datetime, offset: int) -> Candle:
    """Return the candle of one price."""
    start, end = span.start, span.end
    return Candle(start, end, price, price, price, price, 1, at, offset, at, offset)


@dataclass(frozen=True, slots=True)
class Part:
    """A candle as one processor has it of one partition of its topic."""

    series: Series
    partition: int
    candle: Candle


def merge(parts: Sequence[Part]) -> Candle:
    """Return the candle of all parts, which have one span.

    Of equal market times past prices come before those of now, and partitions are in their order.
    It is open while one part is; its revision is the sum, so that it rises with each change of a
    closed part.
    """
    ranked = in_order(parts)
    # Of equals `min` takes the first, and the last is wanted of closes.
    first = min((part.candle for part in ranked), key=lambda one: one.first_at)
    last = max((part.candle for part in reversed(ranked)), key=lambda one: one.last_at)
    candles = [part.candle for part in ranked]
    is_open = any(one.revision == 0 for one in candles)
    return Candle(
        start=first.start,
        end=first.end,
        open=first.open,
        high=max(one.high for one in candles),
        low=min(one.low for one in candles),
        close=last.close,
        count=sum(one.count for one in candles),
        first_at=first.first_at,
        first_offset=first.first_offset,
        last_at=last.last_at,
        last_offset=last.last_offset,
        revision=0 if is_open else sum(one.revision for one in candles),
    )


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Return parts of one span, past ones first, in the order of their partitions."""
    return sorted(parts, key=lambda part: (part.series is Series.LIVE, part.partition))
