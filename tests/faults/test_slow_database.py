"""A database that does not take checkpoints for a while, before a topic with a large lag.

Reading stops, the processor stays in its group, memory stays within bounds that do not depend on
the lag, and afterwards everything is counted exactly. PRICEWIRE_TEST_EVENTS makes the lag larger.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.cluster_tools import Cluster
from tests.faults.impatient_service import IMPATIENT
from tests.faults.processor_tools import BROKER, PARTITIONS, Feed, Run, assert_exact
from tests.postgres_tools import LocalPostgres
from tests.service_tools import Service, eventually
from tests.service_tools import running as service_running

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]

EVENTS = max(300_000, int(os.environ.get("PRICEWIRE_TEST_EVENTS", "0")))
MOST_MB = 320
"""By which the service may grow, while it waits and while it catches up. Each of its two processors
on the topic would need about a kilobyte for every record that waits."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slow"), brokers=1, properties=BROKER) as cluster:
        yield cluster


class Lock:
    """Holds off whoever writes processors' states, and nobody who reads them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._held, self._over = threading.Event(), threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self._hold()))
        thread.start()
        assert self._held.wait(30)
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    async def _hold(self) -> None:
        connection = await asyncpg.connect(self._url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE processor_states IN SHARE ROW EXCLUSIVE MODE")
            self._held.set()
            await asyncio.to_thread(self._over.wait)
        await connection.close()


def memory_mb(service: Service) -> int:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["VmRSS"].split()[0]) // 1024


def parts(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.json("/health/ready")["parts"]
    return {name: found[name] for name in ("averages", "candles")}


def put_out(run: Run, cluster: Cluster) -> int:
    """How many averages lie on their topic."""
    return sum(1 for _ in cluster.tools.each(run.averages))


def test_reading_stops_while_the_database_takes_no_checkpoint(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path
) -> None:
    topic, servers = f"events-{uuid4().hex[:8]}", cluster.bootstrap_servers
    cluster.tools.create_topic(topic, PARTITIONS)
    feed = Feed(servers, topic, 100, EVENTS, 0, random.Random(1))
    run = Run(postgres.database_url(), tmp_path, servers, feed)
    settings = run.settings | {
        "KAFKA_PRICE_HISTORY_TOPIC": f"{topic}-history",
        "KAFKA_CANDLES_TOPIC": f"{topic}-candles",
    }
    with service_running(Service(tmp_path / "service", settings, program=IMPATIENT)) as service:
        eventually(lambda: is_done(service, []), 60)
        check(service, run, cluster)


def check(service: Service, run: Run, cluster: Cluster) -> None:
    memory, waits = [memory_mb(service)], "waiting for the database"
    with Lock(run.database_url).held(), run.feeding():
        eventually(lambda: {one["phase"] for one in parts(service).values()} == {waits}, 90)
        run.fed.join()
        # The lag outlasts what they have read; what they have read is put out.
        time.sleep(1)
        counted = put_out(run, cluster)
        assert 0 < counted < EVENTS / 2
        for _ in range(5):
            time.sleep(1)
            memory.append(memory_mb(service))
        print(f"{counted} of {EVENTS} averages while it waits; {memory} MB")
        assert put_out(run, cluster) == counted
        assert {(one["phase"], one["restarts"]) for one in parts(service).values()} == {(waits, 0)}
    eventually(lambda: is_done(service, memory), 240, pause=0.5)
    print(f"{max(memory)} MB at most")
    assert max(memory) - memory[0] < MOST_MB
    assert {one["restarts"] for one in parts(service).values()} == {0}
    assert service.stop() == 0
    assert_exact(run, cluster)
    # It waited in place: nothing was put out a second time.
    ids = [dict(one.headers() or [])["ce_id"] for one in cluster.tools.each(run.averages)]
    assert len(ids) == len(set(ids))


def is_done(service: Service, memory: list[int]) -> bool:
    memory.append(memory_mb(service))
    told = service.json("/v1/lag")
    return bool(told["behind"] == 0 and len(told["lag"]) == 18)
