"""What really lies on the topics is what docs/contract says."""

from __future__ import annotations

from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.contract_tools import (
    complaints_about_headers,
    complaints_about_value,
    contract_file,
    headers_of,
)
from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, running

pytestmark = pytest.mark.kafka

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]


@pytest.fixture(scope="module")
def topic() -> str:
    return f"price-events-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def averages(topic: str) -> str:
    return f"averages-of-{topic}"


@pytest.fixture(scope="module", autouse=True)
def filled(
    kafka: KafkaTools, topic: str, averages: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The topics after prices, an average of them, and a record that cannot be read."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_MOVING_AVERAGES_TOPIC": averages,
    }
    with running(Service(tmp_path_factory.mktemp("service"), environment)) as service:
        for symbol in [*SYMBOLS, *["AAPL"] * 4]:
            assert service.price(symbol, wait_ms=15_000)["event"]["state"] == "published"
        stranger = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        stranger.produce(topic, b"no JSON", b"AAPL", headers=[("x-theirs", b"1")])
        assert stranger.flush(10) == 0
        eventually(lambda: bool(kafka.read_all(averages) and kafka.read_all(f"{topic}.dlq")), 30)
        assert service.stop() == 0


def test_price_events_are_what_the_contract_says(kafka: KafkaTools, topic: str) -> None:
    own = [message for message in kafka.read_all(topic) if message.value() != b"no JSON"]
    assert {message.key() for message in own} == {symbol.encode() for symbol in SYMBOLS}
    assert len(own) == 9
    for message in own:
        assert complaints_about_value("price-events", message.value()) == []
        assert complaints_about_headers("price-events", headers_of(message)) == []


def test_averages_are_what_the_contract_says(kafka: KafkaTools, averages: str) -> None:
    [message] = kafka.read_all(averages)
    assert message.key() == b"AAPL"
    assert complaints_about_value("moving-averages", message.value()) == []
    assert complaints_about_headers("moving-averages", headers_of(message)) == []


def test_dead_letters_are_what_the_contract_says(kafka: KafkaTools, topic: str) -> None:
    # Each processor of the topic sets it aside for itself.
    messages = kafka.read_all(f"{topic}.dlq")
    [message] = [one for one in messages if ("pw-processor", b"averages") in (one.headers() or [])]
    assert (message.key(), message.value()) == (b"AAPL", b"no JSON")
    headers = headers_of(message)
    assert headers.pop("x-theirs") == "1"
    assert complaints_about_headers("price-events.dlq", headers) == []
    assert headers["pw-origin-topic"] == topic


@pytest.mark.parametrize("name", ["price-events", "moving-averages", "price-events.dlq"])
def test_topics_are_made_as_the_contract_says(
    kafka: KafkaTools, topic: str, averages: str, name: str
) -> None:
    real = {"price-events": topic, "moving-averages": averages, "price-events.dlq": f"{topic}.dlq"}
    said = contract_file("asyncapi.json")["channels"][name]["bindings"]["kafka"]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    metadata = admin.list_topics(real[name], timeout=10).topics[real[name]]
    assert len(metadata.partitions) == said["partitions"]
    resource = ConfigResource(ResourceType.TOPIC, real[name])
    entries = admin.describe_configs([resource])[resource].result(10)
    configuration = said["topicConfiguration"]
    assert entries["cleanup.policy"].value == ",".join(configuration["cleanup.policy"])
    assert entries["retention.ms"].value == str(configuration["retention.ms"])
