"""Processors that are killed, stopped, frozen and joined by others: averages stay exact.

Real processes on a real broker and PostgreSQL, while events come in. `PRICEWIRE_TEST_KILLS`,
`PRICEWIRE_TEST_EVENTS` and `PRICEWIRE_TEST_SCHEDULES` make it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from confluent_kafka import Message, Producer, murmur2

from pricewire.kafka.follower import AverageIn
from pricewire.storage.checkpoints import Position, SqlCheckpoints
from pricewire.storage.migrate import migrate
from pricewire.streams.explained import explained
from tests.cluster_tools import Cluster
from tests.conftest import open_database
from tests.kafka_tools import KafkaTools
from tests.postgres_tools import LocalPostgres
from tests.service_tools import Service, eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

PARTITIONS = 6
KILLS = int(os.environ.get("PRICEWIRE_TEST_KILLS", "6"))
EVENTS = int(os.environ.get("PRICEWIRE_TEST_EVENTS", "60000"))
SCHEDULES = int(os.environ.get("PRICEWIRE_TEST_SCHEDULES", "2"))
SOURCE = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    properties = {"group.min.session.timeout.ms": "1000"}
    folder = tmp_path_factory.mktemp("processors")
    with Cluster(folder, brokers=1, properties=properties) as cluster:
        yield cluster


@dataclass
class Feed:
    """Puts events on a topic, some of them twice, and knows what averages must come out."""

    cluster: Cluster
    topic: str
    symbols: int
    events: int
    seconds: float
    repeats: int = 0
    expected: dict[int, list[tuple[str, Decimal]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    windows: dict[str, deque[tuple[str, Decimal]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=5))
    )
    ends: list[int] = field(default_factory=lambda: [0] * PARTITIONS)

    def run(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self.cluster.bootstrap_servers, "enable.idempotence": True}
        )
        began = time.monotonic()
        for number in range(self.events):
            name = f"S{number % self.symbols}"
            sequence = number // self.symbols + 1
            self._produce(producer, name, sequence)
            if number % 97 == 0:
                self.repeats += 1
                self._produce(producer, name, sequence, again=True)
            if number % 500 == 0:
                producer.poll(0)
                due = began + self.seconds * number / self.events
                time.sleep(max(0.0, due - time.monotonic()))
        assert producer.flush(30) == 0

    def _produce(self, producer: Producer, name: str, sequence: int, again: bool = False) -> None:
        price = Decimal(10_000 + (sequence * 7919 + len(name)) % 5_000) / 100
        partition = murmur2(name.encode(), PARTITIONS)
        value = (
            f'{{"symbol":"{name}","price":{price:.2f},"timestamp":"2024-03-20T10:30:00Z",'
            f'"source":"test","raw_response_id":"{UUID(int=sequence)}"}}'
        )
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{name}~{sequence}".encode()),
            ("ce_type", b"price.recorded"),
            ("ce_source", SOURCE.encode()),
            ("content-type", b"application/json"),
        ]
        producer.produce(self.topic, value, name, partition, headers=headers)
        self.ends[partition] += 1
        if again:
            return
        window = self.windows[name]
        window.append((f"{name}~{sequence}", price))
        if len(window) == 5:
            average = sum((one for _, one in window), Decimal(0)) / 5
            self.expected[partition].append((f"{name}~{sequence}~sma:5", average))


@dataclass
class Run:
    """One topic, its database, its processors and its feed."""

    cluster: Cluster
    database_url: str
    folder: Path
    name: str
    feed: Feed
    processors: list[Service] = field(default_factory=list)
    fed: threading.Thread = field(default_factory=threading.Thread)

    @property
    def averages(self) -> str:
        return f"{self.name}-averages"

    def add(self) -> Service:
        service = Service(
            self.folder / f"p{len(self.processors)}",
            {
                "KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers,
                "KAFKA_PRICE_EVENTS_TOPIC": self.name,
                "KAFKA_MOVING_AVERAGES_TOPIC": self.averages,
                "KAFKA_GROUP_PREFIX": self.name,
                "KAFKA_SESSION_SECONDS": "2",
                "KAFKA_TOPIC_RETENTION_HOURS": "-1",
                "CHECKPOINT_SECONDS": "0.3",
                "DATABASE_URL": self.database_url,
            },
            command="processor",
            arguments=("averages",),
        )
        service.start(ready=False)
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

    def positions(self) -> list[Position]:
        return asyncio.run(self._positions())

    async def _positions(self) -> list[Position]:
        database = open_database(self.database_url)
        try:
            return await SqlCheckpoints(database).positions()
        finally:
            await database.aclose()

    async def windows(self) -> dict[str, list[tuple[str, Decimal]]]:
        """What the last checkpoint holds of every symbol."""
        database = open_database(self.database_url)
        found = {}
        try:
            checkpoints = SqlCheckpoints(database)
            for symbol in await checkpoints.symbols("averages"):
                [stored] = await checkpoints.states("averages", symbol)
                entries = explained(stored.state)["sma:5"].entries
                found[symbol] = [(one.event_id, one.price) for one in entries]
        finally:
            await database.aclose()
        return found

    def is_done(self) -> bool:
        for service in self.processors:
            code = service.process.poll() if service.process else 0
            assert code in (None, 0, -signal.SIGKILL, -signal.SIGTERM), service.log[-3000:]
        ends = {position.partition: position.next_offset for position in self.positions()}
        return ends == {n: end for n, end in enumerate(self.feed.ends) if end}


@contextmanager
def running(
    cluster: Cluster, postgres: LocalPostgres, folder: Path, **feed: float
) -> Iterator[Run]:
    name = f"events-{uuid4().hex[:8]}"
    cluster.tools.create_topic(name, PARTITIONS)
    made = Feed(cluster, name, symbols=100, events=int(feed["events"]), seconds=feed["seconds"])
    run = Run(cluster, postgres.database_url(), folder, name, made)
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


def assert_exact(run: Run, tools: KafkaTools) -> None:
    """Every average once as far as its id and value go, in the log's order; the state as well."""
    seen: dict[str, tuple[bytes, str]] = {}
    found: dict[int, list[tuple[str, Decimal]]] = defaultdict(list)
    records = tools.read_all(run.averages, PARTITIONS)
    for record in records:
        headers = headers_of(record)
        event_id, value = headers["ce_id"], record.value() or b""
        content = (value, headers["ce_source"])
        if event_id not in seen:
            seen[event_id] = content
            average = msgspec.json.decode(value, type=AverageIn)
            found[record.partition() or 0].append((event_id, average.value))
        assert seen[event_id] == content, event_id
    assert found == run.feed.expected
    print(f"{len(records)} averages, {len(records) - len(seen)} of them repeats")
    counters = [position.counters for position in run.positions()]
    assert sum(one.taken for one in counters) == run.feed.events
    assert sum(one.repeats for one in counters) == run.feed.repeats
    assert [(one.missing, one.lost, one.dead_letters) for one in counters] == [(0, 0, 0)] * len(
        counters
    )
    expected = {name: list(window) for name, window in run.feed.windows.items()}
    assert asyncio.run(run.windows()) == expected


def test_averages_stay_exact_while_processors_are_killed(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path
) -> None:
    choice = random.Random(20)
    with running(cluster, postgres, tmp_path, events=EVENTS, seconds=KILLS * 3) as run:
        run.add(), run.add()
        for _ in range(KILLS):
            time.sleep(choice.uniform(0.5, 4.5))
            victim = choice.choice(run.processors)
            victim.kill()
            victim.start(ready=False)
        run.fed.join()
        eventually(run.is_done, 120, pause=0.3)
        assert_exact(run, cluster.tools)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_averages_stay_exact_under_any_schedule(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path, seed: int
) -> None:
    """Joins, clean leaves, kills, and freezes past the take-over."""
    choice = random.Random(seed)
    with running(cluster, postgres, tmp_path, events=20_000, seconds=10) as run:
        run.add()
        while run.fed.is_alive():
            time.sleep(choice.uniform(0.2, 2.0))
            one_move(run, choice)
        run.fed.join()
        run.add()
        eventually(run.is_done, 90, pause=0.3)
        assert_exact(run, cluster.tools)


def one_move(run: Run, choice: random.Random) -> None:
    alive = [one for one in run.processors if one.process and one.process.poll() is None]
    move = choice.choice(["join", "leave", "kill", "freeze"])
    if move == "join" or not alive:
        if len(alive) < 3:
            run.add()
        return
    victim = choice.choice(alive)
    assert victim.process is not None
    if move == "leave":
        # -SIGTERM: so early that nobody listened to signals yet.
        assert victim.stop(30) in (0, -signal.SIGTERM), victim.log[-3000:]
    elif move == "kill":
        victim.kill()
    else:
        victim.process.send_signal(signal.SIGSTOP)
        time.sleep(choice.uniform(1, 4))
        victim.process.send_signal(signal.SIGCONT)


def test_a_stopped_processor_leaves_nothing_behind(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path
) -> None:
    """SIGTERM: the last checkpoint, out of the group, exit 0; nothing is put out twice."""
    with running(cluster, postgres, tmp_path, events=5_000, seconds=3) as run:
        first = run.add()
        eventually(lambda: any(one.next_offset for one in run.positions()), 30)
        assert first.stop(30) == 0, first.log[-3000:]
        run.add()
        run.fed.join()
        eventually(run.is_done, 60, pause=0.3)
        assert_exact(run, cluster.tools)
        ids = [headers_of(one)["ce_id"] for one in cluster.tools.read_all(run.averages)]
        assert len(ids) == len(set(ids))
