"""Fills a feed's gaps: asks the vendor's REST endpoint for trades that never came, gap by gap.

`services.feeds.owner` asks it now and then. Invariant: a gap that nobody can fill is given up and
counted as lost, in a bounded number of calls; what comes meanwhile is never asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from pricewire.errors import ProviderError, StoreError
from pricewire.services.feeds.intake import Intake
from pricewire.services.feeds.ports import Filling, VendorFeed

MAX_FILLED = 10_000
"""Numbers of one gap; a wider one is left as it is."""
FIRST_LOOK_SECONDS = 2.0
"""After which a gap is asked for: trades that overtook each other come by themselves."""
USUAL_WAIT_SECONDS = 30.0

log = structlog.get_logger()

_Gap = tuple[str, int, int, datetime | None]


class FeedFilling:
    """See the module.

    Args:
        filled: called when an answer was put into the intake.
    """

    def __init__(self, feed: VendorFeed, intake: Intake, filled: Callable[[], None]) -> None:
        self._feed = feed
        self._intake = intake
        self._filled = filled
        self._loop = asyncio.get_running_loop()
        self._seen: dict[tuple[str, int], float] = {}
        """When each gap was first seen, by its symbol and its end."""
        self._not_before = 0.0

    async def fill(self) -> None:
        """Ask for gaps, one after the other, whose time has come."""
        while self._feed.fills and self._loop.time() >= self._not_before:
            gap = self._next(self._loop.time())
            if gap is None:
                return
            await self._fill_one(gap)

    async def _fill_one(self, gap: _Gap) -> None:
        symbol, first, last, since = gap
        try:
            filling = await self._feed.fill(symbol, first, last, since)
        except StoreError as error:
            self._wait(error.retry_after)
        except ProviderError as error:
            log.info("feed.not_filled", feed=self._feed.name, symbol=symbol, error=error.detail)
            if error.retryable:
                self._wait(error.retry_after)
            else:
                self._intake.give_up(symbol, first, last)
        else:
            self._take(gap, filling)

    def _take(self, gap: _Gap, filling: Filling) -> None:
        symbol, first, last, _ = gap
        found = self._intake.take_filling(filling.raw, filling.ticks)
        if not found:
            # Some may have come over the connection meanwhile.
            self._intake.give_up(symbol, first, last)
        self._filled()
        log.info("feed.filled", feed=self._feed.name, symbol=symbol, trades=found)

    def _next(self, now: float) -> _Gap | None:
        gaps = self._intake.missing()
        there = {(symbol, last) for symbol, _, last, _ in gaps}
        self._seen = {gap: since for gap, since in self._seen.items() if gap in there}
        for gap in gaps:
            symbol, first, last, _ = gap
            since = self._seen.setdefault((symbol, last), now)
            if last - first < MAX_FILLED and now - since >= FIRST_LOOK_SECONDS:
                return gap
        return None

    def _wait(self, seconds: float | None) -> None:
        self._not_before = self._loop.time() + (seconds or USUAL_WAIT_SECONDS)
