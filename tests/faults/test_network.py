"""A network that cuts, slows, swallows and loses: all of it arrives in the end, each event once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cluster_tools import Cluster
from tests.faults.checks import (
    SYMBOLS,
    assert_nothing_lost,
    await_flow,
    await_more,
    await_stuck,
    publishing,
    settings,
)
from tests.faults.proxy import Proxy
from tests.kafka_tools import free_port
from tests.service_tools import Load, Service, eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka]


@dataclass(frozen=True)
class Net:
    """A broker that clients reach through a proxy only, and a topic of the test's own."""

    cluster: Cluster
    proxy: Proxy
    home: Path
    topic: str

    @contextmanager
    def service(self) -> Iterator[Service]:
        environment = settings(self.cluster) | {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.proxy.port}",
            "KAFKA_PRICE_EVENTS_TOPIC": self.topic,
        }
        with publishing(self.home, environment) as service:
            yield service

    def assert_nothing_lost(self, service: Service, load: Load) -> None:
        assert_nothing_lost(service, self.cluster, load.acknowledged, topic=self.topic)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Proxy]]:
    port = free_port()
    with (
        Cluster(tmp_path_factory.mktemp("kafka"), advertised={1: port}) as cluster,
        Proxy(port, cluster.node(1).port) as proxy,
    ):
        yield cluster, proxy


@pytest.fixture
def net(proxied: tuple[Cluster, Proxy], tmp_path: Path) -> Net:
    cluster, proxy = proxied
    return Net(cluster, proxy, tmp_path / "home", f"events-{uuid4().hex[:8]}")


def test_connections_cut_again_and_again_then_refused(net: Net) -> None:
    dice = random.Random(20_261_124)
    with net.service() as service:
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            for _ in range(20):
                net.proxy.cut()
                time.sleep(dice.uniform(0, 0.4))
            with net.proxy.refusing():
                await_stuck(service, "")
                await_more(load, 50)
            await_flow(service)
        net.assert_nothing_lost(service, load)


def test_a_slow_and_narrow_line(net: Net) -> None:
    """Less than the load needs: the outbox grows, and drains when the line is good again."""
    with net.service() as service:
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            with net.proxy.slow(delay_seconds=0.2, bytes_per_second=2_000):
                eventually(lambda: waiting(service) >= 300, 40)
                await_more(load, 100)
            await_flow(service)
        net.assert_nothing_lost(service, load)


def test_a_line_that_goes_silent(net: Net) -> None:
    """Nothing is refused and nothing ends: events wait, and are said to."""
    with net.service() as service:
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            with net.proxy.silent():
                await_stuck(service, "broker")
                await_more(load, 50)
            await_flow(service)
        net.assert_nothing_lost(service, load)


def test_answers_that_get_lost(net: Net) -> None:
    """The broker has the records, the service does not know: sent again, they are not doubled."""
    with net.service() as service:
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            for _ in range(5):
                with net.proxy.losing_answers():
                    await_more(load, 100)
                await_flow(service, events=10)
        net.assert_nothing_lost(service, load)


def test_killed_while_answers_get_lost(net: Net) -> None:
    """The next start finds on the topic what the last one never heard of."""
    acknowledged = []
    for _ in range(3):
        with net.service() as service, Load(service, SYMBOLS, threads=2) as load:
            await_flow(service, events=10)
            with net.proxy.losing_answers():
                await_more(load, 100)
                service.kill()
        acknowledged += load.acknowledged
    with net.service() as service:
        eventually(lambda: found_on_topic(service) > 0)
        assert_nothing_lost(service, net.cluster, acknowledged, topic=net.topic)


def waiting(service: Service) -> int:
    depth: int = service.json("/health/ready")["parts"]["outbox"]["waiting"]
    return depth


def found_on_topic(service: Service) -> int:
    return service.log.count("relay.found_on_topic")
