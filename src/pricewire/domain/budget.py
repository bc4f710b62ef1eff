"""How often a provider may be asked: `5/minute,25/day`, counted in windows of the calendar.

`services.spending` decides with it, inside a transaction of the database. Invariant: whatever is
counted stays counted until its window is over, and a clock that goes back opens no window again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from pricewire.errors import InvalidParameter

OFF = "off"
_ALLOWANCE = re.compile(r"([1-9][0-9]{0,8})/([a-z]+)")


class Period(StrEnum):
    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def begin(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return when the window began that `moment` is in, in UTC."""
        local = moment.astimezone(zone).replace(microsecond=0)
        if self is Period.SECOND:
            return local.astimezone(UTC)
        if self is Period.MINUTE:
            return local.replace(second=0).astimezone(UTC)
        if self is Period.HOUR:
            return local.replace(minute=0, second=0).astimezone(UTC)
        day = local.replace(hour=0, minute=0, second=0, fold=0)
        return (day if self is Period.DAY else day.replace(day=1)).astimezone(UTC)

    def end(self, begin: datetime, zone: tzinfo) -> datetime:
        """Return when the window is over that began at `begin`, in UTC."""
        if self in _LENGTHS:
            return begin + _LENGTHS[self]
        # By the calendar: a day of the zone may have 23 or 25 hours.
        days = 1 if self is Period.DAY else 31
        local = begin.astimezone(zone).replace(hour=12) + timedelta(days=days)
        return self.begin(local, zone)


_LENGTHS = {
    Period.SECOND: timedelta(seconds=1),
    Period.MINUTE: timedelta(minutes=1),
    Period.HOUR: timedelta(hours=1),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    calls: int
    period: Period

    def __str__(self) -> str:
        return f"{self.calls}/{self.period}"


@dataclass(frozen=True, slots=True)
class Used:
    """What was counted in the window that began at `begin`."""

    begin: datetime
    calls: int


Counters = Mapping[Period, Used]


@dataclass(frozen=True, slots=True)
class Granted:
    """Some calls may be made; the counters say so already."""

    calls: int
    counters: Counters


@dataclass(frozen=True, slots=True)
class Exhausted:
    """No call may be made before `until`, because of `allowance`."""

    allowance: Allowance
    until: datetime


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of an allowance, and until when."""

    allowance: Allowance
    calls: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Budget:
    """What a plan allows; no allowances: as often as one likes.

    Args:
        zone: whose calendar the windows are of.
    """

    allowances: tuple[Allowance, ...] = ()
    zone: tzinfo = UTC

    @property
    def unlimited(self) -> bool:
        return not self.allowances

    def __str__(self) -> str:
        return ",".join(map(str, self.allowances)) or OFF

    @property
    def most_at_once(self) -> int | None:
        """How many calls can be counted as one at best; None: any number."""
        return min((one.calls for one in self.allowances), default=None)

    def spend(
        self, counters: Counters, now: datetime, calls: int, *, least: int = 1
    ) -> Granted | Exhausted:
        """Count as many of `calls` as fit, at least `least`; or say when to ask again."""
        left = self.remaining(counters, now)
        if used_up := [one for one in left if one.calls < least]:
            longest = max(used_up, key=lambda one: one.until)
            return Exhausted(longest.allowance, longest.until)
        granted = min(calls, *(one.calls for one in left)) if left else calls
        counted = {
            one.allowance.period: self._counted(one.allowance, counters, now, granted)
            for one in left
        }
        return Granted(granted, counted)

    def remaining(self, counters: Counters, now: datetime) -> tuple[Remaining, ...]:
        """Return what is left of each allowance."""
        return tuple(self._remaining(one, counters, now) for one in self.allowances)

    def _remaining(self, allowance: Allowance, counters: Counters, now: datetime) -> Remaining:
        used = self._counted(allowance, counters, now, 0)
        until = allowance.period.end(used.begin, self.zone)
        return Remaining(allowance, max(0, allowance.calls - used.calls), until)

    def _counted(self, allowance: Allowance, counters: Counters, now: datetime, add: int) -> Used:
        begin = allowance.period.begin(now, self.zone)
        before = counters.get(allowance.period)
        # A later window than now's was counted by a clock that has been set back since.
        if before is None or before.begin < begin:
            return Used(begin, add)
        return Used(before.begin, before.calls + add)


def parse_budget(text: str, zone: tzinfo = UTC) -> Budget:
    """Return the budget in `text`: `5/minute,25/day`, or `off`.

    Raises:
        InvalidParameter: says what would be right.
    """
    if text.strip() == OFF:
        return Budget((), zone)
    allowances: dict[Period, Allowance] = {}
    for part in text.split(","):
        match = _ALLOWANCE.fullmatch(part.strip())
        if match is None or match[2] not in list(Period):
            raise InvalidParameter(
                f"{part.strip()[:64]!r} is no budget: it is calls/period with a period of "
                f"{', '.join(Period)}, such as 5/minute,25/day; or {OFF}"
            )
        period = Period(match[2])
        if period in allowances:
            raise InvalidParameter(f"{text[:64]!r} has two budgets for a {period}")
        allowances[period] = Allowance(int(match[1]), period)
    return Budget(tuple(allowances.values()), zone)
