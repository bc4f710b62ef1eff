"""Prints the trading days of exchanges as JSON; `calendars.process` runs it as a process.

`python -m pricewire.calendars.worker FIRST LAST MIC...`, days as 2026-11-25. It is the only place
that imports exchange-calendars, which brings pandas: a second and 140 MB that the service does not
keep. Invariant: it needs neither a setting nor a secret, a network nor a database. An exchange
whose calendar cannot be made is left out, and said on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from typing import Any

_Row = tuple[str, int, int, int | None, int | None, bool]
"""Day, opening, close, beginning and end of the break in seconds since 1970, early."""


def main(arguments: list[str]) -> None:
    os.nice(10)
    # A pool of threads for sums that nobody does here.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import exchange_calendars  # noqa: PLC0415

    first, last = map(date.fromisoformat, arguments[:2])
    made: dict[str, Any] = {}
    for name in arguments[2:]:
        try:
            made[name] = _made(exchange_calendars, name, first, last)
        except (ValueError, LookupError, NotImplementedError, ArithmeticError) as error:
            print(f"{name}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
    json.dump(made, sys.stdout)


def _made(package: Any, name: str, first: date, last: date) -> dict[str, Any]:
    """Return the days of one exchange, as far ahead as its holidays are known."""
    try:
        calendar = package.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    except ValueError:
        # Where holidays are announced year by year, the last known day is the end of one.
        last = date(last.year - 1, 12, 31)
        if last <= first:
            raise
        calendar = package.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    early = {moment.date() for moment in calendar.early_closes}
    rows = [_row(row, early) for row in calendar.schedule.itertuples()]
    return {"first": first.isoformat(), "last": last.isoformat(), "days": rows}


def _row(row: Any, early: set[date]) -> _Row:
    day = row.Index.date()
    opens, closes, begins, ends = map(
        _seconds, (row.open, row.close, row.break_start, row.break_end)
    )
    assert opens is not None
    assert closes is not None
    return day.isoformat(), opens, closes, begins, ends, day in early


def _seconds(moment: Any) -> int | None:
    # Not a time is the one value that differs from itself.
    return None if moment != moment else int(moment.timestamp())  # noqa: PLR0124


if __name__ == "__main__":
    main(sys.argv[1:])
