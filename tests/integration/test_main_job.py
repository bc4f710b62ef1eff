"""The main job as a user sees it: ask, and look at the database and at a real Kafka topic."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.kafka_tools import KafkaTools, free_port
from tests.service_tools import (
    Load,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
    running,
)

pytestmark = pytest.mark.kafka

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]


@pytest.fixture
def topic() -> str:
    return f"price-events-{uuid4().hex[:8]}"


@pytest.fixture
def stopped(kafka: KafkaTools, database_url: str, topic: str, tmp_path: Path) -> Iterator[Service]:
    """A service on a real Kafka and a fresh database of each kind, not yet started."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "DATABASE_URL": database_url,
        "HISTORY_INTERVAL_SECONDS": "0.02",
    }
    service = Service(tmp_path / "home", environment)
    yield service
    service.kill()


@pytest.fixture
def service(stopped: Service) -> Service:
    stopped.start()
    eventually(stopped.publishes)
    return stopped


def test_a_price_is_answered_stored_and_published(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    price = service.price("AAPL", wait_ms=10_000)
    assert list(price) == [
        *("symbol", "price", "timestamp", "timestamp_precision", "source"),
        *("raw_response_id", "fetched_at", "event", "currency", "kind", "delayed", "adjusted"),
        *("exchange", "age_seconds", "session", "cached", "stale", "stale_reason", "attempts"),
    ]
    assert (price["symbol"], price["source"]) == ("AAPL", "history")
    assert price["timestamp_precision"] == "day"
    assert price["event"] == {
        "id": "AAPL~1",
        "state": "published",
        "topic": topic,
        "partition": 3,
        "offset": 0,
    }

    [record] = published(kafka, topic)
    value = json.loads(record.value)
    assert list(value) == ["symbol", "price", "timestamp", "source", "raw_response_id"]
    assert value == {name: price[name] for name in value}
    assert (record.key, record.partition) == ("AAPL", 3)
    five = {"ce_specversion", "ce_id", "ce_type", "ce_source", "content-type"}
    assert set(record.headers) == five | {"pw-precision", "pw-kind", "pw-currency"}
    assert record.headers["ce_type"] == "price.recorded"

    receipt = service.json("/v1/events/AAPL~1")
    assert (receipt["state"], receipt["offset"], receipt["attempts"]) == ("published", 0, 0)
    assert receipt["source"] == record.source
    status, headers, body = service.get(f"/v1/raw-responses/{price['raw_response_id']}")
    assert status == 200
    assert body.startswith(b"symbol,timestamp,price\n")
    assert headers["pw-provider"] == "history"


def test_a_stock_consumer_shows_it_and_a_hundred_lie_there_in_snappy(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    broker = kafka.broker.status().pid
    assert broker is not None
    os.kill(broker, signal.SIGSTOP)
    try:
        with Load(service, ["AAPL"]) as load:
            eventually(lambda: len(load.acknowledged) >= 300)
    finally:
        os.kill(broker, signal.SIGCONT)
    eventually(service.drained)
    first = kafka.console_consume(topic, 1)[0]
    assert "\tAAPL\t{" in first
    assert "ce_id:AAPL~1," in first
    dump = kafka.dump_log(topic, 3)
    batches = [line for line in dump.splitlines() if line.startswith("baseOffset")]
    assert batches
    assert all("compresscodec: snappy" in line for line in batches)
    assert max(int(line.split("count: ")[1].split()[0]) for line in batches) >= 100


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("symbol=A~PL", 422, "invalid_symbol"),
        ("symbol=A%0APL", 422, "invalid_symbol"),
        ("symbol=", 422, "invalid_symbol"),
        ("", 422, "invalid_parameter"),
        ("symbol=AAPL&wait_ms=soon", 422, "invalid_parameter"),
        ("symbol=AAPL&wait_ms=-1", 422, "invalid_parameter"),
        ("symbol=AAPL&wait_ms=60001", 422, "invalid_parameter"),
        ("symbol=AAPL&provider=nobody", 422, "invalid_parameter"),
        ("symbol=NOSUCH", 404, "unknown_symbol"),
    ],
)
def test_bad_input_gets_problem_details(
    shared_service: Service, query: str, status: int, code: str
) -> None:
    got, headers, body = shared_service.get(f"/v1/prices/latest?{query}")
    problem = json.loads(body)
    assert (got, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:pricewire:error:{code}"
    assert len(problem["detail"]) > 20


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/events/AAPL~999", 404, "not_found"),
        ("/v1/events/EUR/USD~1", 404, "not_found"),
        ("/v1/events/AAPL", 422, "invalid_parameter"),
        ("/v1/raw-responses/01a208e5-dfe5-72bc-a42a-366b5fff1f57", 404, "not_found"),
        ("/v1/raw-responses/x", 422, "invalid_parameter"),
        ("/nowhere", 404, "not_found"),
    ],
)
def test_other_routes_answer_problems_too(
    shared_service: Service, path: str, status: int, code: str
) -> None:
    got, headers, body = shared_service.get(path)
    assert (got, json.loads(body)["code"]) == (status, code)
    assert headers["content-type"] == "application/problem+json"


@pytest.fixture(scope="module")
def shared_service(
    kafka: KafkaTools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"shared-{uuid4().hex[:8]}",
    }
    with running(Service(tmp_path_factory.mktemp("shared"), environment)) as service:
        yield service


def test_the_documentation_names_every_route_and_the_metrics_are_there(
    shared_service: Service,
) -> None:
    paths = shared_service.json("/openapi.json")["paths"]
    parameters = paths["/v1/prices/latest"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == [
        *("symbol", "provider", "kind", "max_age", "allow_stale", "wait_ms"),
    ]
    assert {"/v1/events/{event_id}", "/v1/raw-responses/{raw_response_id}"} <= set(paths)
    assert b"pricewire_events_published_total" in shared_service.get("/metrics")[2]


def test_prices_asked_for_while_kafka_is_away_are_published_in_order_when_it_is_back(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    service.price("AAPL", wait_ms=10_000)
    kafka.broker.stop()
    try:
        prices = [service.price(SYMBOLS[turn % 5]) for turn in range(50)]
        assert {price["event"]["state"] for price in prices} == {"queued"}
        eventually(lambda: service.json("/health/ready")["parts"]["kafka"]["status"] == "down")
        status, _, body = service.get("/health/ready")
        assert (status, json.loads(body)["status"]) == (200, "degraded")
    finally:
        kafka.broker.start(started_by="tests")
    eventually(service.drained, 40)
    records = published(kafka, topic)
    assert len(records) == 51
    assert_each_once_in_order(records)
    assert_all_published(prices, records)


def test_an_event_that_is_not_taken_is_stuck_says_so_once_and_goes_out_in_the_end(
    stopped: Service, kafka: KafkaTools, topic: str
) -> None:
    stopped.environment |= {"KAFKA_PRODUCER_ATTEMPT_SECONDS": "0.5"}
    stopped.start()
    eventually(stopped.publishes)
    kafka.broker.stop()
    try:
        stopped.price("AAPL")
        eventually(lambda: stopped.json("/v1/events/AAPL~1")["state"] == "stuck")
        receipt = stopped.json("/v1/events/AAPL~1")
        assert receipt["attempts"] >= 3
        assert receipt["last_error"]
        report = stopped.json("/health/ready")
        assert report["status"] == "degraded"
        assert report["parts"]["relay"]["status"] == "stuck"
        stuck = f'pricewire_shard_stuck{{shard="3",topic="{topic}"}} 1.0'
        assert stuck.encode() in stopped.get("/metrics")[2]
        time.sleep(1.5)
        assert stopped.log.count("event.stuck") == 1
    finally:
        kafka.broker.start(started_by="tests")
    eventually(lambda: stopped.json("/v1/events/AAPL~1")["state"] == "published", 40)
    eventually(lambda: stopped.json("/health/ready")["status"] == "up")
    assert len(published(kafka, topic)) == 1


def test_a_deleted_topic_is_made_anew_and_what_waits_is_published(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    service.price("AAPL", wait_ms=10_000)
    kafka.delete_topic(topic)
    time.sleep(2)  # the broker deletes a little later than it says
    prices = [service.price(SYMBOLS[turn % 5]) for turn in range(20)]
    eventually(service.drained, 60)
    assert_all_published(prices, published(kafka, topic))


def test_a_topic_with_other_partitions_is_reported_and_left_alone(
    stopped: Service, kafka: KafkaTools, topic: str
) -> None:
    kafka.create_topic(topic, partitions=2)
    stopped.start()
    price = stopped.price("AAPL")
    assert price["event"]["state"] == "queued"

    def said() -> bool:
        shards = stopped.json("/health/ready")["parts"]["relay"]["shards"]
        return all("KAFKA_TOPIC_PARTITIONS=2" in (one["last_error"] or "") for one in shards)

    eventually(said)
    assert published(kafka, topic) == []


def test_sigterm_under_load_answers_what_is_in_flight_publishes_it_and_exits_0(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    with Load(service, SYMBOLS) as load:
        eventually(lambda: len(load.acknowledged) >= 200)
        assert service.stop() == 0
    records = published(kafka, topic)
    assert_each_once_in_order(records)
    assert_all_published(load.acknowledged, records)
    assert "Traceback" not in service.log


def test_sigterm_while_kafka_is_away_keeps_what_waits_and_exits_0(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    service.environment |= {"SHUTDOWN_SECONDS": "2"}
    service.stop()
    service.start()
    eventually(service.publishes)
    kafka.broker.stop()
    try:
        prices = [service.price("AAPL") for _ in range(10)]
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 15
    finally:
        kafka.broker.start(started_by="tests")
    service.start()
    eventually(service.drained, 40)
    records = published(kafka, topic)
    assert_each_once_in_order(records)
    assert_all_published(prices, records)


def test_a_second_service_on_the_same_sqlite_file_is_refused(
    kafka: KafkaTools, tmp_path: Path
) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with running(Service(tmp_path, environment)):
        second = Service(tmp_path, environment)
        second.start(ready=False)
        assert second.process is not None
        assert second.process.wait(20) == 1
        assert "another pricewire uses" in second.log


def test_a_taken_port_is_named_with_its_setting(kafka: KafkaTools, tmp_path: Path) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with running(Service(tmp_path / "a", environment)) as first:
        second = Service(tmp_path / "b", environment, port=first.port)
        second.start(ready=False)
        assert second.process is not None
        assert second.process.wait(20) == 1
        assert "API_PORT" in second.log


def test_without_java_it_runs_on_the_in_memory_cluster_and_says_what_that_means(
    tmp_path: Path,
) -> None:
    environment = {"PATH": "/nonexistent", "LOCAL_KAFKA_PORT": str(free_port()), "JAVA_HOME": ""}
    with running(Service(tmp_path, environment)) as service:
        price = service.price("AAPL", wait_ms=15_000)
        assert price["event"]["state"] == "published"
        assert "WARNING" in service.log
        assert "nothing of the topic survives" in service.log
        assert service.stop() == 0


def test_up_starts_a_local_kafka_and_stops_it_with_itself(
    kafka: KafkaTools, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "LOCAL_KAFKA_PORT": str(port),
        "KAFKA_HOME": str(kafka.broker.libs.parent),
        "JAVA_HOME": "",
    }
    with running(Service(tmp_path, environment)) as service:
        assert service.price("AAPL", wait_ms=15_000)["event"]["state"] == "published"
        assert (tmp_path / "kafka" / "broker.json").exists()
        service.signal(signal.SIGINT)
        assert service.process is not None
        assert service.process.wait(40) == 0
    assert not (tmp_path / "kafka" / "broker.json").exists()
