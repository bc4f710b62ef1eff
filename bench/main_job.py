"""Measures the main job: request → provider → database → Kafka, everything stored and published.

`python -m bench.main_job [--seconds N] [--repeats N] [case ...]`; cases are DATABASE+PROVIDER. One
service process, 32 connections, generator, broker and database on the same machine; nothing cached.
After each run the events in the database and on the topic are counted: a rate counts only if every
answer was recorded and published.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from pricewire.kafka.local import LocalKafka
from tests.kafka_tools import free_port
from tests.postgres_tools import LocalPostgres, postgres_server

CONNECTIONS = 32
PARTITIONS = 6
CASES = ["sqlite+history", "sqlite+http", "postgres+history", "postgres+http"]
SYMBOLS = {
    "history": ["AAPL", "MSFT", "IBM", "GOOG", "FB"],
    "http": [f"SYM{number}" for number in range(100)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="folder for py-spy's raw profiles")
    parser.add_argument("cases", nargs="*", default=CASES)
    options = parser.parse_args()
    print(machine())
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricewire-bench-")))
        kafka = stack.enter_context(local_kafka(home / "kafka"))
        postgres = stack.enter_context(postgres_server(home.with_name(home.name + "-pg")))
        results: dict[str, list[dict[str, float]]] = {case: [] for case in options.cases}
        for turn in range(options.repeats):
            for case in options.cases:
                run = Run(case, home / f"{case}-{turn}", kafka, postgres)
                results[case].append(run.measure(options.seconds, options.profile))
                print(case, json.dumps(results[case][-1]), flush=True)
    for case, runs in results.items():
        rates = [run["per_second"] for run in runs]
        print(f"{case}: median {statistics.median(rates)} of {rates} answers a second")


def machine() -> str:
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, Python {platform.python_version()}, {platform.system()}"


@contextmanager
def local_kafka(home: Path) -> Iterator[LocalKafka]:
    kafka_home = Path(os.environ.get("KAFKA_HOME", ".kafka"))
    broker = LocalKafka(
        home=home,
        port=free_port(),
        say=lambda line: print(line, file=sys.stderr),
        kafka_home=kafka_home if (kafka_home / "libs").is_dir() else None,
    )
    broker.start(started_by="bench")
    try:
        yield broker
    finally:
        broker.stop()


def wait_until_ready(get: Callable[[str], bytes]) -> None:
    """Wait until a service publishes; `get` asks it."""
    for _ in range(400):
        try:
            parts = json.loads(get("/health/ready"))["parts"]
            if all(shard["phase"] == "publishing" for shard in parts["relay"]["shards"]):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the service did not become ready")


class Run:
    """One service process on a fresh database and a fresh topic."""

    def __init__(self, case: str, home: Path, kafka: LocalKafka, postgres: LocalPostgres) -> None:
        database, self._provider = case.split("+")
        self._port = free_port()
        self._vendor_port = free_port()
        self._servers = f"localhost:{kafka.port}"
        self._topic = f"{case.replace('+', '-')}-{time.time_ns()}"
        self._environment = {
            **os.environ,
            "PRICEWIRE_HOME": str(home),
            "API_PORT": str(self._port),
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "KAFKA_PRICE_EVENTS_TOPIC": self._topic,
            "LOG_LEVEL": "WARNING",
        }
        if database == "postgres":
            self._environment["DATABASE_URL"] = postgres.database_url()
        if self._provider == "http":
            self._environment |= {
                "ALPHA_VANTAGE_API_KEY": "bench",
                "ALPHA_VANTAGE_BUDGET": "off",
                "ALPHA_VANTAGE_BASE_URL": f"http://127.0.0.1:{self._vendor_port}",
            }

    def measure(self, seconds: float, profile: Path | None) -> dict[str, float]:
        vendor = start([sys.executable, "-m", "bench.vendor", str(self._vendor_port)])
        service = start(["pricewire", "up"], self._environment)
        try:
            wait_until_ready(self._get)
            self._load(2)
            before = cpu_seconds(service.pid)
            spy = spying(service.pid, seconds, profile, self._topic)
            result = self._load(seconds)
            used = cpu_seconds(service.pid) - before
            result["service_cpu_percent"] = round(used / seconds * 100)
            result["service_cpu_us_per_answer"] = round(used / result["answers"] * 1e6)
            if spy:
                spy.wait()
            recorded = self._drained()
            result["recorded"] = recorded
            print(json.dumps(result), file=sys.stderr)
            result["on_topic"] = on_topic(self._servers, self._topic)
            assert result["not_200"] == 0
            assert result["recorded"] == result["on_topic"] >= result["answers"]
            return result
        finally:
            for process in (service, vendor):
                process.send_signal(signal.SIGTERM)
            assert service.wait(30) == 0

    def _load(self, seconds: float) -> dict[str, float]:
        command = [sys.executable, "-m", "bench.load", str(self._port), str(CONNECTIONS)]
        symbols = SYMBOLS[self._provider]
        done = subprocess.run(
            [*command, str(seconds), *symbols], check=True, capture_output=True, text=True
        )
        result: dict[str, float] = json.loads(done.stdout)
        return result

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    def _drained(self) -> int:
        """Wait until the outbox is empty; return how many prices were recorded."""
        for _ in range(300):
            if json.loads(self._get("/health/ready"))["parts"]["outbox"]["waiting"] == 0:
                metrics = self._get("/metrics").decode()
                name = "pricewire_prices_recorded_total "
                line = next(one for one in metrics.splitlines() if one.startswith(name))
                return int(float(line.removeprefix(name)))
            time.sleep(0.1)
        raise TimeoutError("the outbox did not drain")


def start(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / command[0]
    found = [str(program), *command[1:]] if program.exists() else command
    return subprocess.Popen(found, env=environment, stdout=subprocess.DEVNULL)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spying(
    pid: int, seconds: float, folder: Path | None, name: str
) -> subprocess.Popen[bytes] | None:
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        "-d",
        str(int(seconds)),
        "-r",
        "100",
        "-f",
        "raw",
        "--gil",
        "--nonblocking",
        "-o",
        str(folder / f"{name}.raw"),
    ]
    return start(["py-spy", "record", "-p", str(pid), *options])


def on_topic(servers: str, topic: str) -> int:
    """Count the records of `topic` by its watermarks: nothing there is compacted."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    marks = [
        consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        for partition in range(PARTITIONS)
    ]
    consumer.close()
    return sum(high - low for low, high in marks)


if __name__ == "__main__":
    main()
