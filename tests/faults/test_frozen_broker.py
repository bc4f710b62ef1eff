"""A broker that neither answers nor hangs up: frozen with SIGSTOP for 20 seconds, then thawed.

Alone, its events wait and the service says so; among three, its partitions move on to others, and
what it wakes up with, believing that it still leads, changes nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster_tools import Cluster
from tests.faults.checks import (
    ALL,
    SYMBOLS,
    TOPIC,
    assert_nothing_lost,
    await_flow,
    await_more,
    await_recovered,
    await_stuck,
    publishing,
    settings,
    shard_of,
)
from tests.service_tools import Load, Service, eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

FROZEN_SECONDS = 20


def test_the_only_broker_is_frozen(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "kafka") as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            eventually(lambda: tells_lag(service), 20)
            cluster.freeze(1)
            thaw_at = time.monotonic() + FROZEN_SECONDS
            await_stuck(service, "broker")
            await_more(load, 50)
            # Metrics are answered without what the broker does not tell.
            eventually(lambda: not tells_lag(service), 20)
            time.sleep(max(0, thaw_at - time.monotonic()))
            cluster.thaw(1)
            await_flow(service)
            await_recovered(service)
            eventually(lambda: tells_lag(service), 20)
        assert_nothing_lost(service, cluster, load.acknowledged)


def tells_lag(service: Service) -> bool:
    status, _, body = service.get("/metrics")
    assert status == 200
    return b"pricewire_processor_lag_events{" in body


def test_a_leader_among_three_is_frozen(tmp_path: Path) -> None:
    """Its partition goes on under another leader before it is thawed."""
    with (
        Cluster(tmp_path / "kafka", brokers=3) as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            leader = cluster.leader_of(TOPIC, shard_of("AAPL"))
            cluster.freeze(leader)
            thaw_at = time.monotonic() + FROZEN_SECONDS
            await_flow(service, shards=ALL - {shard_of("AAPL")})
            await_flow(service, seconds=45)
            time.sleep(max(0, thaw_at - time.monotonic()))
            cluster.thaw(leader)
            await_flow(service)
            await_recovered(service)
        assert_nothing_lost(service, cluster, load.acknowledged)
