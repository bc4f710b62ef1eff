"""The in-memory cluster says what it is: a new topic at each start, with its own partitions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.kafka_tools import KafkaTools, free_port
from tests.service_tools import Service, eventually, published, running

WITHOUT_JAVA = {"PATH": "/nonexistent", "JAVA_HOME": ""}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service on the in-memory cluster; a slow one, whose events wait for a second."""
    environment = WITHOUT_JAVA | {
        "LOCAL_KAFKA_PORT": str(free_port()),
        "KAFKA_PRODUCER_LINGER_MS": "1000",
    }
    service = Service(tmp_path / "home", environment)
    yield service
    service.kill()


def leave_an_event_waiting(service: Service) -> None:
    service.start()
    eventually(service.publishes)
    service.price("AAPL")
    service.kill()
    with closing(sqlite3.connect(service.home / "pricewire.db")) as database:
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def refusal(service: Service) -> str:
    """Return the one line with which it does not start."""
    before = len(service.log)
    service.start(ready=False)
    assert service.process is not None
    assert service.process.wait(30) == 1
    [line] = [line for line in service.log[before:].splitlines() if line.startswith("pricewire: ")]
    assert "Traceback" not in service.log
    return line


def test_each_start_is_a_new_topic_and_the_positions_on_the_old_one_are_dropped(
    service: Service,
) -> None:
    with running(service):
        assert service.price("AAPL", wait_ms=15_000)["event"]["offset"] == 0
        assert service.price("AAPL", wait_ms=15_000)["event"]["offset"] == 1
        assert service.stop() == 0
        assert "topic.replaced" not in service.log
    with running(service):
        price = service.price("AAPL", wait_ms=15_000)
        assert (price["event"]["id"], price["event"]["offset"]) == ("AAPL~3", 0)
        [line] = [line for line in service.log.splitlines() if "topic.replaced" in line]
        assert "dropped_position=2" in line
        assert "this is a new topic: what was published before is not on it" in line
        assert line.count("in-memory-") == 2
        assert "store.went_back" not in service.log
        assert service.stop() == 0


def test_what_waited_when_it_was_killed_is_published_to_the_next_one(service: Service) -> None:
    leave_an_event_waiting(service)
    with running(service):
        eventually(service.drained)
        receipt = service.json("/v1/events/AAPL~1")
        assert (receipt["state"], receipt["offset"]) == ("published", 0)


@pytest.mark.kafka
def test_a_kafka_with_other_partitions_is_refused_while_events_wait_for_the_in_memory_ones(
    service: Service, kafka: KafkaTools, tmp_path: Path
) -> None:
    leave_an_event_waiting(service)
    in_memory = service.environment
    topic = f"after-memory-{free_port()}"
    service.environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
    }
    line = refusal(service)
    assert "1 events wait to be published to 4 partitions" in line
    assert "KAFKA_TOPIC_PARTITIONS says 6: start it as it was" in line
    assert "or on the in-memory cluster" in line

    real, service.environment = service.environment, in_memory
    with running(service):
        eventually(service.drained)
        assert service.stop() == 0
    service.environment = real
    with running(service):
        service.price("AAPL", wait_ms=15_000)
        assert "topic.replaced" in service.log
    assert [record.event_id for record in published(kafka, topic)] == ["AAPL~2"]


@pytest.mark.kafka
def test_the_in_memory_cluster_is_refused_while_events_wait_for_a_kafka(
    service: Service, kafka: KafkaTools
) -> None:
    in_memory = service.environment
    service.environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"before-memory-{free_port()}",
        "KAFKA_PRODUCER_LINGER_MS": "1000",
    }
    leave_an_event_waiting(service)
    service.environment = in_memory
    line = refusal(service)
    assert "1 events wait to be published to 6 partitions" in line
    assert "the in-memory cluster always has 4: start it as it was" in line
    assert "KAFKA_TOPIC_PARTITIONS=6" in line
