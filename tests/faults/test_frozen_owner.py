"""A relay that is frozen, loses its shards to another, and thaws with events still in its hands.

It sends them again: repeats with the same ids and bytes, behind all first appearances, counted by
`pricewire verify outbox`. Nothing is lost and no order changes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pricewire.storage.event_tables import LIVE
from tests.kafka_tools import KafkaTools
from tests.postgres_tools import LocalPostgres
from tests.service_tools import (
    PRICEWIRE,
    Load,
    Published,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]
PARTITIONS = 6


@dataclass(frozen=True)
class Relays:
    """One API; a relay that owns every shard; another one that waits for them."""

    url: str
    api: Service
    owner: Service
    peer: Service

    def query(self, sql: str) -> list[int]:
        async def run() -> list[int]:
            connection = await asyncpg.connect(self.url)
            try:
                return [row[0] for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def owners(self) -> set[int]:
        """The server's processes that hold shards of live prices of this database."""
        return set(
            self.query(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
                f"classid = {LIVE.lock_class} AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    def waiting(self) -> int:
        return self.query("SELECT count(*) FROM outbox")[0]

    def take_away(self, sessions: set[int]) -> None:
        """End sessions as a failover of the database, or an administrator, does."""
        listed = ", ".join(map(str, sessions))
        self.query(f"SELECT pg_terminate_backend(pid)::int FROM unnest(ARRAY[{listed}]) AS pid")

    def verify(self) -> dict[str, Any]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.api.home)}
        done = subprocess.run(
            [PRICEWIRE, "verify", "outbox", "--json"],
            env=environment | self.api.environment,
            cwd=self.api.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        counts, history = [json.loads(line) for line in done.stdout.splitlines()]
        assert history["published"] == 0
        return dict(counts)


@pytest.fixture
def topic() -> str:
    return f"frozen-{uuid4().hex[:8]}"


@pytest.fixture
def relays(
    kafka: KafkaTools, postgres: LocalPostgres, topic: str, tmp_path: Path
) -> Iterator[Relays]:
    url = postgres.database_url()
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS),
        "DATABASE_URL": url,
        "HISTORY_INTERVAL_SECONDS": "0.01",
    }
    api, owner, peer = (
        Service(tmp_path / name, environment, command)
        for name, command in (("api", "api"), ("owner", "relay"), ("peer", "relay"))
    )
    relays = Relays(url, api, owner, peer)
    with ExitStack() as stack:
        for each in (api, owner, peer):
            stack.callback(each.kill)
        api.start()
        owner.start(ready=False)
        eventually(lambda: len(relays.owners()) == PARTITIONS, 40)
        api.price("AAPL", wait_ms=20_000)
        peer.start(ready=False)
        yield relays


def test_thawed_behind_its_successor_it_repeats_the_same_events_and_loses_none(
    relays: Relays, kafka: KafkaTools, topic: str
) -> None:
    broker = kafka.broker.status().pid
    assert broker is not None
    owners = relays.owners()
    with Load(relays.api, SYMBOLS, threads=4) as load:
        eventually(lambda: len(load.acknowledged) > 100)
        # The broker stands still until the owner has its hands full.
        os.kill(broker, signal.SIGSTOP)
        try:
            eventually(lambda: relays.waiting() >= 300)
            time.sleep(0.6)  # it looks at its outbox twice a second
            relays.owner.signal(signal.SIGSTOP)
        finally:
            os.kill(broker, signal.SIGCONT)
        time.sleep(2)
        assert relays.owners() == owners  # an idle session keeps its locks for a minute

        relays.take_away(owners)
        eventually(lambda: len(relays.owners()) == PARTITIONS, 40)
        eventually(lambda: relays.waiting() < 100, 40)
        before = len(load.acknowledged)
        relays.owner.signal(signal.SIGCONT)
        eventually(lambda: "relay.database_lost" in relays.owner.log, 20)
        eventually(lambda: len(load.acknowledged) >= before + 100)
    eventually(relays.api.drained, 40)

    records = published(kafka, topic)
    first, repeats = _apart(records)
    assert_each_once_in_order(list(first.values()))
    assert_all_published(load.acknowledged, list(first.values()))
    assert len(repeats) >= 50
    for repeat in repeats:
        assert repeat == first[repeat.source, repeat.event_id]
    counts = relays.verify()
    assert counts["repeats"] == len(repeats)
    assert (counts["published"], counts["lacking"]) == (len(first), 0)
    assert "store.went_back" not in relays.peer.log + relays.owner.log
    assert relays.owner.stop() == 0
    assert relays.peer.stop() == 0


def _apart(
    records: list[Published],
) -> tuple[dict[tuple[str, str], Published], list[Published]]:
    """First appearances by source and id, in order, and all that came again."""
    first: dict[tuple[str, str], Published] = {}
    repeats = []
    for record in records:
        key = (record.source, record.event_id)
        if key in first:
            repeats.append(record)
        else:
            first[key] = record
    return first, repeats
