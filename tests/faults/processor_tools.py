"""Events that come in while processors come and go, and the naive reference they are held to.

Used by the tests of processors beside it. The feed puts events on a topic with repeats, late ones
and gaps, and keeps the log as it must lie there; `Reference` reads that log event by event, as
plainly as it can be said. Invariant of `assert_exact` and `assert_states`: nothing of the program's
own arithmetic or bookkeeping is used to say what must come out.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
from confluent_kafka import Message, Producer, murmur2
from sqlalchemy import Connection, select

from pricewire.kafka.follower import AverageIn
from pricewire.services.processing import Counters
from pricewire.storage.migrate import migrate
from pricewire.storage.tables import processor_states, processors
from pricewire.streams.explained import explained
from tests.cluster_tools import Cluster
from tests.conftest import open_database
from tests.faults.nursery import Forked
from tests.postgres_tools import LocalPostgres

PARTITIONS = 6
SOURCE = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"
BROKER = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "500",
}
"""Of a broker whose groups miss a dead member after two seconds, with either protocol."""


def price_of(symbol: str, sequence: int) -> Decimal:
    return Decimal(10_000 + (sequence * 7919 + len(symbol)) % 5_000) / 100


def partition_of(symbol: str, partitions: int = PARTITIONS) -> int:
    found: int = murmur2(symbol.encode(), partitions)
    return found


@dataclass
class Feed:
    """Puts events on a topic: some twice, some late, some never; keeps what lies on it."""

    servers: str
    topic: str
    symbols: int
    events: int
    seconds: float
    choice: random.Random
    log: dict[int, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))

    def run(self) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "enable.idempotence": True})
        began = time.monotonic()
        for number, (name, sequence) in enumerate(self._schedule()):
            self._produce(producer, name, sequence)
            if number % 500 == 0:
                producer.poll(0)
                due = began + self.seconds * number / self.events
                time.sleep(max(0.0, due - time.monotonic()))
        assert producer.flush(60) == 0

    @property
    def ends(self) -> dict[int, int]:
        return {number: len(records) for number, records in self.log.items()}

    def _schedule(self) -> Iterator[tuple[str, int]]:
        """Give symbols and sequences as they come: one in 97 again, in 211 late, in 307 never."""
        late: deque[tuple[int, str, int]] = deque()
        for number in range(self.events):
            name, sequence = f"S{number % self.symbols}", number // self.symbols + 1
            while late and late[0][0] <= number:
                yield late.popleft()[1:]
            if sequence > 1 and number % 307 == 3:
                continue
            if sequence > 1 and number % 211 == 5:
                late.append((number + 3 * self.symbols, name, sequence))
                continue
            yield name, sequence
            if number % 97 == 0:
                yield name, max(1, sequence - self.choice.choice([0, 0, 1, 7]))
        yield from (one[1:] for one in late)

    def _produce(self, producer: Producer, name: str, sequence: int) -> None:
        partition = partition_of(name)
        value = (
            f'{{"symbol":"{name}","price":{price_of(name, sequence):.2f},'
            f'"timestamp":"2024-03-20T10:30:00Z","source":"test",'
            f'"raw_response_id":"{UUID(int=sequence)}"}}'
        )
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{name}~{sequence}".encode()),
            ("ce_type", b"price.recorded"),
            ("ce_source", SOURCE.encode()),
            ("content-type", b"application/json"),
        ]
        producer.produce(self.topic, value, name, partition, headers=headers)
        self.log[partition].append((name, sequence))


@dataclass
class SymbolReference:
    """What a symbol's state must be: the last five prices, and what was seen and what never."""

    window: deque[tuple[str, Decimal]] = field(default_factory=lambda: deque(maxlen=5))
    seen: set[int] = field(default_factory=set)
    first: int = 0
    last: int = 0

    @property
    def missing(self) -> set[int]:
        return set(range(self.first, self.last + 1)) - self.seen


class Reference:
    """One clean pass over a partition's log, as far as it was read."""

    def __init__(self) -> None:
        self.symbols: dict[str, SymbolReference] = {}
        self.averages: list[tuple[str, Decimal]] = []
        self.repeats = self.late = self.taken = 0

    def read(self, name: str, sequence: int) -> None:
        symbol = self.symbols.setdefault(name, SymbolReference())
        symbol.first = symbol.first or sequence
        if sequence in symbol.seen or sequence < symbol.first:
            self.repeats += 1
            return
        self.late += sequence < symbol.last
        symbol.last = max(symbol.last, sequence)
        self.taken += 1
        symbol.seen.add(sequence)
        symbol.window.append((f"{name}~{sequence}", price_of(name, sequence)))
        if len(symbol.window) == 5:
            mean = sum((price for _, price in symbol.window), Decimal(0)) / 5
            self.averages.append((f"{name}~{sequence}~sma:5", mean))

    @property
    def counters(self) -> Counters:
        missing = sum(len(one.missing) for one in self.symbols.values())
        return Counters(self.taken, self.repeats, self.late, missing)


@dataclass(frozen=True)
class Stored:
    """A partition's checkpoint, as it is in the database at one moment."""

    partition: int
    epoch: int
    next_offset: int
    counters: Counters
    states: Mapping[str, bytes]


@dataclass
class Run:
    """One topic, its database, its processors and its feed."""

    database_url: str
    folder: Path
    servers: str
    feed: Feed
    protocol: str = "classic"
    processors: list[Forked] = field(default_factory=list)
    fed: threading.Thread = field(default_factory=threading.Thread)
    looked: list[Stored] = field(default_factory=list)

    @property
    def averages(self) -> str:
        return f"{self.feed.topic}-averages"

    @property
    def alive(self) -> list[Forked]:
        return [one for one in self.processors if one.runs]

    @property
    def settings(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "KAFKA_PRICE_EVENTS_TOPIC": self.feed.topic,
            "KAFKA_MOVING_AVERAGES_TOPIC": self.averages,
            "KAFKA_GROUP_PREFIX": self.feed.topic,
            "KAFKA_GROUP_PROTOCOL": self.protocol,
            "KAFKA_SESSION_SECONDS": "2",
            "KAFKA_TOPIC_RETENTION_HOURS": "-1",
            "CHECKPOINT_SECONDS": "0.3",
            "DATABASE_URL": self.database_url,
        }

    def add(self) -> Forked:
        home = self.folder / f"p{len(self.processors)}"
        service = Forked(home, self.settings, ("processor", "averages"))
        service.start()
        self.processors.append(service)
        return service

    async def migrate(self) -> None:
        database = open_database(self.database_url)
        await migrate(database)
        await database.aclose()

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Let events come in from now on; leaving waits for the last one."""
        self.fed = threading.Thread(target=self.feed.run)
        self.fed.start()
        try:
            yield
        finally:
            self.fed.join()

    def look(self) -> list[Stored]:
        """Look at all checkpoints at one moment, and keep what was seen for `assert_states`."""
        seen = asyncio.run(self._look())
        self.looked += seen
        return seen

    async def _look(self) -> list[Stored]:
        database = open_database(self.database_url)
        try:
            async with database.snapshot() as snapshot:
                return await snapshot.read(_stored)
        finally:
            await database.aclose()

    def is_done(self) -> bool:
        for service in self.processors:
            code = service.exit_code
            assert code in (None, 0, -signal.SIGKILL, -signal.SIGTERM), service.log[-3000:]
        ends = {one.partition: one.next_offset for one in asyncio.run(self._look())}
        return ends == self.feed.ends


def _stored(connection: Connection) -> list[Stored]:
    states: dict[int, dict[str, bytes]] = defaultdict(dict)
    mine = processor_states.c.processor == "averages"
    for row in connection.execute(select(processor_states).where(mine)):
        states[row.partition][row.symbol] = row.state
    return [
        Stored(
            row.partition,
            row.epoch,
            row.next_offset or 0,
            msgspec.json.decode(row.counters, type=Counters),
            states[row.partition],
        )
        for row in connection.execute(
            select(processors).where(processors.c.processor == "averages")
        )
    ]


@contextmanager
def running(
    cluster: Cluster,
    postgres: LocalPostgres,
    folder: Path,
    *,
    events: int,
    seconds: float,
    seed: int = 0,
    protocol: str = "classic",
) -> Iterator[Run]:
    name, servers = f"events-{uuid4().hex[:8]}", cluster.bootstrap_servers
    cluster.tools.create_topic(name, PARTITIONS)
    feed = Feed(servers, name, 100, events, seconds, random.Random(seed))
    run = Run(postgres.database_url(), folder, servers, feed, protocol)
    asyncio.run(run.migrate())
    try:
        with run.feeding():
            yield run
    finally:
        for service in run.processors:
            service.kill()


def headers_of(record: Message) -> dict[str, str]:
    pairs = dict(record.headers() or []).items()
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def assert_exact(run: Run, cluster: Cluster) -> None:
    """Everything that must be true of a run once all processors have come to its end."""
    run.look()
    references = assert_states(run)
    repeated = assert_averages(run, cluster, references)
    counters = sum_of([one.counters for one in references.values()])
    print(f"{run.feed.topic}: {counters.taken} events counted, {counters.repeats} repeats dropped, "
          f"{counters.healed} late, {counters.missing} missing; {repeated} averages put out again; "
          f"{len(run.looked)} checkpoints looked at")  # fmt: skip


def assert_averages(run: Run, cluster: Cluster, references: Mapping[int, Reference]) -> int:
    """Every average of the reference under its id, in its order; an id has one content.

    Returns how many were put out again.
    """
    seen: dict[str, tuple[bytes, str, int]] = {}
    found: dict[int, list[tuple[str, Decimal]]] = defaultdict(list)
    records = 0
    for record in cluster.tools.each(run.averages, PARTITIONS):
        headers, records = headers_of(record), records + 1
        event_id, value, at = headers["ce_id"], record.value() or b"", record.timestamp()[1]
        content = (value, headers["ce_source"], at)
        if event_id not in seen:
            seen[event_id] = content
            average = msgspec.json.decode(value, type=AverageIn)
            found[record.partition() or 0].append((event_id, average.value))
        assert seen[event_id] == content, event_id
    assert found == {number: one.averages for number, one in references.items()}
    return records - len(seen)


def assert_states(run: Run) -> dict[int, Reference]:
    """Each checkpoint that was looked at is what the reference makes of the records before it.

    Returns the references, read to the end of the log.
    """
    references = {}
    for number, log in run.feed.log.items():
        looked = [one for one in run.looked if one.partition == number]
        reference, at = Reference(), 0
        for stored in sorted(looked, key=lambda one: one.next_offset):
            for record in log[at : stored.next_offset]:
                reference.read(*record)
            at = stored.next_offset
            _assert_state(stored, reference)
        assert at == len(log), "the last one looked at is at the end"
        references[number] = reference
    return references


def _assert_state(stored: Stored, reference: Reference) -> None:
    place = f"partition {stored.partition} at {stored.next_offset}"
    assert stored.counters == reference.counters, place
    assert set(stored.states) == set(reference.symbols), place
    for name, state in stored.states.items():
        expected = reference.symbols[name]
        found = explained(state)["sma:5"]
        assert [(one.event_id, one.price) for one in found.entries] == [*expected.window], place
        missing = {one for first, last in found.missing for one in range(first, last + 1)}
        assert missing == expected.missing, f"{place}: {name}"


def sum_of(counters: list[Counters]) -> Counters:
    names = Counters.__struct_fields__
    return Counters(**{name: sum(getattr(one, name) for one in counters) for name in names})
