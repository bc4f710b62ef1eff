"""Three replicas of everything: what the death of one, then of a second broker does.

With one broker gone events flow on; with fewer than `min.insync.replicas` they wait, in order, and
the service says so with the broker's reason; with it back all flow, each once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster_tools import Cluster
from tests.faults.checks import (
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
from tests.service_tools import Load

pytestmark = [pytest.mark.faults, pytest.mark.kafka]


def test_a_leader_dies_then_a_second_broker_then_one_comes_back(tmp_path: Path) -> None:
    """Node 1 alone is controller, so that the cluster still decides with two brokers dead."""
    with (
        Cluster(tmp_path / "kafka", brokers=3, controllers=1) as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=4) as load:
            await_flow(service)
            first, second = _two_leaders(cluster)
            cluster.kill(first)
            await_flow(service)

            cluster.kill(second)
            await_more(load, 50)
            await_stuck(service, "too few in-sync replicas, 1 of the 2 that min.insync.replicas")
            assert service.json("/health/ready")["status"] == "degraded"

            cluster.restart(first)
            await_flow(service)
            await_recovered(service)
        assert_nothing_lost(service, cluster, load.acknowledged)
        assert "event.stuck" in service.log


def _two_leaders(cluster: Cluster) -> tuple[int, int]:
    """Nodes 2 and 3, one that leads a partition with symbols of ours first."""
    leader = cluster.leader_of(TOPIC, shard_of("AAPL"))
    return (3, 2) if leader == 3 else (2, 3)
