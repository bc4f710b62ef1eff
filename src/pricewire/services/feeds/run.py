"""One vendor's feed, as far as this process may have it: claims it whenever it is wanted and free.

`services.feeds.driver` runs one for each feed. Invariant: of all processes one has the feed, by its
claim; one that is let go of has nothing left to record.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog

from pricewire.domain.stream_job import Wanted
from pricewire.errors import FeedOvertaken, StoreError
from pricewire.services.feeds.kept import FeedClaim, FeedStatus, FeedSymbolState
from pricewire.services.feeds.owner import LEASE, FeedMeans, FeedOwner
from pricewire.services.feeds.ports import VendorFeed
from pricewire.services.feeds.tally import Tally

LOOK_SECONDS = 2.0
"""How often is looked whether a feed that another process has has become free."""
ELSEWHERE = "owned by another process"

log = structlog.get_logger()


class FeedRun:
    """See the module."""

    def __init__(self, feed: VendorFeed, means: FeedMeans) -> None:
        self.name = feed.name
        self.tally = Tally(feed.name)
        self._feed = feed
        self._means = means
        self._wanted: Wanted = {}
        self._news = asyncio.Event()
        self._stopping = False
        self._owner: FeedOwner | None = None
        self._epoch = 0

    def want(self, wanted: Wanted) -> None:
        """Say which ticks are wanted from now on; nothing lets go of the feed."""
        if wanted == self._wanted or self._stopping:
            return
        self._wanted = dict(wanted)
        self._news.set()
        if self._owner is not None:
            self._owner.want(self._wanted)

    def stop(self) -> None:
        """Let `run` return once what was read is recorded."""
        self.want({})
        self._stopping = True
        self._news.set()

    def status(self) -> FeedStatus | None:
        """Return how the feed fares; None where this process does not have it."""
        if self._owner is None:
            return None
        status = self.tally.status(self._means.clock(), self._owner.intake.states)
        return replace(status, owner=self._means.rules.owner, epoch=self._epoch)

    def states(self) -> list[FeedSymbolState] | None:
        """Return where the symbols are; None where this process does not have the feed."""
        return None if self._owner is None else self._owner.intake.states

    @property
    def waiting_frames(self) -> int:
        """How many frames are read and not recorded yet."""
        return 0 if self._owner is None else self._owner.intake.waiting_frames

    async def run(self) -> None:
        """Have the feed whenever something is wanted of it and nobody else has it."""
        while not self._stopping:
            self._news.clear()
            if not self._wanted:
                self.tally.state = "idle"
                await self._news.wait()
            elif (claim := await self._claim()) is None:
                await self._news_or(LOOK_SECONDS)
            else:
                await self._own(claim)

    async def _claim(self) -> FeedClaim | None:
        means = self._means
        try:
            claim = await means.store.claim(self.name, means.rules.owner, means.clock(), LEASE)
        except StoreError as error:
            self.tally.state, self.tally.last_error = "database is away", error.detail
            return None
        if claim is None:
            self.tally.state = ELSEWHERE
        return claim

    async def _own(self, claim: FeedClaim) -> None:
        self.tally.resume(claim.status)
        owner = FeedOwner(self._feed, claim, self.tally, self._means)
        owner.want(self._wanted)
        self._owner, self._epoch = owner, claim.fence.epoch
        log.info("feed.claimed", feed=self.name, epoch=claim.fence.epoch)
        try:
            await owner.run()
        except FeedOvertaken as error:
            log.warning("feed.overtaken", feed=self.name, why=error.detail)
            self.tally.state = ELSEWHERE
            return
        finally:
            self._owner = None
        self.tally.state = "idle"
        status = self.tally.status(self._means.clock(), owner.intake.states)
        with suppress(StoreError):  # Its lease ends by itself.
            await self._means.store.release(self.name, claim.fence.epoch, status)
        log.info("feed.released", feed=self.name)

    async def _news_or(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
