"""The exchanges' trading days; fulfils `services.sessions.TimetableStore`.

Invariant: an exchange's days are replaced as a whole, by one transaction, and read by one
statement; of several processes that would make the same one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from pricewire.domain.exchange import EXCHANGES
from pricewire.domain.session import Timetable, TradingDay
from pricewire.services.sessions import StoredTimetable
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import calendars, trading_days

_STORED = (
    select(calendars.c.first_day, calendars.c.last_day, calendars.c.version, trading_days)
    .join(trading_days, trading_days.c.exchange == calendars.c.exchange)
    .where(calendars.c.first_day.is_not(None))
    .order_by(calendars.c.exchange, trading_days.c.day)
)


class SqlTimetables:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stored(self) -> Mapping[str, StoredTimetable]:
        rows = await self._database.read(lambda connection: connection.execute(_STORED).all())
        each = groupby(rows, key=lambda row: row.exchange)
        # What a newer version of ours wrote may not be known here.
        return {name: _stored(name, list(some)) for name, some in each if name in EXCHANGES}

    async def claim(self, names: Sequence[str], now: datetime, again: timedelta) -> Sequence[str]:
        if not names:
            return ()
        there = self._database.insert(calendars).on_conflict_do_nothing()

        def work(connection: Connection) -> list[str]:
            # In one order, so that two who claim the same never wait for each other.
            connection.execute(there, [{"exchange": name} for name in sorted(names)])
            return [name for name in sorted(names) if _claimed(connection, name, now, again)]

        return await self._database.write(Rank.OTHER, work)

    async def write(self, timetables: Mapping[str, Timetable], version: str) -> None:
        for name, timetable in timetables.items():
            await self._write(name, timetable, version)

    async def _write(self, name: str, timetable: Timetable, version: str) -> None:
        known = {"first_day": timetable.first, "last_day": timetable.last, "version": version}

        def work(connection: Connection) -> None:
            # The exchange's row first: whoever else writes it waits here.
            connection.execute(update(calendars).where(calendars.c.exchange == name).values(known))
            connection.execute(delete(trading_days).where(trading_days.c.exchange == name))
            rows = [_row(name, day) for day in timetable.days]
            if rows:
                connection.execute(trading_days.insert(), rows)

        await self._database.write(Rank.OTHER, work)


def _claimed(connection: Connection, name: str, now: datetime, again: timedelta) -> bool:
    tried = calendars.c.tried_at
    # Far later than now it was tried by a clock that has been set back since.
    free = or_(tried.is_(None), tried <= now - again, tried > now + again)
    statement = update(calendars).where(calendars.c.exchange == name, free).values(tried_at=now)
    return bool(connection.execute(statement).rowcount == 1)


def _row(name: str, day: TradingDay) -> dict[str, Any]:
    begins, ends = day.rest or (None, None)
    return {
        "exchange": name,
        "day": day.day,
        "opens_at": day.opens,
        "closes_at": day.closes,
        "rest_begins_at": begins,
        "rest_ends_at": ends,
        "early": day.early,
    }


def _stored(name: str, rows: Sequence[Any]) -> StoredTimetable:
    days = [_day(row) for row in rows]
    first, last = rows[0].first_day, rows[0].last_day
    return StoredTimetable(
        Timetable(EXCHANGES[name], days, first=first, last=last), rows[0].version
    )


def _day(row: Any) -> TradingDay:
    begins, ends = row.rest_begins_at, row.rest_ends_at
    rest = None if begins is None or ends is None else (begins, ends)
    return TradingDay(row.day, row.opens_at, row.closes_at, rest, row.early)
