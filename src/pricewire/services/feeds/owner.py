"""A feed while this process has it: connects, records, renews; ends when nothing is wanted.

`services.feeds.run` makes one for each claim. Three loops beside each other: one stays connected
and puts into the intake, one takes batches out and records them, one sees to all that is due each
second. Invariant: what is recorded is recorded under the claim's epoch, in the intake's order, and
nothing of a batch is recorded before the one in front of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from uuid_utils.compat import uuid7

from pricewire.domain.frames import FrameBatch, new_batch_id
from pricewire.domain.quote import Fetched
from pricewire.domain.stream_job import Wanted
from pricewire.errors import FeedOvertaken, ProviderError, RecordRefused, StoreError
from pricewire.services.feeds.filling import FeedFilling
from pricewire.services.feeds.intake import Batch, Filled, Intake, halves
from pricewire.services.feeds.kept import FeedClaim, FeedStore
from pricewire.services.feeds.link import Dropped, Link
from pricewire.services.feeds.ports import VendorFeed
from pricewire.services.feeds.tally import Tally
from pricewire.services.recording import Door

LEASE = timedelta(seconds=10)
"""For how long a claim holds without being renewed. Who is frozen for longer is succeeded, and
what he then brings is not recorded."""
RENEW_SECONDS = 3.0
TURN_SECONDS = 1.0
COLLECT_SECONDS = 0.03
"""How long a batch collects at least: each has its own transaction."""
FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 60.0
REFUSED_SECONDS = 600.0
"""After a refusal that waiting does not help against; a change of the jobs tries again at once."""
STEADY_SECONDS = 30.0
"""A connection that held so long, or brought a tick, is followed by a quick next one."""
STORE_PAUSE_SECONDS = 0.5
MILLISECOND = timedelta(milliseconds=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FeedRules:
    """What the composition root decides.

    Args:
        owner: this process, as feeds know their owners.
        most_waiting: events in the outbox; above it nothing is recorded and the vendor held up.
        grace_seconds: how long what was read may take to be recorded once all stops.
    """

    owner: str
    most_waiting: int
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class FeedMeans:
    """What feeds are driven with, the same for all.

    Args:
        waiting: how many events wait in the outbox.
    """

    store: FeedStore
    door: Door
    waiting: Callable[[], Awaitable[int]]
    rules: FeedRules
    clock: Callable[[], datetime]


class FeedOwner:
    """See the module."""

    def __init__(self, feed: VendorFeed, claim: FeedClaim, tally: Tally, means: FeedMeans) -> None:
        self.intake = Intake(claim.symbols)
        self._feed = feed
        self._fence = claim.fence
        self._tally = tally
        self._means = means
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._room = asyncio.Event()
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._draining = False
        self._outbox_full = False
        self._filling = FeedFilling(feed, self.intake, self._heard.set)
        self._wanted: Wanted = {}

    def want(self, wanted: Wanted) -> None:
        """Say which ticks are wanted from now on; nothing ends `run`."""
        self._wanted = wanted
        self.intake.want(wanted, self._loop.time())
        self._heard.set()
        self._changed.set()
        if self._link is not None:
            self._link.want(wanted)

    async def run(self) -> None:
        """Have the feed until nothing is wanted of it.

        Raises:
            FeedOvertaken: another process has it.
        """
        tasks = [
            asyncio.create_task(work)
            for work in (self._stay_connected(), self._record_all(), self._keep())
        ]
        connected = tasks[0]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if connected.done() and not any(task.done() for task in tasks[1:]):
                await self._drain(tasks[1:])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _drain(self, others: list[asyncio.Task[None]]) -> None:
        """Wait until what was read is recorded, a while."""
        self._draining = True
        self._heard.set()
        await asyncio.wait(
            others,
            timeout=self._means.rules.grace_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.intake.waiting_frames:
            log.error(
                "feed.not_recorded",
                feed=self._feed.name,
                frames=self.intake.waiting_frames,
                meaning="the database was away while the feed was let go of; the numbers of their "
                "trades will be missing",
            )

    # One connection after the other.

    async def _stay_connected(self) -> None:
        failures = 0
        while self._wanted:
            began = self._loop.time()
            link = self._link = Link(
                self._feed,
                self.intake,
                self._tally,
                clock=self._means.clock,
                room=self._room,
                heard=self._heard.set,
            )
            link.want(self._wanted)
            error = await self._connected(link)
            self._link = None
            steady = link.ticked or self._loop.time() - began > STEADY_SECONDS
            failures = 0 if steady else failures + 1
            if self._wanted and not link.planned_end:
                await self._pause(error, failures)
            self._tally.reconnects += bool(self._wanted)

    async def _connected(self, link: Link) -> ProviderError | None:
        """Have one connection; return how it ended, None where we ended it."""
        self._tally.state = "connecting"
        unwanted = asyncio.create_task(self._until_unwanted())
        linked = asyncio.create_task(link.run())
        try:
            await asyncio.wait([linked, unwanted], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (unwanted, linked):
                task.cancel()
            await asyncio.wait([unwanted, linked])
        error = None if linked.cancelled() else linked.exception()
        if isinstance(error, Dropped):
            self._tally.dropped_connections += 1
            self._tell("the connection was dropped: what it brought was not recorded fast enough")
            await self._until_there_is_room()
            return None
        if error is not None and not isinstance(error, ProviderError):
            raise error
        if error is not None and not link.planned_end:
            self._tell(f"{error.code}: {error.detail}")
        return error

    async def _until_unwanted(self) -> None:
        while self._wanted:
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self, error: ProviderError | None, failures: int) -> None:
        """Wait before the next connection; a change of what is wanted ends it after a refusal."""
        self._tally.state = "waiting"
        pause = pause_after(failures, random.random())  # noqa: S311
        if error is not None and not error.retryable:
            self._tally.state, pause = "refused", REFUSED_SECONDS
        elif error is not None:
            pause = max(pause, error.retry_after or 0)
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._changed.wait()

    async def _until_there_is_room(self) -> None:
        self._tally.state = "held up"
        while self.intake.waiting_frames and self._wanted:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._room.wait()

    def _tell(self, error: str) -> None:
        self._tally.last_error = error
        log.warning("feed.disconnected", feed=self._feed.name, error=error)

    # One batch after the other.

    async def _record_all(self) -> None:
        while (batch := await self._next()) is not None:
            await self._record(batch)
            self.intake.done(batch)
            self._room.set()

    async def _next(self) -> Batch | Filled | None:
        """Return the next batch once it has collected a while; None: there will be none."""
        intake = self.intake
        while True:
            now = self._loop.time()
            intake.release(now)
            collected = intake.since is not None and now - intake.since >= COLLECT_SECONDS
            if self._outbox_full and not self._draining:
                await asyncio.sleep(TURN_SECONDS / 10)
            elif intake.ready or collected or self._draining:
                return intake.pop()
            elif intake.since is not None:
                await asyncio.sleep(intake.since + COLLECT_SECONDS - now)
            else:
                await self._something_to_record(now)

    async def _something_to_record(self, now: float) -> None:
        self._heard.clear()
        due = self.intake.next_due()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.001, due - now)):
                await self._heard.wait()

    async def _record(self, batch: Batch | Filled) -> None:
        """Record a batch, however long the database is away."""
        record = self._recording(batch)
        while True:
            try:
                await record()
            except FeedOvertaken:
                raise
            except RecordRefused as error:
                await self._record_parts(batch, error)
                return
            except StoreError as error:
                self._tally.last_error = f"{error.code}: {error.detail}"
                await asyncio.sleep(STORE_PAUSE_SECONDS)
            else:
                break
        if isinstance(batch, Batch) and batch.ticks:
            index, quote = batch.ticks[-1]
            self._tally.lag_ms = (batch.frames[index][0] - quote.timestamp) // MILLISECOND

    async def _record_parts(self, batch: Batch | Filled, error: RecordRefused) -> None:
        """Record all of a batch but the frame whose ticks can never be recorded; keep that."""
        if isinstance(batch, Filled):
            self._refuse(error, len(batch.quotes))
        elif len(batch.frames) > 1:
            for part in halves(batch):
                await self._record(part)
        else:
            self._refuse(error, len(batch.ticks))
            await self._record(Batch(batch.since, batch.frames, [], batch.states))

    def _refuse(self, error: RecordRefused, ticks: int) -> None:
        self._tally.unreadable += 1
        self._tally.last_error = f"{error.code}: {error.detail}"
        log.error("feed.refused", feed=self._feed.name, ticks=ticks, error=error.detail)

    def _recording(self, batch: Batch | Filled) -> Callable[[], Awaitable[object]]:
        """Return what records a batch, the same one each time it is called."""
        door, fence = self._means.door, self._fence
        if isinstance(batch, Filled):
            fetched = Fetched(batch.raw, batch.quotes)
            return lambda: door.record(fetched, fence, batch.states)
        frames = FrameBatch(
            id=new_batch_id(uuid7()),
            provider=self._feed.name,
            url=self._feed.url,
            frames=batch.frames,
        )
        return lambda: door.record_frames(frames, batch.ticks, fence, batch.states)

    # What is due each second.

    async def _keep(self) -> None:
        filling: asyncio.Task[None] | None = None
        renewed = self._loop.time()
        try:
            while True:
                await asyncio.sleep(TURN_SECONDS)
                self._tally.second_passed()
                if self._link is not None:
                    await self._link.check()
                await self._look_at_outbox()
                if self._loop.time() - renewed >= RENEW_SECONDS:
                    renewed = self._loop.time()
                    await self._renew()
                if filling is None or filling.done():
                    filling = asyncio.create_task(self._filling.fill())
        finally:
            if filling is not None:
                filling.cancel()
                await asyncio.wait([filling])

    async def _look_at_outbox(self) -> None:
        if self._link is None and not self.intake.waiting_frames:
            return
        with suppress(StoreError):  # Recording tells it.
            waiting = await self._means.waiting()
            full = waiting > self._means.rules.most_waiting
            if full and not self._outbox_full:
                self._tell(f"{waiting} events wait to be published: the feed is held up")
            self._outbox_full = full

    async def _renew(self) -> None:
        """Keep the claim, and tell how the feed fares.

        Raises:
            FeedOvertaken: it does not hold any more.
        """
        now, means = self._means.clock(), self._means
        status = self._tally.status(now, self.intake.states)
        try:
            ours = await means.store.renew(self._feed.name, self._fence.epoch, now + LEASE, status)
        except StoreError:
            return  # Recording tells it, and fails where the feed is taken over meanwhile.
        if not ours:
            raise FeedOvertaken(f"the feed {self._feed.name} was taken over")


def pause_after(failures: int, jitter: float) -> float:
    """Return the seconds to wait after so many connections in a row that came to nothing.

    Args:
        jitter: from 0 to 1, so that those who lost a vendor together do not come back together.
    """
    whole = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 20))
    return whole * (0.5 + jitter / 2)
