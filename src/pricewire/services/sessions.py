"""Whether the market of a symbol is open: from memory, kept up from the exchanges' trading days.

`latest` says it with every price, polling asks it for market hours. The trading days of an exchange
are made by a process of its own when its first symbol is asked for, stored for all processes, and
made anew when they near their end or the package that knows them changes. Invariant: asking never
waits; what is not known is said to be unknown, and asking for it is what makes it known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

import structlog

from pricewire.domain.exchange import EXCHANGES, Hours, exchange_of
from pricewire.domain.session import Session, Timetable, next_open_of, session_of
from pricewire.errors import CalendarsUnavailable, StoreError

DAYS_BACK = 31
DAYS_AHEAD = 400
DAYS_LEFT = 60
"""With fewer days ahead a timetable is made anew: most end a year from now, some with the year."""
AGAIN_SECONDS = 86_400.0
"""How long until what is known is made anew once more, by whatever process."""
MISSING_SECONDS = 120.0
"""How long until what is not known is tried again: whoever tried may have died of it."""
LOOK_SECONDS = 3_600.0
OTHERS_SECONDS = 3.0
"""How long until it is looked whether another process is done that makes the same."""
FIRST_EXCHANGE = "XNYS"

log = structlog.get_logger()


class Sessions(Protocol):
    """What others may ask; neither waits."""

    def session_at(self, symbol: str, provider: str, moment: datetime) -> Session: ...

    def next_open(self, symbol: str, provider: str, moment: datetime) -> datetime | None:
        """Return `moment` where the market is open then, else when it opens; None if not known."""
        ...


class Calendars(Protocol):
    """What knows the exchanges' trading days."""

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        ...

    async def timetables(
        self, names: Sequence[str], first: date, last: date
    ) -> Mapping[str, Timetable]:
        """Return what is known of the exchanges, those left out of which nothing is.

        Raises:
            CalendarsUnavailable: nothing could be made.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredTimetable:
    """A timetable, and the version of what made it."""

    timetable: Timetable
    version: str


class TimetableStore(Protocol):
    """Timetables for all processes; all of it raises `StoreError`."""

    async def stored(self) -> Mapping[str, StoredTimetable]: ...

    async def claim(self, names: Sequence[str], now: datetime, again: timedelta) -> Sequence[str]:
        """Return those that nobody has claimed for `again`; from now on they are the caller's."""
        ...

    async def write(self, timetables: Mapping[str, Timetable], version: str) -> None: ...


class MarketSessions:
    """Fulfils `Sessions`; see the module.

    Args:
        calendars: None where sessions are not wanted.
        clock: now, aware UTC.
    """

    def __init__(
        self, store: TimetableStore, calendars: Calendars | None, *, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._calendars = calendars
        self._clock = clock
        self._stored: Mapping[str, StoredTimetable] = {}
        self._wanted = {FIRST_EXCHANGE}
        self._hopeless: set[str] = set()
        self._wake = asyncio.Event()

    def session_at(self, symbol: str, provider: str, moment: datetime) -> Session:
        exchange = exchange_of(symbol, provider)
        if exchange.hours is not Hours.SESSIONS:
            return session_of(exchange, None, moment)
        return session_of(exchange, self._timetable(exchange.name), moment)

    def next_open(self, symbol: str, provider: str, moment: datetime) -> datetime | None:
        exchange = exchange_of(symbol, provider)
        timetable = self._timetable(exchange.name) if exchange.hours is Hours.SESSIONS else None
        return next_open_of(exchange, timetable, moment)

    async def load(self) -> None:
        """Read what is stored, so that the first to ask is told."""
        try:
            self._stored = await self._store.stored()
        except StoreError as error:
            log.warning("sessions.not_read", error=error.detail)
        self._wanted.update(self._stored)

    async def run(self) -> None:
        """Keep what is wanted known, until cancelled."""
        if self._calendars is not None and self._calendars.version is None:
            log.warning(
                "sessions.unknown",
                meaning="answers say session unknown for exchanges: exchange-calendars is not "
                "installed (the extra calendars)",
            )
        while True:
            self._wake.clear()
            pause = await self._keep_up()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _timetable(self, name: str) -> Timetable | None:
        stored = self._stored.get(name)
        if stored is not None:
            return stored.timetable
        if name not in self._wanted:
            self._wanted.add(name)
            self._wake.set()
        return None

    async def _keep_up(self) -> float:
        """Read what is stored and make what is lacking; return when to look again, in seconds."""
        try:
            await self.load()
            calendars = self._calendars
            if calendars is None or (version := calendars.version) is None:
                return LOOK_SECONDS
            return await self._make(calendars, version)
        except StoreError as error:
            log.warning("sessions.not_stored", error=error.detail)
        except CalendarsUnavailable as error:
            log.warning("sessions.not_made", error=error.detail, again_seconds=MISSING_SECONDS)
        return MISSING_SECONDS

    async def _make(self, calendars: Calendars, version: str) -> float:
        now = self._clock()
        missing = sorted(self._wanted - self._hopeless - set(self._stored))
        outdated = sorted(
            name for name, one in self._stored.items() if _outdated(name, one, version, now)
        )
        mine = [
            *await self._store.claim(missing, now, timedelta(seconds=MISSING_SECONDS)),
            *await self._store.claim(outdated, now, timedelta(seconds=AGAIN_SECONDS)),
        ]
        if mine:
            first = now.date() - timedelta(days=DAYS_BACK)
            last = now.date() + timedelta(days=DAYS_AHEAD)
            made = await calendars.timetables(mine, first, last)
            await self._store.write(made, version)
            self._stored = {
                **self._stored,
                **{name: StoredTimetable(one, version) for name, one in made.items()},
            }
            self._give_up(set(mine) & set(missing) - set(made))
        return OTHERS_SECONDS if set(missing) - set(mine) else LOOK_SECONDS

    def _give_up(self, names: set[str]) -> None:
        """Note exchanges of which nothing is known: they stay unknown until the next start."""
        if names:
            log.warning("sessions.unknown", exchanges=sorted(names))
        self._hopeless |= names


def _outdated(name: str, stored: StoredTimetable, version: str, now: datetime) -> bool:
    today = EXCHANGES[name].day_of(now)
    return stored.version != version or stored.timetable.last < today + timedelta(days=DAYS_LEFT)
