"""How far processors were behind a moment ago, for whoever must not wait: `/metrics` reads it.

The composition root runs one in every process that has an API. Invariants: reading never asks
anybody; what is given is at most `STALE_SECONDS` old, and where database or broker do not answer
there is nothing rather than an old number; nobody is asked while nobody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from pricewire.errors import KafkaTrouble, StoreError
from pricewire.services.lag import PartitionLag

EVERY_SECONDS = 5.0
STALE_SECONDS = 15.0
REST_SECONDS = 300.0
"""For how long after the last reading the report is kept up."""


class RecentLag:
    """See the module.

    Args:
        report: asks database and broker (`Lag.report`).
        clock: seconds, as of a stop watch.
    """

    def __init__(
        self,
        report: Callable[[], Awaitable[Sequence[PartitionLag]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._clock = clock
        self._known: Sequence[PartitionLag] = ()
        self._known_at = 0.0
        self._read_at = 0.0
        self._wanted = asyncio.Event()
        self._closed = asyncio.Event()

    def read(self) -> Sequence[PartitionLag]:
        """Return the last report; empty where there is none of late, as at the first reading."""
        self._read_at = self._clock()
        self._wanted.set()
        return self._known if self._read_at - self._known_at <= STALE_SECONDS else ()

    def close(self) -> None:
        """Let `run` return once nobody is asked any more."""
        self._closed.set()
        self._wanted.set()

    async def run(self) -> None:
        """Keep the report up until `close`."""
        while not self._closed.is_set():
            await self._wanted.wait()
            if self._closed.is_set():
                return
            if self._clock() - self._read_at > REST_SECONDS:
                self._known = ()
                self._wanted.clear()
                continue
            await self._ask()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._closed.wait()

    async def _ask(self) -> None:
        # Positions are as old as the beginning, however long the answer takes.
        began = self._clock()
        try:
            self._known = await self._report()
        except (KafkaTrouble, StoreError):
            self._known = ()
        self._known_at = began
