"""Whether a market is open at a moment, and when it opens next.

`services.sessions` asks with what it knows of the exchanges' calendars. Regular hours only: trades
before the opening and after the close are outside the session. Invariant: what is not known is said
to be unknown; beyond the days that a timetable covers nothing is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from pricewire.domain.exchange import Exchange, Hours

_SATURDAY = 5


class Session(StrEnum):
    """`early_close`: open, on a day on which the market closes before its usual time."""

    OPEN = "open"
    CLOSED = "closed"
    EARLY_CLOSE = "early_close"
    UNKNOWN = "unknown"

    @property
    def is_open(self) -> bool:
        return self in (Session.OPEN, Session.EARLY_CLOSE)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One day of an exchange, times aware UTC; open from `opens` up to, not including, `closes`.

    Args:
        rest: from when to when it is closed for lunch, None where it is not.
        early: it closes before the usual time.
    """

    day: date
    opens: datetime
    closes: datetime
    rest: tuple[datetime, datetime] | None = None
    early: bool = False

    @property
    def spans(self) -> tuple[tuple[datetime, datetime], ...]:
        """When it is open."""
        if self.rest is None:
            return ((self.opens, self.closes),)
        return (self.opens, self.rest[0]), (self.rest[1], self.closes)


class Timetable:
    """The trading days of one exchange from `first` to `last`; days that are not given are closed.

    Args:
        first, last: days of the exchange, both known.
    """

    def __init__(
        self, exchange: Exchange, days: Iterable[TradingDay], *, first: date, last: date
    ) -> None:
        self.first = first
        self.last = last
        self.days = tuple(sorted(days, key=lambda one: one.day))
        self._begin = exchange.begin_of(first)
        self._end = exchange.begin_of(last + timedelta(days=1))
        spans = [(*span, one.early) for one in self.days for span in one.spans]
        self._opens = [opens for opens, _, _ in spans]
        self._closes = [(closes, early) for _, closes, early in spans]

    def session_at(self, moment: datetime) -> Session:
        if not self._begin <= moment < self._end:
            return Session.UNKNOWN
        place = bisect_right(self._opens, moment) - 1
        if place < 0:
            return Session.CLOSED
        closes, early = self._closes[place]
        if moment >= closes:
            return Session.CLOSED
        return Session.EARLY_CLOSE if early else Session.OPEN

    def next_open(self, moment: datetime) -> datetime | None:
        """Return `moment` where it is open then, else when it opens next; None if not known."""
        session = self.session_at(moment)
        if session.is_open:
            return moment
        place = bisect_right(self._opens, moment)
        if session is Session.UNKNOWN or place == len(self._opens):
            return None
        return self._opens[place]


def session_of(exchange: Exchange, timetable: Timetable | None, moment: datetime) -> Session:
    """Return a market's session at `moment`, aware."""
    if exchange.hours is Hours.ALWAYS:
        return Session.OPEN
    if exchange.hours is Hours.WEEKDAYS:
        weekday = exchange.day_of(moment).weekday()
        return Session.OPEN if weekday < _SATURDAY else Session.CLOSED
    return Session.UNKNOWN if timetable is None else timetable.session_at(moment)


def next_open_of(
    exchange: Exchange, timetable: Timetable | None, moment: datetime
) -> datetime | None:
    """Return `moment` where the market is open then, else when it opens; None if not known."""
    if session_of(exchange, None, moment) is Session.OPEN:
        return moment
    if exchange.hours is Hours.WEEKDAYS:
        day = exchange.day_of(moment)
        return exchange.begin_of(day + timedelta(days=7 - day.weekday()))
    return None if timetable is None else timetable.next_open(moment)
