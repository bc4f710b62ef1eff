"""From six partitions to twelve in mid-stream: nothing lost, order kept, averages exact."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import murmur2
from confluent_kafka.admin import AdminClient, NewPartitions

from pricewire.storage.migrate import migrate
from tests.conftest import open_database
from tests.faults.nursery import Forked, warm
from tests.kafka_tools import KafkaTools
from tests.postgres_tools import LocalPostgres
from tests.service_tools import (
    Load,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
    running,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]


class Parts:
    """An API, a relay and two processors, as processes of their own on one PostgreSQL."""

    def __init__(self, kafka: KafkaTools, database_url: str, folder: Path) -> None:
        self.topic = f"events-{uuid4().hex[:8]}"
        self.folder = folder
        self.settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "KAFKA_PRICE_EVENTS_TOPIC": self.topic,
            "KAFKA_MOVING_AVERAGES_TOPIC": f"{self.topic}-averages",
            "KAFKA_GROUP_PREFIX": self.topic,
            "KAFKA_TOPIC_PARTITIONS": "6",
            "KAFKA_TOPIC_RETENTION_HOURS": "-1",
            "CHECKPOINT_SECONDS": "0.3",
            "HISTORY_INTERVAL_SECONDS": "0.01",
            "DATABASE_URL": database_url,
        }

    def api(self, **changes: str) -> Service:
        return Service(self.folder / "api", self.settings | changes, command="api")

    @contextmanager
    def working(self, **changes: str) -> Iterator[list[Forked]]:
        """A relay and two processors; leaving stops them cleanly."""
        commands = [("relay",), ("processor", "averages"), ("processor", "averages")]
        parts = [
            Forked(self.folder / f"part{number}", self.settings | changes, command)
            for number, command in enumerate(commands)
        ]
        for part in parts:
            part.start()
        try:
            yield parts
            for part in parts:
                assert part.stop() == 0, part.log[-3000:]
        finally:
            for part in parts:
                part.kill()

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run `pricewire topics repartition`; return what it printed."""
        home = self.folder / f"command-{uuid4().hex[:8]}"
        run = Forked(home, self.settings, ("topics", "repartition", *arguments))
        run.start()
        assert run.process is not None
        run.process.join(90)
        assert run.exit_code == code, run.log[-3000:]
        return run.log


@pytest.fixture
def parts(kafka: KafkaTools, postgres: LocalPostgres, tmp_path: Path) -> Parts:
    warm()
    url = postgres.database_url()
    asyncio.run(migrated(url))
    return Parts(kafka, url, tmp_path)


async def migrated(url: str) -> None:
    database = open_database(url)
    await migrate(database)
    await database.aclose()


def test_more_partitions_in_mid_stream(parts: Parts, kafka: KafkaTools) -> None:
    with running(parts.api()) as api, Load(api, SYMBOLS, threads=2) as load:
        with parts.working() as [relay, *_]:
            await_averages(kafka, parts, 200)
            refused = parts.command("--partitions", "12", "--seconds", "3", "--yes", code=1)
            assert "not drained within 3 s" in refused
            assert relay.runs
        # The API goes on recording: what it records from now on waits in the outbox.
        shown = parts.command("--partitions", "12")
        assert "nothing was done" in shown
        assert partitions_of(kafka, parts) == {6}
        fewer = parts.command("--partitions", "4", "--yes", code=1)
        assert "Kafka cannot take any away" in fewer.splitlines()[-1]
        load.pace = 0.5
        done = parts.command("--partitions", "12", "--yes")
        assert "KAFKA_TOPIC_PARTITIONS=12" in done
        assert partitions_of(kafka, parts) == {12}
        load.pace = 0.0
        # A door that was left running is fenced, and says what is right.
        status, _, body = api.get("/v1/prices/latest?symbol=AAPL")
        assert status == 503
        assert "KAFKA_TOPIC_PARTITIONS=12" in json.loads(body)["detail"]
    before = len(load.acknowledged)
    twelve = {"KAFKA_TOPIC_PARTITIONS": "12"}
    with running(parts.api(**twelve)) as api, parts.working(**twelve):
        with Load(api, SYMBOLS, threads=2) as more:
            eventually(lambda: len(more.acknowledged) > 200, 60)
        eventually(api.drained, 60)
        eventually(lambda: counted(api), 60)
        lag = api.json("/v1/lag")["lag"]
    acknowledged = load.acknowledged + more.acknowledged
    assert before > 100
    records = published(kafka, parts.topic)
    assert_all_published(acknowledged, records)
    in_order_over_both(records)
    assert_averages(kafka, parts, records)
    assert sum(one["counters"]["taken"] for one in lag) == len(records)
    trouble = ("repeats", "missing", "lost", "dead_letters", "expired")
    assert {one["counters"][name] for one in lag for name in trouble} == {0}


def test_another_number_stops_processors_until_repartition(parts: Parts, kafka: KafkaTools) -> None:
    """Topics that were given more by hand: nothing starts on them before the states moved too."""
    with running(parts.api()) as api, parts.working():
        for _ in range(3):
            for symbol in SYMBOLS:
                api.price(symbol, wait_ms=5000)
        eventually(lambda: counted(api), 60)
    twelve = {"KAFKA_TOPIC_PARTITIONS": "12"}
    started = parts.api(**twelve)
    started.start(ready=False)
    assert started.process is not None
    assert started.process.wait(60) == 1
    assert "keep their states for 6 partitions" in started.log
    give_by_hand(kafka, parts, 12)
    with parts.working() as [relay, processor, _]:
        line = "has 12 partitions, KAFKA_TOPIC_PARTITIONS says 6"
        eventually(lambda: line in relay.log and line in processor.log, 30)
    for _ in range(2):
        # Done once more it changes nothing.
        assert "KAFKA_TOPIC_PARTITIONS=12" in parts.command("--partitions", "12", "--yes")
    with running(parts.api(**twelve)) as api, parts.working(**twelve):
        for symbol in SYMBOLS * 3:
            api.price(symbol, wait_ms=5000)
        eventually(lambda: counted(api), 60)
    records = published(kafka, parts.topic)
    in_order_over_both(records)
    assert_averages(kafka, parts, records)


def counted(api: Service) -> bool:
    lag: dict[str, Any] = api.json("/v1/lag")
    expected = int(api.environment["KAFKA_TOPIC_PARTITIONS"])
    return lag["behind"] == 0 and len(lag["lag"]) == expected


def await_averages(kafka: KafkaTools, parts: Parts, count: int) -> None:
    averages = parts.settings["KAFKA_MOVING_AVERAGES_TOPIC"]

    def are_there() -> bool:
        found = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10)
        return averages in found.topics and len(list(kafka.each(averages))) >= count

    eventually(are_there, 60, pause=1)


def partitions_of(kafka: KafkaTools, parts: Parts) -> set[int]:
    """How many partitions each of the topics has."""
    found = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10)
    ours = [one for name, one in found.topics.items() if name.startswith(parts.topic)]
    assert len(ours) == 3
    return {len(one.partitions) for one in ours}


def give_by_hand(kafka: KafkaTools, parts: Parts, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.create_partitions([NewPartitions(parts.topic, partitions)]).values():
        future.result(10)


def in_order_over_both(records: list[Any]) -> None:
    """Each symbol's events first on the partition of six, then on the one of twelve."""
    by_symbol: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        by_symbol[record.key].append(record)
    moved = 0
    for symbol, found in by_symbol.items():
        old, new = (int(murmur2(symbol.encode(), count)) for count in (6, 12))
        found.sort(key=lambda one: one.partition != old)
        assert_each_once_in_order(found)
        assert {one.partition for one in found} == {old, new}
        moved += old != new
    assert moved > 0


def assert_averages(kafka: KafkaTools, parts: Parts, records: list[Any]) -> None:
    """What a naive pass over each symbol's prices gives, under each id once as far as it says."""
    expected: dict[str, Decimal] = {}
    windows: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=5))
    for record in sorted(records, key=lambda one: int(one.event_id.rpartition("~")[2])):
        window = windows[record.key]
        window.append(json.loads(record.value, parse_float=Decimal)["price"])
        if len(window) == 5:
            expected[f"{record.event_id}~sma:5"] = sum(window, Decimal(0)) / 5
    found: dict[str, set[bytes]] = defaultdict(set)
    for record in published_averages(kafka, parts):
        found[record[0]].add(record[1])
    assert {name for name, values in found.items() if len(values) > 1} == set()
    values = {
        name: json.loads(next(iter(values)), parse_float=Decimal)["value"]
        for name, values in found.items()
    }
    assert set(values) == set(expected)
    for name, value in values.items():
        assert abs(Decimal(value) - expected[name]) < Decimal("1e-6"), name


def published_averages(kafka: KafkaTools, parts: Parts) -> Iterator[tuple[str, bytes]]:
    for message in kafka.each(parts.settings["KAFKA_MOVING_AVERAGES_TOPIC"]):
        headers: Any = dict(message.headers() or [])
        yield headers["ce_id"].decode(), message.value() or b""
