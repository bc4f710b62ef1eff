"""Composes what deletes old frames of feeds while the service runs.

`bootstrap` calls it. Invariant: a bug in it costs room on the disk, never a price.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from pricewire.services.retention import FrameRetention
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.frames import SqlFrames

log = structlog.get_logger()


@asynccontextmanager
async def frames_kept_for(
    settings: Settings, database: Database, clock: Callable[[], datetime]
) -> AsyncIterator[None]:
    """Keep frames for as long as the setting says, while inside."""
    if settings.raw_frames_days == 0:
        yield
        return
    retention = FrameRetention(SqlFrames(database), days=settings.raw_frames_days, clock=clock)
    task = asyncio.create_task(retention.run())
    task.add_done_callback(_tell_broken)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("frames.broken", exc_info=error, meaning="old frames are deleted no more")
