"""Deletes feeds' frames that are older than they are to be kept; the composition root runs it.

Any number of processes may do so at once. Invariant: it deletes in small pieces, each a transaction
of its own behind whatever else is to be written, with a rest in between: live prices never wait for
more than one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from pricewire.errors import StoreError

PIECE = 20
"""Batches of frames in one transaction."""
REST_SECONDS = 0.1
LOOK_SECONDS = 3_600.0

log = structlog.get_logger()


class FrameStore(Protocol):
    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Delete at most `limit` batches that were begun before; return how many those were.

        Raises:
            StoreError
        """
        ...


class FrameRetention:
    """See the module.

    Args:
        days: for how long frames are kept, from 1.
    """

    def __init__(self, store: FrameStore, *, days: int, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._days = timedelta(days=days)
        self._clock = clock

    async def run(self) -> None:
        """Look every hour, until cancelled; the next time goes on where an error ended this one."""
        while True:
            try:
                await self._delete()
            except StoreError as error:
                log.warning("frames.not_deleted", error=error.detail, again_seconds=LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _delete(self) -> None:
        before = self._clock() - self._days
        batches = 0
        while piece := await self._store.delete_before(before, PIECE):
            batches += piece
            await asyncio.sleep(REST_SECONDS)
        if batches:
            log.info("frames.deleted", batches=batches, before=before.isoformat())
