"""Real Apache Kafka brokers to break: several nodes, each killed, frozen or restarted at will.

The fault and security tests use it; artifacts are those of `tests/kafka_tools.py`. Invariants: each
node is broker and controller in a folder and on ports of its own, listens on loopback only, and
leaving the `with` block kills whatever still runs, frozen or not.

    with Cluster(tmp_path / "kafka", brokers=3) as cluster:
        leader = cluster.leader_of("price-events", 0)
        cluster.kill(leader)            # kill -9; cluster.restart(leader) brings it back
        cluster.freeze(leader)          # SIGSTOP; cluster.thaw(leader)

A node with security: `properties` are templates, filled in for each node with `$node`, `$port`
(client listener), `$controller_port` and `$second_port` (free, for a listener of your own):

    Cluster(folder, properties={
        "listeners": "PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port,"
                     "SASL_SSL://127.0.0.1:$second_port",
        "advertised.listeners": "PLAINTEXT://127.0.0.1:$port,SASL_SSL://localhost:$second_port",
        "listener.security.protocol.map":
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL", ...},
        format_options=["--add-scram", "SCRAM-SHA-256=[name=relay,password=secret]"])

and clients then use `cluster.node(1).second_port`. A literal dollar sign is written `$$`.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pricewire.kafka.local import LocalKafka
from pricewire.kafka.local_data.install import SHIPPED, java
from tests.kafka_tools import KafkaTools, free_port, local_kafka

START_SECONDS = 40

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "$node",
    "listeners": "PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:$port",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "log.dirs": "data",
    "auto.create.topics.enable": "false",
    "num.partitions": "6",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # What is dead is noticed in three seconds, not nine.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.backoff.max.ms": "500",
    "replica.lag.time.max.ms": "3000",
    "replica.socket.timeout.ms": "3000",
    "replica.fetch.wait.max.ms": "250",
}

_BROKER_ONLY = {"process.roles": "broker", "listeners": "PLAINTEXT://127.0.0.1:$port"}


@dataclass
class Broker:
    """One node: where it lives, and its process while it has one."""

    node: int
    folder: Path
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    second_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        files = (self.folder / "logs" / "kafka.log", self.folder / "kafka.out")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def answers(self, brokers: int) -> bool:
        """Whether it tells of at least `brokers` members of the cluster."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            return len(admin.list_topics(timeout=1).brokers) >= brokers
        except KafkaException:
            return False


class Cluster:
    """`brokers` nodes, numbered from 1; formatted and started on entry, killed on exit.

    Args:
        folder: of the whole cluster; each node has `folder/<node>`, with `data` and `logs`.
        properties: templates that are added to, or take the place of, `PROPERTIES`.
        format_options: more arguments of `kafka-storage format`, such as `--add-scram`.
        advertised: ports that nodes advertise to clients instead of their own (a proxy's).
        controllers: how many nodes (the first ones) are controllers too; all if not given. With
            one, the others may be killed without taking the quorum along.
        heap_mb: the largest heap of each node.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int = 1,
        *,
        properties: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
        advertised: Mapping[int, int] | None = None,
        controllers: int | None = None,
        heap_mb: int = 256,
    ) -> None:
        self.folder = folder
        self._brokers = {node: Broker(node, folder / str(node)) for node in range(1, brokers + 1)}
        self._properties = PROPERTIES | _replication(brokers) | dict(properties or {})
        self._format_options = format_options
        self._advertised = dict(advertised or {})
        self._controllers = controllers or brokers
        self._heap_mb = heap_mb
        self._artifacts = local_kafka(folder / "artifacts", port=self.node(1).port)

    def __enter__(self) -> Cluster:
        try:
            self.format()
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill_all()

    def node(self, node: int) -> Broker:
        return self._brokers[node]

    @property
    def nodes(self) -> list[Broker]:
        return list(self._brokers.values())

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.bootstrap_servers for broker in self.nodes)

    @property
    def tools(self) -> KafkaTools:
        """Looks into topics; asks every node that it can reach."""
        tools = KafkaTools(self._artifacts)
        tools.bootstrap_servers = self.bootstrap_servers
        return tools

    @property
    def artifacts(self) -> LocalKafka:
        """For `artifacts.tool(main_class, ...)`: the command line of one of Kafka's tools."""
        return self._artifacts

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def log_of(self, node: int) -> str:
        return self.node(node).log

    def leader_of(self, topic: str, partition: int) -> int:
        """Return the node that leads a partition, or -1 while none does."""
        metadata = self.admin().list_topics(topic, timeout=10)
        leader: int = metadata.topics[topic].partitions[partition].leader
        return leader

    def format(self) -> None:
        """Write each node's properties and format its data folder, all at once."""
        cluster_id = base64.urlsafe_b64encode(b"p" + os.urandom(15)).decode().rstrip("=")
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda broker: self._format(broker, cluster_id), self.nodes))

    def start(self) -> None:
        """Start the nodes that do not run; return once each knows all of them."""
        started = [broker for broker in self.nodes if not broker.runs]
        for broker in started:
            self._launch(broker)
        for broker in started:
            self._await(broker, len(self.nodes))

    def stop(self, timeout: float = 30) -> None:
        """Stop all nodes as an operator would, with SIGTERM; past `timeout` seconds they are
        killed, as the last ones of a static quorum have nobody left to hand over to."""
        running = [broker for broker in self.nodes if broker.runs]
        for broker in running:
            broker.signal(signal.SIGTERM)
        end = time.monotonic() + timeout
        for broker in running:
            assert broker.process is not None
            try:
                broker.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                broker.kill()

    def kill(self, node: int) -> None:
        """Kill a node with -9 and wait until it is gone."""
        self.node(node).kill()

    def freeze(self, node: int) -> None:
        self.node(node).signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        self.node(node).signal(signal.SIGCONT)

    def restart(self, node: int, brokers: int | None = None) -> None:
        """Start a node that ended, on its old data; return once it knows of `brokers` members
        (default: as many as have a process now)."""
        broker = self.node(node)
        broker.kill()
        self._launch(broker)
        self._await(broker, brokers or sum(one.runs for one in self.nodes))

    def kill_all(self) -> None:
        for broker in self.nodes:
            broker.kill()

    def write_properties(self, broker: Broker, **changes: str) -> None:
        """Write a node's properties, with changes (`log_dirs` for `log.dirs`)."""
        voters = self.nodes[: self._controllers]
        properties = {
            **self._properties,
            **({} if broker in voters else _BROKER_ONLY),
            "controller.quorum.voters": ",".join(
                f"{one.node}@127.0.0.1:{one.controller_port}" for one in voters
            ),
            **{name.replace("_", "."): value for name, value in changes.items()},
        }
        if advertised := self._advertised.get(broker.node):
            properties["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{advertised}"
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        values = {
            "node": broker.node,
            "port": broker.port,
            "controller_port": broker.controller_port,
            "second_port": broker.second_port,
        }
        (broker.folder / "server.properties").write_text(Template(text).substitute(values))

    def _format(self, broker: Broker, cluster_id: str) -> None:
        (broker.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.write_properties(broker)
        command = self._artifacts.tool(
            "kafka.tools.StorageTool",
            *("format", "-t", cluster_id, "-c", "server.properties", *self._format_options),
        )
        done = subprocess.run(
            command, cwd=broker.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _launch(self, broker: Broker) -> None:
        with (broker.folder / "kafka.out").open("ab") as out:
            broker.process = subprocess.Popen(
                [
                    java(),
                    *("-Xms64m", f"-Xmx{self._heap_mb}m", "-XX:+UseSerialGC"),
                    # These brokers live for seconds: what starts fast is worth more than what
                    # runs fast in the end.
                    *("-XX:TieredStopAtLevel=1", "-Xshare:auto"),
                    "-Djava.awt.headless=true",
                    "-Dkafka.logs.dir=logs",
                    f"-Dlog4j2.configurationFile={SHIPPED / 'log4j2.properties'}",
                    *("-cp", f"{self._artifacts.libs}/*", "kafka.Kafka", "server.properties"),
                ],
                cwd=broker.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def _await(self, broker: Broker, brokers: int) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not broker.answers(brokers):
            assert broker.runs, f"node {broker.node} died while it started: {_telling(broker.log)}"
            assert time.monotonic() < give_up, (
                f"node {broker.node} does not know {brokers} nodes after {START_SECONDS} s: "
                f"{_telling(broker.log)}"
            )
            time.sleep(0.1)


def _replication(brokers: int) -> dict[str, str]:
    factor, insync = str(min(brokers, 3)), str(2 if brokers >= 3 else 1)
    return {
        "default.replication.factor": factor,
        "min.insync.replicas": insync,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": insync,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": insync,
    }


def _telling(log: str) -> str:
    lines = log.splitlines()
    telling = [line for line in lines if re.search(r"\b(ERROR|FATAL)\b|Exception|Error:", line)]
    return "\n".join((telling or lines)[-8:])
