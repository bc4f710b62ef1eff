"""The compose file's Kafka without Docker: the very environment of its container, made into
properties as its image does it, on a real Apache Kafka; only hosts, ports and the folder are ours.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource

from pricewire.kafka.local import LocalKafka
from tests.kafka_tools import CHECKOUT, free_port, local_kafka
from tests.service_tools import eventually

pytestmark = pytest.mark.kafka

TOPIC = "price-events"
NO_PROPERTIES = {"KAFKA_HEAP_OPTS"}
"""Variables that the image leaves to Kafka's start script."""


@dataclass(frozen=True)
class Broker:
    tools: LocalKafka
    properties: dict[str, str]
    server: str

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.server, "log_level": 0})

    def answers(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def partitions(self, topic: str) -> int:
        found = self.admin().list_topics(timeout=5).topics.get(topic)
        return len(found.partitions) if found else 0


def environment() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())[
        "services"
    ]["kafka"]["environment"]
    return found


def as_properties(given: dict[str, str]) -> dict[str, str]:
    """KAFKA_A_B is a.b, two underscores are one, three are a dash; other variables are none."""
    signs = {"_": ".", "__": "_", "___": "-"}
    return {
        re.sub("_+", lambda run: signs[run[0]], name.removeprefix("KAFKA_").lower()): value
        for name, value in given.items()
        if name.startswith("KAFKA_") and name not in NO_PROPERTIES
    }


def on_loopback(properties: dict[str, str], data: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Return the properties with a free port of 127.0.0.1 for each of theirs, and those ports."""
    ports: dict[str, int] = {}

    def moved(address: re.Match[str]) -> str:
        return f"{address[1]}127.0.0.1:{ports.setdefault(address[2], free_port())}"

    ours = {
        name: re.sub(r"(://|@)[\w.]+:(\d+)", moved, value) for name, value in properties.items()
    }
    return ours | {"log.dirs": str(data)}, ports


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    home = tmp_path_factory.mktemp("compose-kafka")
    tools = local_kafka(home)
    properties, ports = on_loopback(as_properties(environment()), home / "data")
    file = home / "kafka.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    cluster = ("--cluster-id", environment()["CLUSTER_ID"], "-c", str(file))
    formatted = subprocess.run(
        tools.tool("kafka.tools.StorageTool", "format", *cluster),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    started = Broker(tools, properties, f"127.0.0.1:{ports['9092']}")
    with (home / "kafka.log").open("wb") as log:
        process = subprocess.Popen(
            tools.tool("kafka.Kafka", str(file)), stdout=log, stderr=log, cwd=home
        )
    try:
        eventually(lambda: process.poll() is not None or started.answers(), 60)
        assert process.poll() is None, (home / "kafka.log").read_text()[-3000:]
        yield started
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_console_consumer_that_comes_first_makes_the_topic_as_the_service_would(
    broker: Broker,
) -> None:
    command = broker.tools.tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", broker.server, "--topic", TOPIC, "--from-beginning"),
        *("--max-messages", "1", "--timeout-ms", "60000"),
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as consumer:
        try:
            eventually(lambda: broker.partitions(TOPIC) > 0, 60)
            assert broker.partitions(TOPIC) == 6
            producer = Producer({"bootstrap.servers": broker.server, "acks": "all"})
            producer.produce(TOPIC, b'{"price": 112.1300}', b"AAPL")
            assert producer.flush(30) == 0
            assert consumer.communicate(timeout=70)[0] == '{"price": 112.1300}\n'
        finally:
            consumer.kill()
    command = broker.tools.tool(
        "org.apache.kafka.tools.TopicCommand", "--list", "--bootstrap-server", broker.server
    )
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert TOPIC in listed.stdout.split()


def test_every_property_is_one_that_this_broker_knows_and_has_taken(broker: Broker) -> None:
    resource = ConfigResource(ConfigResource.Type.BROKER, broker.properties["node.id"])
    admin = broker.admin()
    described = admin.describe_configs([resource])[resource].result(30)
    # One that it does not know has no value.
    assert {
        name: described[name].value
        for name, value in broker.properties.items()
        if described[name].value != value
    } == {}
