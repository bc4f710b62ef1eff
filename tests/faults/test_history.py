"""Real trades through imports that are killed: each once, with its digits, and their candles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.candle_reference import Reference, assert_answered
from tests.kafka_tools import KafkaTools
from tests.service_tools import PRICEWIRE, Service, eventually, taken_apart
from tests.trades import ROWS, SYMBOL, first_rows, lines, trades_file

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(2400)]

ZONE = "America/Chicago"
PER_DATABASE = {"sqlite": 50_000, "postgres": 50_000}
"""How many rows; PRICEWIRE_TRADES_ROWS=500000 takes all of them on both."""


@pytest.fixture(scope="session")
def all_trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trades_file(tmp_path_factory.mktemp("trades"))


@pytest.fixture
def rows(database_url: str) -> int:
    kind = "sqlite" if database_url.startswith("sqlite") else "postgres"
    return min(ROWS, int(os.environ.get("PRICEWIRE_TRADES_ROWS", PER_DATABASE[kind])))


@pytest.fixture
def service(kafka: KafkaTools, database_url: str, tmp_path: Path) -> Iterator[Service]:
    name = uuid4().hex[:8]
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"events-{name}",
        "KAFKA_PRICE_HISTORY_TOPIC": f"history-{name}",
        "KAFKA_MOVING_AVERAGES_TOPIC": f"averages-{name}",
        "KAFKA_CANDLES_TOPIC": f"candles-{name}",
        "KAFKA_GROUP_PREFIX": f"group-{name}",
        "KAFKA_TOPIC_RETENTION_HOURS": "-1",
        "DATABASE_URL": database_url,
        "LOG_LEVEL": "WARNING",
    }
    service = Service(tmp_path / "home", environment)
    service.start()
    yield service
    service.kill()


class Importing:
    """`pricewire import` of a file into a service, as a process of its own."""

    def __init__(self, service: Service, file: Path, folder: Path) -> None:
        self._service = service
        self._out = folder / "import.txt"
        options = ["--symbol", SYMBOL, "--timezone", ZONE, "--source", "cme", "--currency", "USD"]
        self._command = [PRICEWIRE, "import", str(file), *options]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "API_PORT": str(service.port),
        }

    def start(self) -> subprocess.Popen[bytes]:
        with self._out.open("wb") as out:
            return subprocess.Popen(
                self._command, env=self._environment, cwd=self._out.parent, stdout=out, stderr=out
            )

    def finish(self) -> str:
        process = self.start()
        assert process.wait(600) == 0, self._out.read_text()
        return self._out.read_text()

    def kill_at(self, rows: int) -> None:
        """Kill it once at least so many rows are recorded."""
        process = self.start()
        self.wait_for(rows, process)
        process.kill()
        process.wait()

    def wait_for(self, rows: int, process: subprocess.Popen[bytes]) -> None:
        def there() -> bool:
            assert process.poll() is None, f"it ended before: {self._out.read_text()}"
            return self.known(rows)

        eventually(there, 300)

    def known(self, rows: int) -> bool:
        status, _, _ = self._service.get(f"/v1/events/{SYMBOL}~h{rows}")
        return status == 200


def test_trades_of_a_killed_import_are_all_there_once_and_published_once(
    service: Service, kafka: KafkaTools, all_trades: Path, rows: int, tmp_path: Path
) -> None:
    file = first_rows(all_trades, rows, tmp_path / "trades.csv")
    importing = Importing(service, file, tmp_path)
    importing.kill_at(rows // 10)
    importing.kill_at(rows * 3 // 10)
    # The service dies under the third, which waits for it to come back.
    third = importing.start()
    importing.wait_for(rows // 2, third)
    service.kill()
    service.start()
    importing.wait_for(rows * 6 // 10, third)
    third.kill()
    third.wait()
    began = time.monotonic()
    told = importing.finish()
    assert f"{rows}:" in told
    # Once more: nothing is new.
    if rows <= 100_000:
        assert f"0 recorded, {rows} there already, 0 bad" in importing.finish()
    drained(service, rows, began)
    expected = [expected_event(*line) for line in lines(file)]
    assert len(expected) == rows
    on_topic = read_history(kafka, service)
    assert len(on_topic) == rows
    assert on_topic == expected
    assert kafka_ids_on_live_topic(kafka, service) == 0
    compare_with_stored(service, expected)
    eventually(lambda: service.json("/v1/lag")["behind"] == 0, 120, 0.5)
    assert_answered(service, SYMBOL, Reference(file).bars({row: row for row in range(rows)}))
    assert verdict(service) == "nothing lacks"


def drained(service: Service, rows: int, began: float) -> None:
    def done() -> bool:
        parts = service.json("/health/ready")["parts"]
        return bool(parts["history_outbox"]["waiting"] == 0)

    eventually(done, 300, 0.5)
    print(f"{rows} rows were published within {time.monotonic() - began:.1f} s of the last start")


def expected_event(time_text: str, price: str, size: str) -> tuple[str, str]:
    local = datetime.fromisoformat(time_text).replace(tzinfo=ZoneInfo(ZONE))
    moment = local.astimezone(UTC).isoformat().removesuffix("+00:00")
    return f"{moment.rstrip('0') if '.' in moment else moment}Z", price


def read_history(kafka: KafkaTools, service: Service) -> list[tuple[str, str]]:
    """Return times and prices in the order of the topic; ids must be 1, 2, 3 ..."""
    found: list[tuple[str, str]] = []
    topic = service.environment["KAFKA_PRICE_HISTORY_TOPIC"]
    for message in kafka.each(topic):
        record = taken_apart(message)
        assert record.event_id == f"{SYMBOL}~h{len(found) + 1}"
        assert record.headers["ce_type"] == "price.backfilled"
        assert record.key == SYMBOL
        value = json.loads(record.value, parse_float=str, parse_int=str)
        assert value["source"] == "cme"
        moment = value["timestamp"].removesuffix("Z")
        found.append((f"{moment.rstrip('0') if '.' in moment else moment}Z", value["price"]))
    return found


def kafka_ids_on_live_topic(kafka: KafkaTools, service: Service) -> int:
    return sum(1 for _ in kafka.each(service.environment["KAFKA_PRICE_EVENTS_TOPIC"]))


def compare_with_stored(service: Service, expected: list[tuple[str, str]]) -> None:
    """What is stored, as CSV: the same rows with the same digits, by market time."""
    _, headers, body = service.get(f"/v1/prices?symbol={SYMBOL}&format=csv", timeout=120)
    assert headers["content-type"].startswith("text/csv")
    stored = [line.split(",") for line in body.decode().splitlines()[1:]]
    assert Counter(row[2] for row in stored) == Counter(price for _, price in expected)
    assert len({row[0] for row in stored}) == len(expected)
    assert [row[0] for row in stored] == [f"{SYMBOL}~h{n}" for n in range(1, len(expected) + 1)]


def verdict(service: Service) -> str:
    environment: dict[str, Any] = {
        "PATH": os.environ["PATH"],
        "HOME": str(service.home),
        "PRICEWIRE_HOME": str(service.home),
        **service.environment,
    }
    done = subprocess.run(
        [PRICEWIRE, "verify", "outbox"],
        env=environment,
        cwd=service.home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].removeprefix("verdict").strip()


def test_ctrl_c_says_what_to_do(
    service: Service, all_trades: Path, rows: int, tmp_path: Path
) -> None:
    importing = Importing(service, first_rows(all_trades, rows, tmp_path / "t.csv"), tmp_path)
    process = importing.start()
    importing.wait_for(1, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "run it again" in (tmp_path / "import.txt").read_text()
