"""The relay's ports in memory: one shard's rows and lock, a partition, producers; and virtual time.

They behave like the real thing where the relay can tell the difference, refuse what the real thing
would never allow, and write what happens in a journal. `in_virtual_time` runs a test on an event
loop whose clock jumps to the next timer, so that waiting costs nothing and order is repeatable.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pricewire.domain.event import PRICE_RECORDED, EventId, Publication, Source, WaitingEvent
from pricewire.errors import KafkaTrouble, KafkaUnavailable, StoreUnavailable
from pricewire.services.publishing import (
    Known,
    Position,
    Publisher,
    Report,
    ShardState,
    ShardStore,
    TailBatch,
    TailRecord,
)
from tests.builders import RECORDED_AT

Reported = Callable[[list[Report]], None]


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.now += max(0.0, timeout) + 1e-6
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Each turn takes a microsecond; while nothing runs, the clock jumps to the next timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a `VirtualLoop`; no threads, no sockets."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for `condition`, at most `seconds` of the loop's time."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds} s"
        await asyncio.sleep(0.001)


class FakeDatabase:
    """One shard's events, outbox, publications, position and lock; fulfils `Shards`."""

    LATENCY = 0.0005

    def __init__(self, journal: list[str], shard: int = 0) -> None:
        self.journal = journal
        self.shard = shard
        self.store_id = uuid4()
        self.generation = 1
        self.events: dict[EventId, UUID] = {}
        self.outbox: dict[int, WaitingEvent] = {}
        self.publications: dict[EventId, Publication] = {}
        self.position: Position | None = None
        self.blocked_since: datetime | None = None
        self.told: list[tuple[datetime | None, str | None]] = []
        self.owner: object | None = None
        self.failing: set[str] = set()
        """Names of operations that fail once; `mark?` does its work and then fails."""
        self.rows_read = 0
        self._sequences: Counter[str] = Counter()
        self._last_id = 0

    def prepare(self, symbol: str) -> WaitingEvent:
        """Draw an event's numbers, as a transaction that is not committed yet."""
        self._last_id += 1
        self._sequences[symbol] += 1
        event_id = EventId(symbol, self._sequences[symbol])
        return WaitingEvent(
            self._last_id, event_id, PRICE_RECORDED, uuid4(), RECORDED_AT, b"{}", ()
        )

    def show(self, event: WaitingEvent) -> WaitingEvent:
        """Commit a prepared event."""
        self.events[event.event_id] = event.raw_response_id
        self.outbox[event.outbox_id] = event
        return event

    def commit(self, *symbols: str) -> list[WaitingEvent]:
        return [self.show(self.prepare(symbol)) for symbol in symbols]

    @property
    def waiting(self) -> list[str]:
        return [str(self.outbox[outbox_id].event_id) for outbox_id in sorted(self.outbox)]

    def lose_session(self) -> None:
        """End the owner's session as a server would: the lock is free at once."""
        self.owner = None

    def hold(self, shard: int) -> AbstractAsyncContextManager[ShardStore | None]:
        assert shard == self.shard
        return self._hold()

    @asynccontextmanager
    async def _hold(self) -> AsyncIterator[ShardStore | None]:
        await asyncio.sleep(self.LATENCY)
        if "hold" in self.failing:
            raise StoreUnavailable("no connection")
        if self.owner is not None:
            yield None
            return
        session = FakeShardStore(self)
        self.owner = session
        self.journal.append("lock")
        try:
            yield session
        finally:
            self.journal.append("unlock")
            if self.owner is session:
                self.owner = None


class FakeShardStore:
    """Fulfils `ShardStore` while its session owns the lock; inserts only what is new."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def _round_trip(self, operation: str) -> FakeDatabase:
        await asyncio.sleep(self._database.LATENCY)
        if operation in self._database.failing:
            self._database.failing.discard(operation)
            raise StoreUnavailable(f"connection lost at {operation}")
        if self._database.owner is not self:
            raise StoreUnavailable("the session is gone")
        return self._database

    async def source(self) -> Source:
        database = await self._round_trip("source")
        return Source(database.store_id, database.generation)

    async def state(self) -> ShardState:
        database = await self._round_trip("state")
        return ShardState(database.position, database.blocked_since)

    async def waiting(self, limit: int) -> list[WaitingEvent]:
        database = await self._round_trip("waiting")
        return await self._read(database, 0, limit)

    async def waiting_behind(self, outbox_id: int, limit: int) -> tuple[int, list[WaitingEvent]]:
        database = await self._round_trip("waiting")
        before = sum(one <= outbox_id for one in database.outbox)
        return before, await self._read(database, outbox_id, limit)

    async def _read(self, database: FakeDatabase, above: int, limit: int) -> list[WaitingEvent]:
        ids = sorted(one for one in database.outbox if one > above)[:limit]
        found = [database.outbox[one] for one in ids]
        database.rows_read += len(found)
        await asyncio.sleep(database.LATENCY)
        return found

    async def lookup(self, ids: Sequence[EventId]) -> dict[EventId, Known]:
        database = await self._round_trip("lookup")
        waiting = {event.event_id: event.outbox_id for event in database.outbox.values()}
        return {
            event_id: Known(database.events[event_id], waiting.get(event_id))
            for event_id in ids
            if event_id in database.events
        }

    async def mark(
        self, publications: Mapping[int, Publication], position: Position | None
    ) -> None:
        database = await self._round_trip("mark")
        for outbox_id, publication in publications.items():
            event = database.outbox.pop(outbox_id)
            assert event.event_id == publication.event_id
            assert event.event_id not in database.publications, "marked twice"
            database.publications[event.event_id] = publication
        database.position = position or database.position
        await self._round_trip("mark?")

    async def start_generation(self, above: int) -> Source:
        database = await self._round_trip("start_generation")
        database.generation = max(database.generation, above) + 1
        return Source(database.store_id, database.generation)

    async def tell_blocked(self, since: datetime | None, error: str | None) -> None:
        database = await self._round_trip("tell_blocked")
        database.blocked_since = since
        database.told.append((since, error))


class FakeTopic:
    """One partition; fulfils `Topic`."""

    BATCH = 2

    def __init__(self, journal: list[str], shard: int = 0) -> None:
        self.journal = journal
        self.shard = shard
        self.id = str(uuid4())
        self.records: list[TailRecord] = []
        self.low = 0
        self.away = False
        self.complaints: dict[int, str] = {}
        self.starts: list[int | None] = []
        """From where the partition was read, each time."""

    @property
    def ids(self) -> list[str]:
        return [str(record.event_id) for record in self.records]

    def append(self, event_id: EventId, source: Source, raw_response_id: UUID | None) -> int:
        offset = len(self.records)
        self.records.append(TailRecord(event_id, source, raw_response_id, offset))
        return offset

    async def ensure(self) -> str:
        await asyncio.sleep(0.01)
        if self.away:
            raise KafkaUnavailable("no Kafka broker answers")
        return self.id

    def replaced(self, topic_id: str) -> bool:
        return topic_id != self.id

    def complaint(self, shard: int) -> str | None:
        return self.complaints.get(shard)

    async def tail(self, shard: int, start: int | None) -> AsyncGenerator[TailBatch, None]:
        assert shard == self.shard
        self.starts.append(start)
        self.journal.append("read")
        end = len(self.records)
        offset = start if start is not None and self.low <= start <= end else self.low
        while True:
            await asyncio.sleep(0.001)
            if self.away:
                raise KafkaUnavailable("the partition could not be read to its end")
            batch = self.records[offset : min(offset + self.BATCH, end)]
            offset += len(batch)
            yield TailBatch(batch, offset)
            if offset == end:
                return


class FakePublisher:
    """A gapless producer; fulfils `Publisher`. What it has is delivered when the test says so."""

    def __init__(self, publishers: FakePublishers, reported: Reported, *, single: bool) -> None:
        self.single = single
        self.queue: deque[tuple[WaitingEvent, Source]] = deque()
        self.in_flight: list[WaitingEvent] = []
        """On the topic, but not reported."""
        self.dead = False
        self.killed = False
        self.closed = False
        self.failure: str | None = None
        self.last_error: str | None = None
        self._publishers = publishers
        self._reported = reported

    def hand_over(self, event: WaitingEvent, source: Source) -> None:
        assert not self.closed or self.killed, "handed over to a closed producer"
        if self._publishers.bug:
            raise self._publishers.bug
        if self._publishers.refuses:
            self._publishers.refuses = False
            raise KafkaTrouble("Local: Queue full")
        self._publishers.journal.append(f"hand {event.event_id}")
        if self.killed:
            return
        self.queue.append((event, source))
        if self._publishers.automatic:
            asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(
        self, count: int | None = None, *, skip: int = 0, lose_reports: bool = False
    ) -> int:
        """Append up to `count` of what is queued to the partition; return how many."""
        if self.dead or self.closed or self._publishers.topic.away:
            return 0
        reports = []
        count = len(self.queue) - skip if count is None else min(count, len(self.queue) - skip)
        for _ in range(count):
            event, source = self.queue[skip]
            del self.queue[skip]
            offset = self._publishers.topic.append(event.event_id, source, event.raw_response_id)
            if lose_reports:
                self.in_flight.append(event)
            else:
                reports.append(Report(event.outbox_id, offset))
        self._reported(reports)
        return count

    def acknowledge(self) -> None:
        """Report what is in flight as a retry finds it: there already, at no known offset."""
        if not self.dead and not self.closed:
            reports = [Report(event.outbox_id) for event in self.in_flight]
            self.in_flight.clear()
            self._reported(reports)

    def fail(self, error: str = "Broker: Topic authorization failed", **rest: bool) -> None:
        """Report the first queued event as failed; a gapless producer sends nothing behind it."""
        if self.queue and not self.closed:
            event, _ = self.queue.popleft()
            self.dead = True
            self._publishers.journal.append(f"fail {event.event_id}")
            self._reported([Report(event.outbox_id, error=error, **rest)])

    def die(self) -> None:
        """Raise a fatal error; the client says so to whoever asks."""
        self.dead = True
        self.failure = self.last_error = "Fatal: producer id was fenced"

    def kill(self) -> None:
        """End with the process: no reports, nothing sent any more."""
        self.closed = self.killed = True
        self.queue.clear()
        self.in_flight.clear()

    async def flush(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        self._publishers.journal.append("flush")
        while self.queue or self.in_flight:
            if self._publishers.flushes:
                self.deliver()
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.01))

    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        purged = [*self.in_flight, *(event for event, _ in self.queue)]
        if not self.closed:
            self.closed = True
            self._publishers.journal.append("close")
            error = "Local: Purged in queue"
            self._reported([Report(event.outbox_id, error=error) for event in purged])


class FakePublishers:
    """Opens producers for one partition; fulfils `OpenPublisher`."""

    def __init__(self, topic: FakeTopic, journal: list[str]) -> None:
        self.topic = topic
        self.journal = journal
        self.opened: list[FakePublisher] = []
        self.automatic = True
        """Whether what is handed over is delivered at once."""
        self.flushes = True
        """Whether a flush delivers what is queued."""
        self.bug: Exception | None = None
        self.refuses = False
        """Whether the next event is refused by the client itself."""

    @property
    def last(self) -> FakePublisher:
        return self.opened[-1]

    @property
    def queued(self) -> list[str]:
        """What the open producer has and the broker has not."""
        if not self.opened or self.last.closed:
            return []
        return [str(event.event_id) for event, _ in self.last.queue]

    def deliver_all(self) -> None:
        """Deliver what is queued and all that is to come."""
        self.automatic = True
        if self.opened:
            self.last.acknowledge()
            self.last.deliver()

    def __call__(self, shard: int, *, single: bool, reported: Reported) -> Publisher:
        assert shard == self.topic.shard
        assert all(publisher.closed for publisher in self.opened), "two producers of one shard"
        self.journal.append("open")
        self.opened.append(FakePublisher(self, reported, single=single))
        return self.last


async def ended(task: Awaitable[None], seconds: float) -> None:
    """Wait for a part to end by itself within `seconds`."""
    await asyncio.wait_for(task, seconds)
