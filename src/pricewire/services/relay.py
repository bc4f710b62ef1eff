"""The relay: publishes each shard's events from the outbox, in order, and marks what arrived.

Theory of operation (docs/decisions/0004). A shard is a partition of the topic and has one owner,
who holds its lock. The owner reconciles with the topic's end, then reads the outbox in order, hands
events to a producer that never gives up, and marks them once reported. Whatever goes wrong with the
producer leads back to one place: purge, new producer, reconcile, go on at the first unmarked event.
Whatever goes wrong with the database leads one step further back: purge, then take the lock anew.

Invariants: an event is handed over only after its predecessor; a row is deleted only on its
delivery report, or because it was read on the topic; nothing is handed over without the lock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from pricewire.domain.event import EventId, Publication, Source, WaitingEvent
from pricewire.errors import KafkaTrouble, StoreError
from pricewire.services.outage import Interruption, Outage, ShardStatus, tell_replaced
from pricewire.services.publishing import (
    OpenPublisher,
    Position,
    Publisher,
    Report,
    Shards,
    ShardStore,
    Topic,
    Verdict,
    judge,
    not_of_the_future,
)

MAX_UNREPORTED = 2_000
READ_LIMIT = 500
POLL_SECONDS = 0.5
CYCLE_SECONDS = 0.05
"""Under load a shard works once in this time, so that its reads and marks come in batches."""
SETTLE_SECONDS = 1.0
"""How long a former owner's last appends are given before the topic's end is read."""
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
IDLE_SECONDS = 30.0
"""How long a shard that sleeps keeps its producer without an event."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RelayRules:
    """When an event counts as stuck, and how long a shutdown may flush (seconds).

    Args:
        sleeps: ask nothing of Kafka and hold no producer while there is nothing to publish; for
            topics that get events now and then. What is handed over is reconciled before as ever.
    """

    topic: str
    attempt: timedelta
    attempts: int
    flush_seconds: float
    sleeps: bool = False


@dataclass(slots=True)
class _HandedOver:
    event: WaitingEvent
    at: float
    publication: Publication | None = None


class ShardRelay:
    """One shard's loop; `run` returns after `stop`, everything reported marked, the lock free.

    Args:
        published: called on the event loop for each event that the broker has.
    """

    def __init__(
        self,
        shard: int,
        *,
        shards: Shards,
        topic: Topic,
        open_publisher: OpenPublisher,
        published: Callable[[Publication], None],
        rules: RelayRules,
        clock: Callable[[], datetime],
    ) -> None:
        self.status = ShardStatus(shard, rules.topic)
        self._shard = shard
        self._shards = shards
        self._topic = topic
        self._open_publisher = open_publisher
        self._published = published
        self._rules = rules
        self._clock = clock
        self._stopping = False
        self._news = asyncio.Event()
        self._single = False
        self._outage = Outage(
            self.status,
            attempt=rules.attempt,
            attempts=rules.attempts,
            clock=clock,
        )
        self._failed: str | None = None
        self._unmarked: OrderedDict[int, _HandedOver] = OrderedDict()
        self._topic_id = ""
        self._next_offset = 0
        """Where the partition ended when last heard of; an append below it is on another log."""

    def tell_through(self, interruption: Interruption) -> None:
        """Share what is said of interruptions with the other shards of the topic."""
        self._outage.interruption = interruption

    def wake(self) -> None:
        """Say that there may be something to do; carries no events."""
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    async def run(self) -> None:
        while not self._stopping:
            try:
                async with self._shards.hold(self._shard) as store:
                    if store is None:
                        self.status.phase = "owned by another process"
                        await self._pause(POLL_SECONDS)
                    else:
                        await self._own(store)
            except StoreError as error:
                self.status.phase = "database is away"
                self.status.last_error = error.detail
                log.warning("relay.database_lost", shard=self._shard, error=error.detail)
                await self._pause(MAX_PAUSE_SECONDS)
        self.status.phase = "stopped"

    async def _own(self, store: ShardStore) -> None:
        self._outage.resume((await store.state()).blocked_since)
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping:
            published_before = self.status.published
            if not await self._sleep(store):
                return
            try:
                source = await self._reconcile(store)
                await self._publish(store, source)
            except KafkaTrouble as error:
                self.status.rebuilds += 1
                pause = FIRST_PAUSE_SECONDS if self.status.published > published_before else pause
                self._outage.interrupted(error)
                await self._watch(store, await store.waiting(1), error.detail)
                await self._pause(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)

    async def _sleep(self, store: ShardStore) -> bool:
        """Wait until there is something to publish, where the rules say so; False: told to stop."""
        while self._rules.sleeps and not self._stopping:
            self._news.clear()
            if await store.waiting(1):
                return True
            await self._outage.over(store)
            self._outage.flows()
            self.status.phase = "asleep"
            await self._wait_for_news(POLL_SECONDS)
        return not self._stopping

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for a shutdown."""
        end = asyncio.get_running_loop().time() + seconds
        while not self._stopping and (left := end - asyncio.get_running_loop().time()) > 0:
            self._news.clear()
            await self._wait_for_news(left)

    async def _wait_for_news(self, seconds: float) -> None:
        # Not wait_for: it forgets a cancellation that comes together with news.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    # Reconcile: what may have been handed over before is looked up on the topic itself.

    async def _reconcile(self, store: ShardStore) -> Source:
        self.status.phase = "reconciling"
        self._topic_id = await self._topic.ensure()
        await self._pause(SETTLE_SECONDS)
        source = await store.source()
        position = (await store.state()).position
        start = position.next_offset if position and position.topic_id == self._topic_id else None
        verdict = Verdict()
        end = start or 0
        async with aclosing(self._topic.tail(self._shard, start)) as batches:
            async for batch in batches:
                ours = [one for one in batch.records if one.source.store_id == source.store_id]
                judge(verdict, ours, await store.lookup([record.event_id for record in ours]))
                end = batch.next_offset
                if self._stopping:
                    break
        # A reading that was broken off knows no end, and keeps no position.
        read_to = None if self._stopping else Position(self._topic_id, end)
        tell_replaced(self._shard, position, read_to)
        if verdict.lost:
            source = await self._start_generation(store, verdict)
        await self._mark_arrived(store, verdict, read_to)
        self.status.generation = source.generation
        self._next_offset = end
        return source

    async def _start_generation(self, store: ShardStore, verdict: Verdict) -> Source:
        source = await store.start_generation(above=verdict.newest_generation)
        log.error(
            "store.went_back",
            shard=self._shard,
            lost_events=len(verdict.lost),
            first=str(verdict.lost[0]),
            last=str(verdict.lost[-1]),
            new_source=str(source),
            meaning="the topic has events of ours that the database does not know: it went back "
            "to an older state or is a copy; new events carry a new generation",
        )
        return source

    async def _mark_arrived(
        self, store: ShardStore, verdict: Verdict, position: Position | None
    ) -> None:
        arrived = {
            outbox_id: self._publication(
                record.event_id, record.source, record.offset, self._clock()
            )
            for outbox_id, record in verdict.arrived.items()
        }
        await store.mark(arrived, position)
        for publication in arrived.values():
            self._published(publication)
        self.status.found_on_topic += len(arrived)
        if arrived:
            log.info("relay.found_on_topic", shard=self._shard, events=len(arrived))

    # Publish: hand over in order, mark what was reported.

    async def _publish(self, store: ShardStore, source: Source) -> None:
        self.status.phase = "publishing"
        self._unmarked.clear()
        self._failed = None
        publisher = self._open_publisher(
            self._shard,
            single=self._single,
            reported=lambda reports: self._take_reports(reports, source),
        )
        try:
            await self._cycles(store, publisher, source)
            await publisher.flush(self._rules.flush_seconds)
        finally:
            # Before the lock is let go: nothing of ours may land behind the next owner's events.
            await publisher.aclose()
        await self._mark_reported(store)

    async def _cycles(self, store: ShardStore, publisher: Publisher, source: Source) -> None:
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while not self._stopping:
            began = loop.time()
            self._news.clear()
            await self._mark_reported(store)
            more = await self._hand_over(store, publisher, source)
            unreported = self._unreported()
            complaint = self._topic.complaint(self._shard)
            await self._watch(store, unreported, publisher.last_error, complaint)
            self._check(publisher)
            if self._topic.replaced(self._topic_id):
                raise KafkaTrouble("the topic was deleted and made anew")
            if not unreported:
                self.status.last_error = None
                self._outage.flows()
            if self._unmarked:
                idle_since = loop.time()
            elif self._rules.sleeps and loop.time() - idle_since > IDLE_SECONDS:
                return
            if not more:
                await self._wait_for_news(POLL_SECONDS)
            await asyncio.sleep(max(0.0, began + CYCLE_SECONDS - loop.time()) if self._busy else 0)

    @property
    def _busy(self) -> bool:
        return len(self._unmarked) > 1

    async def _hand_over(self, store: ShardStore, publisher: Publisher, source: Source) -> bool:
        """Hand over what waits and has not been; return whether there may be more."""
        room = min(READ_LIMIT, MAX_UNREPORTED - len(self._unmarked))
        if room <= 0:
            return False
        fresh = await self._not_handed_over(store, room)
        # Nothing follows an event that failed: checked with no await before the hand-over.
        self._check(publisher)
        now, at = self._clock(), asyncio.get_running_loop().time()
        for event in fresh:
            self._unmarked[event.outbox_id] = _HandedOver(event, at)
            publisher.hand_over(not_of_the_future(event, now), source)
        return len(fresh) == room

    async def _not_handed_over(self, store: ShardStore, room: int) -> list[WaitingEvent]:
        """Read on behind what was handed over; from the first row, if others wait before that.

        A row that commits late, with a lower id than one handed over already, is of another symbol
        and must not be passed by. Counting finds it (docs/decisions/0011).
        """
        before, behind = await store.waiting_behind(max(self._unmarked, default=0), room)
        if before == len(self._unmarked):
            return behind
        waiting = await store.waiting(len(self._unmarked) + room)
        return [event for event in waiting if event.outbox_id not in self._unmarked][:room]

    def _take_reports(self, reports: list[Report], source: Source) -> None:
        for report in reports:
            handed = self._unmarked.get(report.outbox_id)
            if report.error is not None:
                self._single = self._single or report.too_large
                self._failed = self._failed or report.error
            elif self._is_elsewhere(report):
                self._failed = self._failed or (
                    "an offset was given twice: the topic was made anew, or the broker lost records"
                )
            elif handed is not None:
                if report.offset is not None:
                    self._next_offset = report.offset + 1
                handed.publication = self._publication(
                    handed.event.event_id, source, report.offset, self._clock()
                )
                self.status.published += 1
                self._outage.flows()
                self._published(handed.publication)
        self.wake()

    def _is_elsewhere(self, report: Report) -> bool:
        """Return whether it was appended to another log than the one that was reconciled with.

        It is not marked, and so found there, or published anew, once that one is reconciled with.
        """
        return report.offset is not None and report.offset < self._next_offset

    def _check(self, publisher: Publisher) -> None:
        # A producer that failed purges its queue: its own reason says more than those reports.
        reason = publisher.failure or self._failed
        if reason is not None:
            raise KafkaTrouble(reason)

    async def _mark_reported(self, store: ShardStore) -> None:
        """Mark the events up to the first that is not reported."""
        reported: dict[int, Publication] = {}
        for outbox_id, handed in self._unmarked.items():
            if handed.publication is None:
                break
            reported[outbox_id] = handed.publication
        if not reported:
            return
        offsets = [item.offset for item in reported.values() if item.offset is not None]
        position = Position(self._topic_id, max(offsets) + 1) if offsets else None
        await store.mark(reported, position)
        for outbox_id in reported:
            del self._unmarked[outbox_id]

    def _publication(
        self, event_id: EventId, source: Source, offset: int | None, at: datetime
    ) -> Publication:
        return Publication(event_id, source.generation, self._rules.topic, self._shard, offset, at)

    async def _watch(
        self,
        store: ShardStore,
        first: list[WaitingEvent],
        error: str | None,
        complaint: str | None = None,
    ) -> None:
        """Count the attempts of the first unpublished event."""
        if not first:
            await self._outage.over(store)
            return
        handed, now = self._unmarked.get(first[0].outbox_id), asyncio.get_running_loop().time()
        tried_since = handed.at if handed else now
        await self._outage.goes_on(store, first[0].event_id, tried_since, now, error, complaint)

    def _unreported(self) -> list[WaitingEvent]:
        return [item.event for item in self._unmarked.values() if item.publication is None][:1]


class Relay:
    """All shards of a topic; runs one loop for each.

    Args:
        interruption: shared with the relays of other topics.
    """

    def __init__(self, shards: list[ShardRelay], interruption: Interruption | None = None) -> None:
        self._shards = shards
        interruption = interruption or Interruption()
        for shard in shards:
            shard.tell_through(interruption)

    @property
    def statuses(self) -> list[ShardStatus]:
        return [shard.status for shard in self._shards]

    def wake(self, shards: set[int]) -> None:
        for shard in shards:
            self._shards[shard].wake()

    def stop(self) -> None:
        for shard in self._shards:
            shard.stop()

    async def run(self) -> None:
        """Run until `stop`; a bug in one shard ends all, loudly."""
        async with asyncio.TaskGroup() as group:
            for shard in self._shards:
                group.create_task(shard.run())
