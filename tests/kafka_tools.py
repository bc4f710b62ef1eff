"""A real Apache Kafka for the tests: session fixtures, and what looks at topics from outside.

`tests/conftest.py` imports the fixtures. Invariants: one broker serves a whole test run, its data
goes when the run ends, its artifacts are fetched once a checkout; where it cannot run, tests that
need it are skipped with the reason, except in CI, where that is a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pricewire.kafka.local import LocalKafka
from pricewire.kafka.local_data.install import fetch

CHECKOUT = Path(__file__).parents[1]
SILENT_SECONDS = 30


class KafkaTools:
    """A running broker and the means to look into it that share no code with the service."""

    def __init__(self, broker: LocalKafka) -> None:
        self.broker = broker
        self.bootstrap_servers = f"localhost:{broker.port}"

    def create_topic(
        self, name: str, partitions: int = 6, config: dict[str, str] | None = None
    ) -> str:
        """Make a topic that keeps all: records dated long ago would else vanish at some point."""
        admin = AdminClient(self._client())
        kept = {"retention.ms": "-1"} | (config or {})
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=kept)
        admin.create_topics([new], operation_timeout=10)[name].result(10)
        return name

    def delete_topic(self, name: str) -> None:
        admin = AdminClient(self._client())
        admin.delete_topics([name], operation_timeout=10)[name].result(10)

    def read_all(self, topic: str, partitions: int | None = None) -> list[Message]:
        """Return what a topic holds now, partition by partition, each in offset order."""
        found: dict[int, list[Message]] = defaultdict(list)
        for message in self.each(topic, partitions):
            found[message.partition() or 0].append(message)
        return [message for number in sorted(found) for message in found[number]]

    def each(self, topic: str, partitions: int | None = None) -> Iterator[Message]:
        """Give what a topic holds now, each partition in offset order."""
        consumer = Consumer(
            {
                **self._client(),
                "group.id": f"reads-all-{uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        try:
            count = partitions or len(
                consumer.list_topics(topic, timeout=10).topics[topic].partitions
            )
            yield from _read_to_the_end(consumer, topic, count)
        finally:
            consumer.close()

    def console_consume(self, topic: str, n: int) -> list[str]:
        """Return what the stock console consumer prints: headers, key and value, tabs between."""
        command = self.broker.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--bootstrap-server", self.bootstrap_servers, "--topic", topic),
            *("--from-beginning", "--max-messages", str(n), "--timeout-ms", "15000"),
            *("--formatter-property", "print.key=true"),
            *("--formatter-property", "print.headers=true"),
        )
        return _output(command).splitlines()

    def dump_log(self, topic: str, partition: int) -> str:
        """Return the batches and records of a partition as they lie on the broker's disk."""
        folder = self.broker.data / f"{topic}-{partition}"
        files = ",".join(sorted(segment.name for segment in folder.glob("*.log")))
        options = ("--deep-iteration", "--print-data-log", "--files", files)
        command = self.broker.tool("org.apache.kafka.tools.DumpLogSegments", *options)
        return _output(command, folder)

    def _client(self) -> dict[str, str | int | float | bool]:
        return {"bootstrap.servers": self.bootstrap_servers, "broker.address.family": "v4"}


def _read_to_the_end(consumer: Consumer, topic: str, partitions: int) -> Iterator[Message]:
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    unfinished = set(range(partitions))
    give_up = time.monotonic() + SILENT_SECONDS
    while unfinished:
        assert time.monotonic() < give_up, f"{topic} {unfinished}: nothing for {SILENT_SECONDS} s"
        for message in consumer.consume(1000, 0.1):
            give_up = time.monotonic() + SILENT_SECONDS
            error, partition = message.error(), message.partition()
            assert partition is not None
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(partition)
            else:
                raise AssertionError(str(error))


def _output(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def free_port() -> int:
    """Return a port that is free, and that no outgoing connection is given before it is used."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def local_kafka(home: Path, port: int | None = None) -> LocalKafka:
    """Return a broker of the tests' artifacts, not yet started."""
    return LocalKafka(
        home=home, port=port or free_port(), say=print, kafka_home=_artifacts(home), partitions=6
    )


def _artifacts(home: Path) -> Path:
    if given := os.environ.get("KAFKA_HOME"):
        return Path(given)
    kept = CHECKOUT / ".kafka"
    in_place = LocalKafka(home=home, port=0, say=print, kafka_home=kept)
    if in_place.missing():
        if reason := LocalKafka(home=home, port=0, say=print).missing():
            _no_kafka(reason)
        fetch(kept / "libs", print)
    return kept


def _no_kafka(reason: str) -> None:
    message = f"no Apache Kafka for the tests: {reason}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaTools]:
    """One real broker for the test run; a test that stops it starts it again."""
    broker = local_kafka(tmp_path_factory.mktemp("kafka"))
    broker.start(started_by="tests")
    yield KafkaTools(broker)
    broker.stop()
