"""What a crash at any moment leaves behind: every acknowledged event on the topic, none twice.

Each promise is tried on the real service: killed under load, frozen in a transaction, its database
put back to a copy, its shard's lock taken from it. `PRICEWIRE_TEST_KILLS` says how many kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.kafka_tools import KafkaTools
from tests.postgres_tools import LocalPostgres, postgres_server
from tests.service_tools import (
    Load,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
)

pytestmark = pytest.mark.kafka

KILLS = int(os.environ.get("PRICEWIRE_TEST_KILLS", "9"))
SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]


@pytest.fixture
def topic() -> str:
    return f"crashes-{uuid4().hex[:8]}"


@pytest.fixture
def environment(kafka: KafkaTools, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "HISTORY_INTERVAL_SECONDS": "0.01",
        "SHUTDOWN_SECONDS": "2",
    }


@pytest.fixture
def service(environment: dict[str, str], database_url: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "home", environment | {"DATABASE_URL": database_url})
    yield service
    service.kill()


@pytest.mark.timeout(600)
def test_kill_9_under_load_loses_nothing_and_repeats_nothing(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    """Every third time the broker is frozen first, so that over 100 events are unreported."""
    dice = random.Random(20_261_123)
    acknowledged = []
    broker = kafka.broker.status().pid
    assert broker is not None
    for turn in range(KILLS):
        service.start()
        with Load(service, SYMBOLS) as load:
            eventually(lambda: len(load.acknowledged) >= 50)
            if turn % 3 == 0:
                eventually(service.publishes)
                os.kill(broker, signal.SIGSTOP)
                before = len(load.acknowledged)
                eventually(lambda: len(load.acknowledged) >= before + 150)  # noqa: B023
                waiting = service.json("/health/ready")["parts"]["outbox"]["waiting"]
                service.kill()
                os.kill(broker, signal.SIGCONT)
                assert waiting >= 100
            else:
                time.sleep(dice.uniform(0, 1.5))
                service.kill()
        acknowledged += load.acknowledged
    service.start()
    eventually(service.publishes, 40)
    eventually(service.drained, 40)
    records = published(kafka, topic)
    assert_each_once_in_order(records)
    assert_all_published(acknowledged, records)


def test_a_database_put_back_to_a_copy_starts_a_new_generation(
    kafka: KafkaTools, topic: str, environment: dict[str, str], tmp_path: Path
) -> None:
    service = Service(tmp_path / "home", environment)
    copy = tmp_path / "copy.db"
    database = service.home / "pricewire.db"
    service.start()
    first = [service.price("AAPL") for _ in range(30)]
    eventually(service.drained)
    assert service.stop() == 0
    _copy(database, copy)

    service.start()
    lost = [service.price("AAPL") for _ in range(100)]
    eventually(service.drained)
    assert service.stop() == 0
    for file in service.home.glob("pricewire.db*"):
        file.unlink()
    shutil.copy(copy, database)

    service.start()
    again = [service.price(symbol) for symbol in ("AAPL", "MSFT") for _ in range(20)]
    eventually(service.drained, 30)
    assert service.stop() == 0
    assert "store.went_back" in service.log

    records = published(kafka, topic)
    assert len(records) == len(first) + len(lost) + len(again)
    identities = {(record.source, record.event_id) for record in records}
    assert len(identities) == len(records)
    generations = {record.source.rpartition("/")[2] for record in records if record.key == "AAPL"}
    assert generations == {"1", "2"}
    assert again[0]["event"]["id"] == lost[0]["event"]["id"] == "AAPL~31"

    service.start()
    service.price("AAPL", wait_ms=10_000)
    assert service.stop() == 0
    assert service.log.count("store.went_back") == 1
    assert published(kafka, topic)[-1].source.endswith("/2")


def _copy(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    with source, target:
        source.backup(target)
    source.close()
    target.close()


@pytest.fixture
def parts(
    environment: dict[str, str], postgres: LocalPostgres, tmp_path: Path
) -> Iterator[tuple[list[Service], str]]:
    """Four API processes and two relays over one PostgreSQL."""
    url = postgres.database_url()
    given = environment | {"DATABASE_URL": url, "HISTORY_FILE": str(_ten_symbols(tmp_path))}
    commands = ["api"] * 4 + ["relay"] * 2
    services = [
        Service(tmp_path / f"{command}-{number}", given, command)
        for number, command in enumerate(commands)
    ]
    with ExitStack() as stack:
        for each in services:
            stack.callback(each.kill)
            each.start(ready=False)
        for api in services[:4]:
            eventually(api.answers, 60)
        yield services, url


def _ten_symbols(folder: Path) -> Path:
    file = folder / "ten.csv"
    rows = [
        f"SYM{number},2024-01-{day:02},{100 + day}.50"
        for day in range(1, 29)
        for number in range(10)
    ]
    file.write_text("symbol,timestamp,price\n" + "\n".join(rows) + "\n")
    return file


@pytest.mark.postgres
def test_four_processes_record_the_same_symbols_and_one_freezes_before_its_commit(
    parts: tuple[list[Service], str], kafka: KafkaTools, topic: str
) -> None:
    services, url = parts
    apis = services[:4]
    names = [f"SYM{number}" for number in range(10)]
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(api, names, threads=4)) for api in apis]
        eventually(lambda: all(len(load.acknowledged) > 50 for load in loads), 30)
        frozen = _freeze_in_a_transaction(apis, url)
        try:
            before = [len(load.acknowledged) for load in loads]
            time.sleep(10)
            after = [len(load.acknowledged) for load in loads]
        finally:
            frozen.signal(signal.SIGCONT)
        time.sleep(1)
    others = [load for load, api in zip(loads, apis, strict=True) if api is not frozen]
    assert max(load.slowest for load in others) < 3
    grown = [b > a for a, b, api in zip(before, after, apis, strict=True) if api is not frozen]
    assert all(grown)
    acknowledged = [price for load in loads for price in load.acknowledged]
    eventually(apis[0].drained, 30)
    records = published(kafka, topic)
    assert_each_once_in_order(records)
    assert_all_published(acknowledged, records)


def _freeze_in_a_transaction(apis: list[Service], url: str) -> Service:
    """Stop a process at a moment at which its backend idles in a transaction with locks."""
    for _ in range(400):
        victim = random.choice(apis)
        victim.signal(signal.SIGSTOP)
        time.sleep(0.02)
        held = asyncio.run(_scalar(url, _HELD))
        if held:
            return victim
        victim.signal(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("no process could be frozen in a transaction")


_HELD = """
    SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
    WHERE a.application_name = 'pricewire' AND a.state = 'idle in transaction'
      AND a.state_change < clock_timestamp() - interval '15 ms'
      AND l.relation = 'symbols'::regclass AND l.mode = 'RowShareLock'
"""


async def _scalar(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        value: int = await connection.fetchval(query)
        return value
    finally:
        await connection.close()


@pytest.mark.postgres
def test_relays_take_over_when_one_is_killed_and_when_a_lock_is_lost(
    parts: tuple[list[Service], str], kafka: KafkaTools, topic: str
) -> None:
    services, url = parts
    apis, relays = services[:4], services[4:]
    names = [f"SYM{number}" for number in range(10)]
    with Load(apis[0], names) as load:
        eventually(lambda: len(load.acknowledged) > 100, 30)
        terminate = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'"
        )
        asyncio.run(_scalar(url, terminate))
        time.sleep(2)
        relays[0].kill()
        time.sleep(2)
        relays[0].start(ready=False)
        time.sleep(1)
        relays[1].kill()
        time.sleep(1)
    eventually(apis[0].drained, 40)
    records = published(kafka, topic)
    assert_each_once_in_order(records)
    assert_all_published(load.acknowledged, records)


@pytest.mark.postgres
def test_without_a_database_nothing_is_answered_or_published(
    kafka: KafkaTools, environment: dict[str, str], topic: str, tmp_path: Path
) -> None:
    folder = Path(f"/tmp/pricewire-postgres-{uuid4().hex}")
    try:
        with postgres_server(folder) as server:
            url = server.database_url()
            service = Service(tmp_path / "home", environment | {"DATABASE_URL": url})
            service.start()
            service.price("AAPL", wait_ms=10_000)
            server.stop()
            try:
                status, headers, _ = service.get("/v1/prices/latest?symbol=AAPL")
                assert status == 503
                assert int(headers["retry-after"]) > 0
                assert service.get("/health/ready")[0] == 503
                assert service.get("/health/live")[0] == 200
            finally:
                server.start_again()
            eventually(lambda: service.get("/v1/prices/latest?symbol=AAPL")[0] == 200)
            eventually(service.drained, 30)
            assert service.stop() == 0
        assert_each_once_in_order(published(kafka, topic))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
