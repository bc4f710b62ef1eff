"""`scripts/test_kafka_producer.py` as users run it, against a real Kafka and against none."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Message, murmur2

from pricewire.bootstrap import now
from pricewire.kafka.check import ProducerCheck
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import Record
from pricewire.kafka.producer import ProducerRules, ShardProducer, producer_config
from pricewire.kafka.read_back import ReadBack
from pricewire.kafka.topic import KafkaTopic, TopicPlan
from pricewire.services.publishing import Report
from tests.kafka_tools import CHECKOUT, KafkaTools, free_port
from tests.service_tools import Service, eventually, published, running

SCRIPT = CHECKOUT / "scripts" / "test_kafka_producer.py"
ROW = re.compile(r"published  (\S+) +partition (\d+), offset (\d+): read back unchanged")

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def topic() -> str:
    return f"price-events-{uuid4().hex[:8]}"


@pytest.fixture
def check(topic: str, tmp_path: Path) -> Run:
    """Runs the script with nothing but these settings, in an empty folder."""

    def run(python: str = sys.executable, script: Path = SCRIPT, **settings: str) -> Done:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "KAFKA_PRICE_EVENTS_TOPIC": topic,
            **settings,
        }
        return subprocess.run(
            [python, str(script)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


def rows(done: Done) -> list[tuple[str, int, int]]:
    """Return (symbol, partition, offset) of each event that a check that passed names."""
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    found = [(name, int(where), int(at)) for name, where, at in ROW.findall(done.stdout)]
    verdict = (
        f"verdict    passed: the broker confirmed {len(found)} test events, "
        f"{len(found)} were read back unchanged"
    )
    assert done.stdout.splitlines()[-1] == verdict
    return found


def complaint(done: Done) -> str:
    """Return the one line of a check that failed."""
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.kafka
def test_the_systems_python_makes_the_topic_publishes_and_reads_back(
    check: Run, kafka: KafkaTools, topic: str
) -> None:
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if system is None:
        pytest.skip("no python3 beside the virtual environment's")
    began = now()
    done = check(python=system, KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers)
    found = rows(done)
    assert [(partition, offset) for _, partition, offset in found] == [(n, 0) for n in range(6)]
    assert done.stdout.startswith(
        f"kafka      {kafka.bootstrap_servers}, topic {topic}, 6 partitions\n"
    )
    messages = kafka.read_all(topic)
    assert [key.encode() for key, *_ in found] == [message.key() for message in messages]
    for message in messages:
        check_record(message)
        assert began.timestamp() - 1 <= message.timestamp()[1] / 1000 <= time.time() + 1


def check_record(message: Message) -> None:
    """A test event looks as those of the service do, but for what tells that it is one."""
    pairs = message.headers()
    assert isinstance(pairs, list)
    headers = {name: value.decode() for name, value in pairs if isinstance(value, bytes)}
    assert list(headers) == [
        *("ce_specversion", "ce_id", "ce_type", "ce_source", "content-type"),
        "pw-test",
    ]
    assert UUID(headers.pop("ce_id")).version == 4
    assert headers == {
        "ce_specversion": "1.0",
        "ce_type": "price.recorded",
        "ce_source": "/pricewire/test",
        "content-type": "application/json",
        "pw-test": "true",
    }
    value = json.loads(message.value() or b"")
    assert list(value) == ["symbol", "price", "timestamp", "source", "raw_response_id"]
    assert value["symbol"].encode() == message.key()
    assert murmur2(value["symbol"].encode(), 6) == message.partition()


@pytest.mark.kafka
def test_a_second_check_finds_its_own_events_behind_others(check: Run, kafka: KafkaTools) -> None:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA_TOPIC_PARTITIONS": "2"}
    assert {offset for *_, offset in rows(check(**settings))} == {0}
    assert {offset for *_, offset in rows(check(**settings))} == {1}


@pytest.mark.kafka
def test_a_topic_with_other_partitions_is_checked_and_the_difference_is_said(
    check: Run, kafka: KafkaTools, topic: str
) -> None:
    kafka.create_topic(topic, 2, {"message.timestamp.type": "LogAppendTime"})
    done = check(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers)
    assert [(partition, offset) for _, partition, offset in rows(done)] == [(0, 0), (1, 0)]
    [warning] = [line for line in done.stdout.splitlines() if line.startswith("WARNING")]
    assert "the service itself would not publish here" in warning
    assert f"topic {topic} has 2 partitions, KAFKA_TOPIC_PARTITIONS says 6" in warning
    assert len(kafka.read_all(topic)) == 2


@pytest.mark.kafka
def test_many_partitions_are_checked_in_part(check: Run, kafka: KafkaTools, topic: str) -> None:
    kafka.create_topic(topic, 20)
    done = check(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers, KAFKA_TOPIC_PARTITIONS="20")
    assert [partition for _, partition, _ in rows(done)] == list(range(12))


@pytest.mark.kafka
def test_a_broker_that_refuses_the_records_is_one_line(
    check: Run, kafka: KafkaTools, topic: str
) -> None:
    kafka.create_topic(topic, 6, {"max.message.bytes": "100"})
    line = complaint(check(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers))
    assert re.fullmatch(
        r"pricewire: the broker refused the event for partition \d: .*too large; "
        r"topic \S+ takes messages up to 100 bytes; .*",
        line,
    )


def test_without_a_kafka_it_says_so_in_time(check: Run) -> None:
    began = time.monotonic()
    line = complaint(check(LOCAL_KAFKA_PORT=str(port := free_port())))
    assert time.monotonic() - began < 15
    assert line.startswith(f"pricewire: no Kafka broker answers at localhost:{port}: ")
    assert line.endswith("Connection refused")


@pytest.mark.kafka
def test_a_frozen_kafka_is_one_line_in_time(check: Run, kafka: KafkaTools) -> None:
    broker = kafka.broker.status().pid
    assert broker is not None
    os.kill(broker, signal.SIGSTOP)
    try:
        began = time.monotonic()
        line = complaint(check(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers))
        assert time.monotonic() - began < 15
    finally:
        os.kill(broker, signal.SIGCONT)
    assert line.startswith("pricewire: no Kafka broker answers at ")


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("protocol", "says"),
    [("SSL", "KAFKA_SECURITY_PROTOCOL=SSL"), ("SASL_PLAINTEXT", "KAFKA_SECURITY_PROTOCOL")],
)
def test_a_kafka_that_speaks_otherwise_is_one_line_that_says_why(
    check: Run, kafka: KafkaTools, protocol: str, says: str
) -> None:
    sasl = {
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "somebody",
        "KAFKA_SASL_PASSWORD": "hunter2",
    }
    done = check(
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        KAFKA_SECURITY_PROTOCOL=protocol,
        **(sasl if protocol.startswith("SASL") else {}),
    )
    line = complaint(done)
    assert says in line
    assert "hunter2" not in line


def test_a_wrong_setting_is_one_line(check: Run) -> None:
    assert "KAFKA_TOPIC_PARTITIONS" in complaint(check(KAFKA_TOPIC_PARTITIONS="0"))


def test_before_make_install_it_says_what_to_do(check: Run, tmp_path: Path) -> None:
    bare = tmp_path / "checkout" / "scripts" / SCRIPT.name
    bare.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, bare)
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if system is None:
        pytest.skip("no python3 beside the virtual environment's")
    assert "run `make install` first" in complaint(check(python=system, script=bare))


@pytest.mark.kafka
def test_the_service_takes_no_test_event_for_its_own(
    check: Run, kafka: KafkaTools, topic: str, tmp_path: Path
) -> None:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    rows(check(**settings))
    service = Service(tmp_path / "home", settings | {"KAFKA_PRICE_EVENTS_TOPIC": topic})
    with running(service):
        assert service.price("AAPL", wait_ms=15_000)["event"]["id"] == "AAPL~1"
        eventually(service.drained)
    rows(check(**settings))
    with running(service):
        eventually(service.publishes)
        assert service.price("AAPL", wait_ms=15_000)["event"]["id"] == "AAPL~2"
        eventually(service.drained)
        [shard] = [
            one
            for one in service.json("/health/ready")["parts"]["relay"]["shards"]
            if one["shard"] == 3
        ]
        assert (shard["generation"], shard["phase"]) == (1, "publishing")
        assert service.get("/v1/events/TEST.9~1")[0] == 404
        assert service.stop() == 0
    assert "store.went_back" not in service.log
    assert "relay.found_on_topic" not in service.log
    ours = [record for record in published(kafka, topic) if record.source != "/pricewire/test"]
    assert [record.event_id for record in ours] == ["AAPL~1", "AAPL~2"]
    assert len({record.source for record in ours}) == 1


class Losing(ReadBack):
    """Reads all but what came to one partition."""

    def read(self, records: Mapping[int, Record]) -> dict[int, Message]:
        found = super().read(records)
        del found[1]
        return found


@pytest.mark.kafka
async def test_a_check_fails_where_one_event_does_not_come_back(
    kafka: KafkaTools, topic: str
) -> None:
    connection = Connection(kafka.bootstrap_servers)
    there = KafkaTopic(connection, TopicPlan(topic, 3, 1, 1, -1))
    config = producer_config(connection, ProducerRules(), single=False)

    def open_producer(
        shard: int, *, single: bool, reported: Callable[[list[Report]], None]
    ) -> ShardProducer:
        return ShardProducer(config, topic=topic, shard=shard, reported=reported)

    found = await ProducerCheck(
        there, open_producer=open_producer, open_reader=lambda: Losing(connection, topic), clock=now
    ).run()
    there.close()
    assert (found.passed, found.unchanged, found.partitions) == (False, 2, 3)
    assert [bool(trip.differences) for trip in found.round_trips] == [False, True, False]
