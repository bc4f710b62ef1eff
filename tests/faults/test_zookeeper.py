"""The main job against Kafka 3.9 with ZooKeeper, for those who still have one.

Its artifacts are fetched once a checkout, as the local Kafka's are; where they do not resolve the
test is skipped with the reason, in CI too: 3.9 is the last with ZooKeeper and no longer made.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pricewire.errors import StartupError
from pricewire.kafka.local_data.install import installed_version, java, locked, made_whole, run
from tests.kafka_tools import CHECKOUT, KafkaTools, free_port, local_kafka
from tests.service_tools import (
    Load,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
    running,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

ARTIFACTS = CHECKOUT / ".kafka" / "zookeeper-3.9"
START_SECONDS = 60
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pricewire</groupId>
  <artifactId>kafka-with-zookeeper</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>3.9.1</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-reload4j</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
ZOOKEEPER = """dataDir=zookeeper
clientPort={zookeeper}
clientPortAddress=127.0.0.1
admin.enableServer=false
"""
BROKER = """broker.id=0
zookeeper.connect=127.0.0.1:{zookeeper}
listeners=PLAINTEXT://127.0.0.1:{broker}
log.dirs=data
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=4194304
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""
LOGGING = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
"""


def fetched() -> Path:
    """Return the folder of the jars; skip where they cannot be had."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    libs, pom = ARTIFACTS / "libs", ARTIFACTS / "pom.xml"
    with locked(ARTIFACTS / "lock"):
        if installed_version(libs) is None:
            pom.write_text(POM)
            try:
                with made_whole(libs) as partial:
                    run(
                        [
                            *("mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"),
                            *(f"-DoutputDirectory={partial}", "-DincludeScope=runtime"),
                        ],
                        ARTIFACTS,
                        ARTIFACTS / "mvn.log",
                        "fetching Kafka 3.9",
                    )
            except StartupError as error:
                pytest.skip(f"no Kafka with ZooKeeper: {error.detail}")
    return libs


@contextlib.contextmanager
def started(folder: Path, libs: Path, main_class: str, properties: str) -> Iterator[None]:
    name = main_class.rpartition(".")[2]
    (folder / "log4j.properties").write_text(LOGGING)
    (folder / f"{name}.properties").write_text(properties)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [
                java(),
                *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                "-Dlog4j.configuration=file:log4j.properties",
                *("-cp", f"{libs}/*", main_class, f"{name}.properties"),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def kafka_39(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaTools]:
    """A broker 3.9 and its ZooKeeper, looked at with the tools of the version that we ship."""
    libs, folder = fetched(), tmp_path_factory.mktemp("kafka-3.9")
    ports = {"zookeeper": free_port(), "broker": free_port()}
    quorum = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    with (
        started(folder, libs, quorum, ZOOKEEPER.format(**ports)),
        started(folder, libs, "kafka.Kafka", BROKER.format(**ports)),
    ):
        tools = KafkaTools(local_kafka(folder / "tools", port=ports["broker"]))
        tools.bootstrap_servers = f"127.0.0.1:{ports['broker']}"
        await_broker(tools.bootstrap_servers, folder / "Kafka.log")
        yield tools


def await_broker(servers: str, log: Path) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if admin.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            assert time.monotonic() < end, log.read_text()[-3000:]


@pytest.mark.timeout(600)  # with the fetch
def test_the_main_job_works_on_kafka_3_9_with_zookeeper(
    kafka_39: KafkaTools, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_39.bootstrap_servers,
        "HISTORY_INTERVAL_SECONDS": "0.01",
    }
    with running(Service(tmp_path / "home", environment)) as service:
        price = service.price("AAPL", wait_ms=20_000)
        assert price["event"]["state"] == "published"
        assert price["event"]["offset"] == 0
        with Load(service, ["AAPL", "MSFT", "IBM"], threads=2) as load:
            eventually(lambda: len(load.acknowledged) >= 200)
            service.kill()
            service.start()
            eventually(lambda: len(load.acknowledged) >= 400)
        eventually(service.drained)
        assert service.stop() == 0

    [line] = kafka_39.console_consume("price-events", 1)
    assert "ce_type:price.recorded" in line
    records = published(kafka_39, "price-events")
    assert_each_once_in_order(records)
    assert_all_published([price, *load.acknowledged], records)
