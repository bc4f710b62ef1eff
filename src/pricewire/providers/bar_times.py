"""When the bars of a series begin; the parsers of the stock vendors ask.

Vendors stamp a day's bar with an instant, midnight where the exchange is or in UTC. Invariant: a
bar of a day is known to the day, one within a day to the minute, whatever unit it was counted in.
"""

from __future__ import annotations

from collections.abc import Sequence

from pricewire.domain.quote import Precision
from pricewire.providers.readers import Stamp, day_at_midnight


def bar_times(
    stamps: Sequence[Stamp | None], zone: str, *, within_a_day: bool = False
) -> list[Stamp | None]:
    """Return days where all bars begin at midnight in `zone`, else minutes.

    Args:
        within_a_day: the question is known to have been for such bars.
    """
    days = [day_at_midnight(stamp, zone) if stamp else None for stamp in stamps]
    if days and None not in days and not within_a_day:
        return days
    return [minute(stamp) for stamp in stamps]


def minute(stamp: Stamp | None) -> Stamp | None:
    """Return `stamp` as a minute if it is a whole one."""
    if stamp is None or stamp.nanosecond or stamp.moment.second or stamp.moment.microsecond:
        return stamp
    return stamp.coarser(Precision.MINUTE)
