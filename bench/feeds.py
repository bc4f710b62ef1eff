"""Measures a live feed: from a vendor's websocket to events on the topic, everything recorded.

`python -m bench.feeds [--rate N] [--seconds N] [--kill] [DATABASE ...]`. One service process as
`pricewire up` runs it, a vendor that sends at a rate, and a consumer of the topic; broker, database
and all these share the machine. A run counts only if every trade is on the topic once and
nothing waits for longer at its end than at its beginning. With `--kill` the service is killed in
the middle: what is missing then must be named, number for number.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from array import array
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.main_job import cpu_seconds, local_kafka, machine, start, wait_until_ready
from pricewire.kafka.local import LocalKafka
from tests.kafka_tools import free_port
from tests.postgres_tools import LocalPostgres, postgres_server

PARTITIONS = 6
PRODUCTS = 100
WARM_SECONDS = 5


class Value(msgspec.Struct):
    timestamp: datetime


class Watcher(threading.Thread):
    """Consumes the topic and notes how old each tick is when its event arrives."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.ages = array("d")
        self.arrived = array("d")
        self.stopped = threading.Event()
        settings = {
            "bootstrap.servers": servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "broker.address.family": "v4",
        }
        self._consumer = Consumer(settings)
        partitions = [TopicPartition(topic, one, OFFSET_BEGINNING) for one in range(PARTITIONS)]
        self._consumer.assign(partitions)
        self._decode = msgspec.json.Decoder(Value).decode

    def run(self) -> None:
        while not self.stopped.is_set():
            for message in self._consumer.consume(1_000, 0.02):
                value = message.value()
                if message.error() is None and value is not None:
                    now = time.time()
                    self.ages.append(now - self._decode(value).timestamp.timestamp())
                    self.arrived.append(now)
        self._consumer.close()


class Run:
    """One service process on a fresh database and a fresh topic."""

    def __init__(
        self, database: str, home: Path, kafka: LocalKafka, postgres: LocalPostgres
    ) -> None:
        self._port = free_port()
        self._vendor_port = free_port()
        self._servers = f"localhost:{kafka.port}"
        self._topic = f"feeds-{database}-{time.time_ns()}"
        self._environment = {
            **os.environ,
            "PRICEWIRE_HOME": str(home),
            "API_PORT": str(self._port),
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "KAFKA_PRICE_EVENTS_TOPIC": self._topic,
            "KAFKA_MOVING_AVERAGES_TOPIC": f"{self._topic}-averages",
            "KAFKA_CANDLES_TOPIC": f"{self._topic}-candles",
            "COINBASE_WS_URL": f"ws://127.0.0.1:{self._vendor_port}",
            "COINBASE_BASE_URL": f"http://127.0.0.1:{free_port()}",
            "LOG_LEVEL": "WARNING",
        }
        if database == "postgres":
            self._environment["DATABASE_URL"] = postgres.database_url()
        self._service: subprocess.Popen[bytes] | None = None

    def measure(self, rate: float, seconds: float, *, kill: bool) -> dict[str, Any]:
        vendor = subprocess.Popen(
            [sys.executable, "-m", "bench.feed_vendor", str(self._vendor_port), str(rate),
             str(WARM_SECONDS + seconds), str(PRODUCTS)], stdout=subprocess.PIPE,
        )  # fmt: skip
        self._start()
        watcher = Watcher(self._servers, self._topic)
        watcher.start()
        try:
            job = self._stream()
            time.sleep(WARM_SECONDS)
            began, used = time.time(), self._cpu()
            if kill:
                self._kill_after(seconds / 2)
            numbers = printed(vendor, seconds * 2 + 60)
            result = self._told(watcher, began, seconds, used, kill=kill)
            self._check(job, watcher, numbers, result)
            return result
        finally:
            watcher.stopped.set()
            watcher.join(10)
            vendor.kill()
            vendor.wait()
            assert self._service is not None
            self._service.send_signal(signal.SIGTERM)
            assert self._service.wait(40) == 0

    def _start(self) -> None:
        self._service = start(["pricewire", "up"], self._environment)
        wait_until_ready(self._get)

    def _stream(self) -> str:
        symbols = [f"C{number}-USD" for number in range(PRODUCTS)]
        body = {"kind": "stream", "provider": "coinbase", "symbols": symbols}
        url = f"http://127.0.0.1:{self._port}/v1/jobs"
        request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"/v1/jobs/{json.load(answer)['job_id']}"

    def _kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        assert self._service is not None
        self._service.kill()
        self._service.wait()
        self._start()

    def _told(
        self, watcher: Watcher, began: float, seconds: float, used: float, *, kill: bool
    ) -> dict[str, Any]:
        cpu = 0 if kill else round((self._cpu() - used) / seconds * 100)
        waiting = json.loads(self._get("/health/ready"))["parts"]["outbox"]["waiting"]
        times = list(zip(watcher.arrived, watcher.ages, strict=False))
        ages = sorted(age for at, age in times if began <= at < began + seconds)
        middle = sum(began + seconds / 2 <= at < began + seconds for at, _ in times)
        return {
            "ticks_a_second_on_the_topic": round(len(ages) / seconds, 1),
            "in_the_second_half": round(middle / seconds * 2, 1),
            "p50_ms": round(ages[len(ages) // 2] * 1000, 1),
            "p99_ms": round(ages[int(len(ages) * 0.99)] * 1000, 1),
            "max_ms": round(ages[-1] * 1000, 1),
            "waiting_at_the_end": waiting,
            "service_cpu_percent": cpu,
        }

    def _check(
        self, job: str, watcher: Watcher, numbers: dict[str, list[int]], result: dict[str, Any]
    ) -> None:
        """Every number that the vendor counted is recorded and on the topic, or named missing."""
        time.sleep(3)
        self._drained()
        time.sleep(1)
        told = json.loads(self._get(job))
        feed = told["feed"]
        missing = sum(last - first + 1 for one in told["symbols"] for first, last in one["missing"])
        behind = sum(numbers[one["symbol"]][1] - one["last_number"] for one in told["symbols"])
        counted = sum(last - first + 1 for first, last in numbers.values())
        result |= {"sent": counted, "recorded": feed["ticks"], "named_missing": missing,
                   "reconnects": feed["reconnects"], "dropped": feed["dropped_connections"],
                   "last_error": feed["last_error"], "on_topic": len(watcher.ages)}  # fmt: skip
        print(json.dumps(result), file=sys.stderr)
        assert feed["ticks"] == len(watcher.ages)
        assert feed["ticks"] + missing + behind == counted, behind

    def _drained(self) -> None:
        for _ in range(600):
            if json.loads(self._get("/health/ready"))["parts"]["outbox"]["waiting"] == 0:
                return
            time.sleep(0.1)
        raise TimeoutError("the outbox did not drain")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=15) as answer:
            body: bytes = answer.read()
            return body

    def _cpu(self) -> float:
        assert self._service is not None
        return cpu_seconds(self._service.pid)


def printed(process: subprocess.Popen[bytes], seconds: float) -> dict[str, list[int]]:
    """Return the line of JSON that a process prints."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    if not ready:
        raise TimeoutError("the vendor said nothing")
    found: dict[str, list[int]] = json.loads(process.stdout.readline())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgres"])
    options = parser.parse_args()
    print(machine())
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricewire-bench-")))
        kafka = stack.enter_context(local_kafka(home / "kafka"))
        postgres = stack.enter_context(postgres_server(home.with_name(home.name + "-pg")))
        for database in options.databases:
            run = Run(database, home / database, kafka, postgres)
            result = run.measure(options.rate, options.seconds, kill=options.kill)
            print(database, options.rate, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
