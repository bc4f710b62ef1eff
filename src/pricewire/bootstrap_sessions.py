"""Composes what says whether a market is open, and keeps it known while the service runs.

`bootstrap` calls it. Invariant: a bug in it costs the sessions, never a price.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from pricewire.calendars.process import WorkerCalendars
from pricewire.services.sessions import MarketSessions
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.timetables import SqlTimetables

log = structlog.get_logger()


@asynccontextmanager
async def market_sessions(
    settings: Settings, database: Database, clock: Callable[[], datetime], *, watching: bool
) -> AsyncIterator[MarketSessions]:
    """Give the sessions; leaving ends what is being made.

    Args:
        watching: somebody will ask, so that they are to be kept known.
    """
    calendars = WorkerCalendars() if settings.market_calendars == "on" else None
    sessions = MarketSessions(SqlTimetables(database), calendars, clock=clock)
    if not watching:
        yield sessions
        return
    await sessions.load()
    task = asyncio.create_task(sessions.run())
    task.add_done_callback(_tell_broken)
    try:
        yield sessions
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("sessions.broken", exc_info=error, meaning="they are not kept up any more")
