"""The local broker as people meet it: started, moved, killed, its port taken, its pid reused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pricewire.errors import StartupError
from pricewire.kafka.local import LocalKafka
from tests.kafka_tools import KafkaTools, free_port, local_kafka

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    broker = local_kafka(tmp_path_factory.mktemp("local") / "a hömé, with: spaces")
    yield broker
    broker.stop()


def _produce(broker: LocalKafka, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": f"localhost:{broker.port}", "acks": "all"})
    for value in values:
        producer.produce(topic, value, b"AAPL", partition=0, headers=[("ce_id", b"AAPL~1")])
    assert producer.flush(15) == 0
    producer.close()


def _values(broker: LocalKafka, topic: str) -> list[bytes | None]:
    return [message.value() for message in KafkaTools(broker).read_all(topic)]


def _line(broker: LocalKafka, name: str) -> str:
    properties = (broker.home / "server.properties").read_text()
    return next(line for line in properties.splitlines() if line.startswith(name))


def test_data_outlives_a_stop_and_a_change_of_port(
    broker: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FINNHUB_API_KEY", "ALPACA_API_SECRET_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "C4NARY")
    monkeypatch.setenv("LANG", "C.UTF-8")
    first = broker.start(started_by="tests")
    # What the service may know is none of Kafka's business.
    told = Path(f"/proc/{first.pid}/environ").read_bytes()
    assert b"LANG=C.UTF-8" in told
    assert b"C4NARY" not in told
    assert first.running
    assert first.answering
    assert (first.started_by, first.version) == ("tests", "4.3.1")
    tools = KafkaTools(broker)
    tools.create_topic("kept", partitions=2)
    _produce(broker, "kept", b"1", b"2")
    assert broker.stop()
    assert not broker.status().running
    assert not broker.stop()

    controller = _line(broker, "controller.quorum.voters")
    moved = replace(broker, port=free_port())
    second = moved.start(started_by="tests")
    try:
        assert second.cluster_id == first.cluster_id
        assert second.port == moved.port
        assert _line(moved, "controller.quorum.voters") != controller
        assert _values(moved, "kept") == [b"1", b"2"]
    finally:
        moved.stop()


def test_stock_tools_read_what_was_produced(broker: LocalKafka) -> None:
    broker.start(started_by="tests")
    _produce(broker, "made-by-asking", b'{"price": 112.1300}')
    tools = KafkaTools(broker)
    assert tools.console_consume("made-by-asking", 1) == ['ce_id:AAPL~1\tAAPL\t{"price": 112.1300}']
    assert "payload: {" in tools.dump_log("made-by-asking", 0)
    assert len({message.partition() for message in tools.read_all("made-by-asking")}) == 1
    assert (broker.data / "made-by-asking-5").is_dir()
    assert "Kafka Server started" in broker.logs(2000)


def test_a_second_start_finds_the_first(broker: LocalKafka) -> None:
    first = broker.start(started_by="tests")
    second = replace(broker, port=free_port()).start(started_by="somebody else")
    assert (second.pid, second.port) == (first.pid, first.port)
    assert second.started_by == "tests"


def test_two_starts_at_once_start_one(broker: LocalKafka) -> None:
    broker.stop()
    pids: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: pids.append(broker.start(started_by="tests").pid))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 2
    assert len(set(pids)) == 1


def test_listens_on_loopback_only(broker: LocalKafka) -> None:
    pid = broker.start(started_by="tests").pid
    addresses = _listening(pid)
    assert len(addresses) == 2
    hosts = {address.partition(":")[0] for address in addresses}
    assert hosts <= {"0100007F", "0000000000000000FFFF00000100007F"}


def _listening(pid: int | None) -> set[str]:
    if not Path("/proc/net/tcp").exists():
        pytest.skip("/proc tells here which sockets a process has")
    links = Path(f"/proc/{pid}/fd").iterdir()
    sockets = {str(link.readlink()) for link in links if link.is_symlink()}
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_starts_again_after_a_kill(broker: LocalKafka) -> None:
    before = broker.start(started_by="tests")
    _produce(broker, "killed", b"1")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    after = broker.start(started_by="tests")
    assert after.pid != before.pid
    assert _values(broker, "killed") == [b"1"]


def test_a_foreign_process_with_the_pid_is_left_alone(tmp_path: Path) -> None:
    broker = local_kafka(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as foreign:
        state = {"pid": foreign.pid, "began": "1", "port": broker.port, "started_by": "long ago"}
        (tmp_path / "broker.json").write_text(json.dumps(state))
        assert not broker.status().running
        assert not broker.stop()
        assert foreign.poll() is None
        foreign.kill()


def test_a_taken_port_is_named_with_the_ways_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError) as refused:
            local_kafka(tmp_path, port).start(started_by="tests")
    assert f"port {port} is taken" in refused.value.detail
    assert "LOCAL_KAFKA_PORT" in refused.value.detail
    assert f"KAFKA_BOOTSTRAP_SERVERS=localhost:{port}" in refused.value.detail


def test_a_broker_that_dies_at_once_says_why(tmp_path: Path) -> None:
    broker = replace(local_kafka(tmp_path), heap_mb=1)
    (broker.data).mkdir()
    (broker.data / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    with pytest.raises(StartupError, match=r"heap|Error") as died:
        broker.start(started_by="tests")
    assert "Kafka died while it started" in died.value.detail
    assert not (tmp_path / "broker.json").exists()


def test_no_artifacts_under_kafka_home_is_said(tmp_path: Path) -> None:
    broker = replace(local_kafka(tmp_path), kafka_home=tmp_path)
    assert broker.missing() == f"KAFKA_HOME={tmp_path} holds no libs/kafka_*.jar"
