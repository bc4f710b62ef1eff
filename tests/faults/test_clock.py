"""The machine's clock jumps, or its time zone changes: order stays, nothing waits for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cluster_tools import Cluster
from tests.faults.checks import (
    SYMBOLS,
    assert_nothing_lost,
    await_flow,
    await_more,
    await_recovered,
    await_stuck,
    publishing,
    settings,
    shard_statuses,
)
from tests.faults.skewed_clock import SKEWED
from tests.service_tools import Load, Service, eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

HOUR = 3600
MINUTE = timedelta(minutes=1)


class Clock:
    """The service's clock."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """Be off by so many seconds from the true time, from the next look at the clock on."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "skew")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "kafka") as cluster:
        yield cluster


@pytest.fixture
def service(cluster: Cluster, clock: Clock, tmp_path: Path) -> Iterator[Service]:
    environment = settings(cluster, SKEW_FILE=str(clock.file))
    with publishing(tmp_path / "home", environment, SKEWED) as service:
        yield service


def test_an_hour_back_with_events_on_their_way(
    cluster: Cluster, clock: Clock, service: Service
) -> None:
    """What waits is found stuck after three attempts, not after an hour and three attempts."""
    with Load(service, SYMBOLS, threads=2) as load:
        await_flow(service)
        cluster.freeze(1)
        await_more(load, 50)
        clock.jump(-HOUR)
        assert abs(recorded_at(service, "AAPL") - datetime.now(UTC) + timedelta(hours=1)) < MINUTE
        await_more(load, 50)
        await_stuck(service, "broker")
        assert_sane(service)
        cluster.thaw(1)
        await_flow(service)
        await_recovered(service)
        clock.jump(0)
        await_flow(service)
    assert_sane(service)
    assert_nothing_lost(service, cluster, load.acknowledged)


def test_a_day_ahead_and_back(cluster: Cluster, clock: Clock, service: Service) -> None:
    """Records of the future are refused by the broker, said to be, and go once the clock is right.

    (`message.timestamp.after.max.ms` is an hour since Kafka 4.0.)
    """
    with Load(service, SYMBOLS, threads=2) as load:
        await_flow(service)
        clock.jump(24 * HOUR)
        await_stuck(service, "dated ahead of its clock")
        await_more(load, 50)
        assert_sane(service)
        clock.jump(0)
        await_flow(service)
        await_recovered(service)
    assert_nothing_lost(service, cluster, load.acknowledged)


def test_another_time_zone_after_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    """From the earliest zone of the world to the latest: times stay UTC, sequences go on."""
    home, acknowledged = tmp_path / "home", []
    for zone in ("Pacific/Kiritimati", "America/Adak"):
        environment = settings(cluster, TZ=zone)
        with publishing(home, environment) as service:
            with Load(service, SYMBOLS, threads=2) as load:
                await_flow(service)
            acknowledged += load.acknowledged
            eventually(service.drained)
            assert abs(recorded_at(service, "AAPL") - datetime.now(UTC)) < MINUTE
            eventually(service.drained)
            if zone == "America/Adak":
                assert_nothing_lost(service, cluster, acknowledged)


def recorded_at(service: Service, symbol: str) -> datetime:
    """Return when a price asked for now is recorded."""
    event = service.json(f"/v1/events/{service.price(symbol)['event']['id']}")
    return datetime.fromisoformat(event["recorded_at"])


def assert_sane(service: Service) -> None:
    """No age and no count below zero, and none that a jump of the clock would explain."""
    outbox = service.json("/health/ready")["parts"]["outbox"]
    assert outbox["oldest_seconds"] >= 0
    for shard in shard_statuses(service):
        assert 0 <= shard["attempts"] < 60
