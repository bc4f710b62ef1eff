"""Killed at every step between the provider's answer and the mark of the outbox row.

A plain `kill -9` leaves nothing lost, nothing twice and no number unused, at whatever step.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.faults import crashing_service
from tests.faults.crashing_service import POINTS
from tests.kafka_tools import CHECKOUT, KafkaTools
from tests.service_tools import (
    Load,
    Published,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]
MINIMUM = 20
"""So many prices are acknowledged before each crash."""


class Crashes:
    """A service that is started anew with another point to crash at, over the same store."""

    def __init__(self, kafka: KafkaTools, database_url: str, folder: Path) -> None:
        self._kafka = kafka
        self._topic = f"points-{uuid4().hex[:8]}"
        self._when = folder / "now"
        self.acknowledged: list[dict[str, Any]] = []
        self.service = Service(
            folder / "home",
            {
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "KAFKA_PRICE_EVENTS_TOPIC": self._topic,
                "DATABASE_URL": database_url,
                "HISTORY_INTERVAL_SECONDS": "0.01",
                "CRASH_WHEN": str(self._when),
                "PYTHONPATH": str(CHECKOUT),
            },
            program=(sys.executable, crashing_service.__file__),
        )

    def recover_and_crash(self, point: str, crashed_at: str) -> None:
        """Start, check what the crash before left behind, and crash at `point` under load."""
        self.service.environment["CRASH_AT"] = point
        self.recover(crashed_at)
        before = len(self.acknowledged)
        with Load(self.service, SYMBOLS, threads=4) as load:
            eventually(lambda: len(load.acknowledged) >= MINIMUM)
            self._when.touch()
            eventually(self._is_dead)
        self.acknowledged += load.acknowledged
        assert len(self.acknowledged) >= before + MINIMUM
        assert self.service.process is not None
        assert self.service.process.returncode == -signal.SIGKILL, point

    def recover(self, crashed_at: str) -> None:
        self._when.unlink(missing_ok=True)
        self.service.start()
        self.assert_nothing_lost_or_repeated(crashed_at)

    def _is_dead(self) -> bool:
        assert self.service.process is not None
        return self.service.process.poll() is not None

    def assert_nothing_lost_or_repeated(self, crashed_at: str) -> None:
        service = self.service
        eventually(service.publishes, 40)
        eventually(service.drained, 40)
        records: list[Published] = published(self._kafka, self._topic)
        print(f"after a crash {crashed_at}: {len(records)} events")
        assert_each_once_in_order(records)
        assert_all_published(self.acknowledged, records)
        for record in records[-5:]:
            status, _, body = service.get(f"/v1/raw-responses/{record.raw_response_id}")
            assert (status, body[:6]) == (200, b"symbol"), crashed_at
        assert "Traceback" not in service.log


@pytest.fixture
def crashes(kafka: KafkaTools, database_url: str, tmp_path: Path) -> Iterator[Crashes]:
    crashes = Crashes(kafka, database_url, tmp_path)
    yield crashes
    crashes.service.kill()


@pytest.mark.timeout(300)
def test_killed_at_each_point_it_loses_and_repeats_nothing(crashes: Crashes) -> None:
    crashed_at = "(none yet)"
    for point in POINTS:
        crashes.recover_and_crash(point, crashed_at)
        crashed_at = point
    crashes.recover(crashed_at)
    crashes.service.price("AAPL", wait_ms=10_000)
    assert crashes.service.stop() == 0
