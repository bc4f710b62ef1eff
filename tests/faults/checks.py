"""What every fault test does alike: a service on a breakable cluster, and the verdict at the end.

Used by the tests beside it. Invariant of `assert_nothing_lost`: it looks at the topic with a
client of its own, after the service said that its outbox is empty, and stops the service cleanly.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import murmur2

from tests.cluster_tools import Cluster
from tests.service_tools import (
    PRICEWIRE,
    Load,
    Published,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
    running,
)

TOPIC = "price-events"
PARTITIONS = 3
"""Each of them has a symbol among these."""
SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]
ALL = frozenset(range(PARTITIONS))


def settings(cluster: Cluster, **more: str) -> dict[str, str]:
    """Settings of a service on `cluster`; an attempt lasts one second."""
    replicas = len(cluster.nodes)
    return {
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS),
        "KAFKA_TOPIC_REPLICATION_FACTOR": str(min(3, replicas)),
        "KAFKA_TOPIC_MIN_INSYNC_REPLICAS": "2" if replicas >= 3 else "1",
        "KAFKA_PRODUCER_ATTEMPT_SECONDS": "1",
        "HISTORY_INTERVAL_SECONDS": "0.01",
        "SHUTDOWN_SECONDS": "5",
        **more,
    }


@contextmanager
def publishing(
    home: Path, environment: dict[str, str], program: tuple[str, ...] = (PRICEWIRE,)
) -> Iterator[Service]:
    """A service whose shards all publish."""
    with running(Service(home, environment, program=program)) as service:
        eventually(service.publishes, 60)
        yield service


def shard_of(symbol: str) -> int:
    shard: int = murmur2(symbol.encode(), PARTITIONS)
    return shard


def await_more(load: Load, events: int, seconds: float = 30) -> None:
    """Wait until so many more prices were acknowledged."""
    before = len(load.acknowledged)
    eventually(lambda: len(load.acknowledged) >= before + events, seconds)


def await_flow(
    service: Service, events: int = 50, seconds: float = 30, shards: Set[int] = ALL
) -> None:
    """Wait until each of the shards has published so many more events."""
    before = _published_counts(service)
    eventually(
        lambda: all(
            now >= before[shard] + events
            for shard, now in _published_counts(service).items()
            if shard in shards
        ),
        seconds,
    )


def shard_statuses(service: Service) -> list[Any]:
    shards: list[Any] = service.json("/health/ready")["parts"]["relay"]["shards"]
    return shards


def stuck_shards(service: Service) -> set[int]:
    return {shard["shard"] for shard in shard_statuses(service) if shard["stuck"]}


def await_stuck(service: Service, reason: str, shards: Set[int] = ALL, seconds: float = 30) -> None:
    """After three attempts health and the event itself say that it is stuck, and why.

    A `reason` of "" stands for any that is given.
    """
    said: list[Any] = []

    def says_so() -> bool:
        said[:] = [shard for shard in shard_statuses(service) if shard["shard"] in shards]
        if not all(shard["stuck"] for shard in said):
            return False
        events = [service.json(f"/v1/events/{shard['stuck']}") for shard in said]
        said.extend(events)
        return all(
            one["attempts"] >= 3 and one["last_error"] and reason in one["last_error"]
            for one in said
        ) and all(event["state"] == "stuck" for event in events)

    try:
        eventually(says_so, seconds)
    except AssertionError as error:
        raise AssertionError(f"not stuck for {reason!r}: {said}") from error


def await_recovered(service: Service) -> None:
    eventually(lambda: not stuck_shards(service), 30)


def first_appearances(records: list[Published]) -> list[Published]:
    """Drop repeats, each of which must be the same to the byte."""
    seen: dict[tuple[str, str], Published] = {}
    for one in records:
        assert seen.setdefault((one.source, one.event_id), one) == one
    return list(seen.values())


def assert_nothing_lost(
    service: Service,
    cluster: Cluster,
    acknowledged: list[dict[str, Any]],
    seconds: float = 60,
    topic: str = TOPIC,
    *,
    may_repeat: bool = False,
) -> list[Published]:
    """The outbox drains; each acknowledged event is on the topic once, in order; a clean exit.

    Where an event `may_repeat`, its repeats are the same to the byte, behind its first appearance.
    """
    eventually(service.drained, seconds)
    records = published(cluster.tools, topic)
    assert_each_once_in_order(first_appearances(records) if may_repeat else records)
    assert_all_published(acknowledged, records)
    assert len(records) >= len(acknowledged) > 0
    assert service.stop() == 0, service.log[-2000:]
    return records


def _published_counts(service: Service) -> dict[int, int]:
    return {shard["shard"]: shard["published"] for shard in shard_statuses(service)}
