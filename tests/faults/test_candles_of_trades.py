"""Candles of real trades off a real broker, through `kill -9`: equal to DuckDB's, at the API.

The trades come late, twice and behind their successors while what counts them is killed. 20,000
of them by default; PRICEWIRE_TRADES_ROWS=500000 takes all.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from confluent_kafka import Producer

from tests.candle_reference import (
    ZONE,
    Bar,
    BarKey,
    Disorder,
    Reference,
    assert_answered,
    disordered,
    places,
)
from tests.cluster_tools import Cluster
from tests.faults.nursery import Forked, warm
from tests.faults.processor_tools import BROKER, SOURCE, partition_of
from tests.service_tools import Service, eventually
from tests.trades import ROWS, SYMBOL, lines, trades_file

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(1200)]

PROCESSOR = "candles-history"
TRADES = min(ROWS, int(os.environ.get("PRICEWIRE_TRADES_ROWS", "20000")))
KILLS = int(os.environ.get("PRICEWIRE_TEST_KILLS", "4"))
LOCAL = ZoneInfo(ZONE)


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trades_file(tmp_path_factory.mktemp("trades"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    warm()
    with Cluster(tmp_path_factory.mktemp("candles"), brokers=1, properties=BROKER) as cluster:
        yield cluster


@dataclass
class Feed:
    """Puts trades on a topic as the relay does, in `seconds`, in disorder."""

    servers: str
    topic: str
    file: Path
    seconds: float
    choice: random.Random
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.log = disordered(range(TRADES), Disorder(), self.choice)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        rows = [(time, price) for time, price, _ in islice(lines(self.file), TRADES)]
        producer = Producer({"bootstrap.servers": self.servers, "enable.idempotence": True})
        began, partition = time.monotonic(), partition_of(SYMBOL)
        for number, one in enumerate(self.log):
            value = _value(*rows[one.row], one.sequence)
            headers = _headers(one.sequence)
            producer.produce(self.topic, value, SYMBOL, partition, headers=headers)
            if number % 200 == 0:
                producer.poll(0)
                due = began + self.seconds * number / len(self.log)
                time.sleep(max(0.0, due - time.monotonic()))
        assert producer.flush(60) == 0


def _value(local: str, price: str, sequence: int) -> str:
    at = datetime.fromisoformat(local).replace(tzinfo=LOCAL).astimezone(UTC)
    return (
        f'{{"symbol":"{SYMBOL}","price":{price},"timestamp":"{at.replace(tzinfo=None).isoformat()}Z",'
        f'"source":"cme","raw_response_id":"{UUID(int=sequence)}"}}'
    )


def _headers(sequence: int) -> list[tuple[str, str | bytes | None]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{SYMBOL}~h{sequence}".encode()),
        ("ce_type", b"price.backfilled"),
        ("ce_source", SOURCE.encode()),
        ("content-type", b"application/json"),
    ]


class Work:
    """What counts the trades, and an API to ask: one `pricewire up` with SQLite, two processes."""

    def __init__(self, cluster: Cluster, database_url: str, folder: Path) -> None:
        self.topic = f"history-{uuid4().hex[:8]}"
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "KAFKA_PRICE_EVENTS_TOPIC": f"{self.topic}-live",
            "KAFKA_PRICE_HISTORY_TOPIC": self.topic,
            "KAFKA_MOVING_AVERAGES_TOPIC": f"{self.topic}-averages",
            "KAFKA_CANDLES_TOPIC": f"{self.topic}-candles",
            "KAFKA_GROUP_PREFIX": self.topic,
            "KAFKA_SESSION_SECONDS": "2",
            "KAFKA_TOPIC_RETENTION_HOURS": "-1",
            "CHECKPOINT_SECONDS": "0.3",
            "DATABASE_URL": database_url,
            "LOG_LEVEL": "WARNING",
        }
        command = "up" if database_url.startswith("sqlite") else "api"
        self.service = Service(folder / "service", settings, command=command)
        self._processor = Forked(folder / "processor", settings, ("processor", PROCESSOR))

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self.service.start()
            self._start_processor()
            eventually(lambda: self.next_offset is not None, 60)
            yield
        finally:
            self.service.kill()
            self._processor.kill()

    def kill(self) -> None:
        """Kill what counts, and start it again."""
        if self.service.command == "up":
            self.service.kill()
            self.service.start()
        else:
            assert self._processor.runs, self._processor.log[-3000:]
            self._processor.kill()
            self._start_processor()

    def _start_processor(self) -> None:
        if self.service.command == "api":
            self._processor.start()

    @property
    def lag(self) -> dict[str, Any]:
        """Of the partition that has the symbol; nothing where nobody has claimed it yet."""
        status, _, body = self.service.get("/v1/lag")
        told = json.loads(body)["lag"] if status == 200 else []
        mine = [one for one in told if one["processor"] == PROCESSOR]
        return next((one for one in mine if one["partition"] == partition_of(SYMBOL)), {})

    @property
    def next_offset(self) -> int | None:
        lag = self.lag
        return (lag["next_offset"] or 0) if lag else None


def test_candles_of_trades_are_exact_while_what_counts_them_is_killed(
    cluster: Cluster, database_url: str, trades: Path, tmp_path: Path
) -> None:
    choice = random.Random(TRADES)
    work = Work(cluster, database_url, tmp_path)
    feed = Feed(cluster.bootstrap_servers, work.topic, trades, KILLS * 6, choice)
    with work.running():
        feed.thread.start()
        for _ in range(KILLS):
            before = work.next_offset or 0
            eventually(lambda: (work.next_offset or 0) > before, 60)  # noqa: B023
            time.sleep(choice.uniform(0, 1.5))
            # Who is killed when all is counted proves nothing.
            assert 0 < (work.next_offset or 0) < len(feed.log)
            work.kill()
        feed.thread.join()
        eventually(lambda: work.next_offset == len(feed.log), 300, pause=0.3)
        counted = places(feed.log)
        bars = Reference(trades).bars(counted)
        assert_answered(work.service, SYMBOL, bars)
        counters = work.lag["counters"]
        repeats = len(feed.log) - len(counted)
        assert (counters["taken"], counters["repeats"]) == (len(counted), repeats)
        assert_published(cluster, work, bars)


def assert_published(cluster: Cluster, work: Work, bars: dict[BarKey, Bar]) -> None:
    """An id on the topic has one content; of each candle the highest revision is the last one."""
    contents: dict[bytes, bytes] = {}
    revisions: dict[BarKey, int] = {}
    for record in cluster.tools.each(f"{work.topic}-candles"):
        name = dict(record.headers() or [])["ce_id"]
        assert isinstance(name, bytes)
        value = record.value() or b""
        assert contents.setdefault(name, value) == value, name
        one = json.loads(value)
        key = (one["interval"], datetime.fromisoformat(one["start"]))
        revisions[key] = max(revisions.get(key, 0), one["revision"])
    assert revisions == {key: bar.revision for key, bar in bars.items() if bar.revision}
