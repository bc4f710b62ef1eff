"""Drives all feeds of this process after what streaming jobs want; one task a feed.

The composition root runs one in every process that has an API; processes share the feeds, each of
which has one owner. Invariant: what jobs want reaches the feeds within `LOOK_SECONDS`, at once
where they were changed here; a feed that a bug ends takes no other with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from pricewire.domain.stream_job import StreamJob, wanted
from pricewire.errors import StoreError
from pricewire.services.feeds.kept import FeedStatus, FeedStore, FeedSymbolState
from pricewire.services.feeds.run import FeedRun
from pricewire.services.kept_jobs import KeptJobs

LOOK_SECONDS = 2.0
"""How often is looked for jobs that other processes made or changed."""

log = structlog.get_logger()


@dataclass(slots=True)
class FeedingStatus:
    """Args:
    last_error: why jobs cannot be looked for; None while they can.
    broken: feeds that a bug has ended.
    """

    last_error: str | None = None
    broken: tuple[str, ...] = ()


class Feeding:
    """See the module.

    Args:
        runs: by provider.
        feeds: what other processes tell of theirs.
    """

    def __init__(
        self, runs: Mapping[str, FeedRun], streams: KeptJobs[StreamJob], feeds: FeedStore
    ) -> None:
        self.status = FeedingStatus()
        self.runs = runs
        self._streams = streams
        self._feeds = feeds
        self._news = asyncio.Event()
        self._closed = False

    def look(self) -> None:
        """Look at once what jobs want."""
        self._news.set()

    def close(self) -> None:
        """Let go of all feeds; `run` returns once what was read is recorded."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Drive feeds until `close`."""
        tasks = [asyncio.create_task(self._run_one(run)) for run in self.runs.values()]
        try:
            while not self._closed:
                self._news.clear()
                await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
        finally:
            for run in self.runs.values():
                run.stop()
            if tasks:
                await asyncio.wait(tasks)

    async def statuses(self) -> dict[str, FeedStatus]:
        """Return how feeds fare, by provider: our own as they are now.

        Raises:
            StoreError: the others' cannot be read.
        """
        found = {status.provider: status for status in await self._feeds.statuses()}
        own = {name: status for name, run in self.runs.items() if (status := run.status())}
        return found | own

    async def symbols(self, provider: str) -> list[FeedSymbolState]:
        """Return where the symbols of a feed are.

        Raises:
            StoreError: they cannot be read.
        """
        run = self.runs.get(provider)
        own = run.states() if run else None
        return own if own is not None else await self._feeds.symbols(provider)

    async def _look(self) -> None:
        try:
            found = wanted(await self._streams.all())
        except StoreError as error:
            if self.status.last_error is None:
                log.warning("feeding.interrupted", error=error.detail)
            self.status.last_error = error.detail
            return
        if self.status.last_error is not None:
            log.warning("feeding.resumed")
        self.status.last_error = None
        for name, run in self.runs.items():
            run.want(found.get(name, {}))

    async def _run_one(self, run: FeedRun) -> None:
        try:
            await run.run()
        except Exception as error:
            # A bug of ours. The other feeds, and all else that this process does, go on.
            self.status.broken = (*self.status.broken, run.name)
            run.tally.state, run.tally.last_error = "broken", type(error).__name__
            log.critical("feed.broken", feed=run.name, exc_info=error, meaning="it stopped")
