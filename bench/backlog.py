"""Measures what a price costs while Kafka is away and a backlog of events waits in the outbox.

`python -m bench.backlog [--seconds N] [--rate N] [--backlog N] [--turns N] [database ...]`: two
services beside each other, one with its Kafka running, one with its Kafka stopped and a backlog of
its own events. An open loop asks them in turn, so that whatever else the machine does falls on
both; then the second one's Kafka starts again under load. Everything that was recorded must be on
the topics at the end: a latency for which events were lost would be worth nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.main_job import (
    SYMBOLS,
    Run,
    cpu_seconds,
    local_kafka,
    machine,
    on_topic,
    start,
    wait_until_ready,
)
from pricewire.kafka.local import LocalKafka
from tests.postgres_tools import LocalPostgres, postgres_server

DATABASES = ["sqlite", "postgres"]
TARGET = 2.0
"""At most so many times the p99 with Kafka running."""
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load on each service")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--backlog", type=int, default=50_000, help="events, at least")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("databases", nargs="*", default=DATABASES)
    options = parser.parse_args()
    print(machine())
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricewire-bench-")))
        postgres = stack.enter_context(postgres_server(home.with_name(home.name + "-pg")))
        for database in options.databases:
            print(compare(database, home / database, postgres, options), flush=True)


def compare(database: str, home: Path, postgres: LocalPostgres, options: argparse.Namespace) -> str:
    running, stopped, back = Taken(), Taken(), Taken()
    with (
        serving(database, home / "running", postgres) as one,
        serving(database, home / "stopped", postgres) as other,
    ):
        other.lose_kafka(options.backlog)
        for _ in range(options.turns):
            one.ask(running, options.rate, options.seconds / options.turns)
            other.ask(stopped, options.rate, options.seconds / options.turns)
        print(database, "Kafka running:", running.summary(), flush=True)
        print(database, "Kafka stopped:", stopped.summary(), flush=True)
        other.find_kafka_again(back, options.rate, options.seconds)
        print(database, "Kafka back:", back.summary(), flush=True)
        one.check_all_published()
        other.check_all_published()
    ratio = stopped.at(0.99) / running.at(0.99)
    word = "holds" if ratio <= TARGET else "is missed"
    return f"{database}: p99 stopped / running {ratio:.2f}; at most {TARGET:g} {word}"


@dataclass
class Taken:
    """Milliseconds of all turns on one service, and what it and the generator cost meanwhile."""

    answered: list[float] = field(default_factory=list)
    generator_late: list[float] = field(default_factory=list)
    service_cpu_percent: list[float] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    load_average: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        return quantile(self.answered, share)

    def summary(self) -> str:
        return json.dumps(
            {
                "answers": len(self.answered),
                **{name: self.at(share) for name, share in SHARES.items()},
                "service_cpu_percent": round(statistics.mean(self.service_cpu_percent)),
                "waiting": [min(self.waiting), max(self.waiting)],
                "generator_late_p99_ms": quantile(self.generator_late, 0.99),
                "load_average": [min(self.load_average), max(self.load_average)],
            }
        )


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of all are at or below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@contextmanager
def serving(database: str, home: Path, postgres: LocalPostgres) -> Iterator[Backlog]:
    with local_kafka(home / "kafka") as kafka:
        run = Backlog(database, home / "service", kafka, postgres)
        try:
            run.warm_up()
            yield run
        finally:
            run.stop()


class Backlog(Run):
    """One service process with a broker of its own."""

    def __init__(
        self, database: str, home: Path, kafka: LocalKafka, postgres: LocalPostgres
    ) -> None:
        super().__init__(f"{database}+history", home, kafka, postgres)
        self._kafka = kafka
        self._service = start(["pricewire", "up"], self._environment)

    def warm_up(self) -> None:
        wait_until_ready(self._get)
        self._load(3)
        self._wait_for_empty()

    def stop(self) -> None:
        self._service.send_signal(signal.SIGTERM)
        assert self._service.wait(60) == 0

    def ask(self, taken: Taken, rate: float, seconds: float) -> None:
        """Ask in an open loop; every answer must be 200."""
        command = [sys.executable, "-m", "bench.open_load", str(self._port), str(rate)]
        command += [str(seconds), *SYMBOLS[self._provider]]
        before = cpu_seconds(self._service.pid)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        used = cpu_seconds(self._service.pid) - before
        result = json.loads(done.stdout)
        assert result["not_200"] == 0
        taken.answered += result["ms"]
        taken.generator_late += result["generator_late_ms"]
        taken.service_cpu_percent.append(used / seconds * 100)
        taken.waiting.append(self._waiting())
        taken.load_average.append(round(os.getloadavg()[0], 1))

    def lose_kafka(self, backlog: int) -> None:
        """Stop Kafka and let the service record until so many events wait."""
        self._kafka.stop()
        began = time.monotonic()
        while self._waiting() < backlog:
            self._load(1)
        print(f"{self._waiting()} events recorded without Kafka, {time.monotonic() - began:.0f} s")

    def find_kafka_again(self, taken: Taken, rate: float, seconds: float) -> None:
        waiting, began = self._waiting(), time.monotonic()
        self._kafka.start(started_by="bench")
        self.ask(taken, rate, seconds)
        self._wait_for_empty()
        print(
            f"{waiting} events published within {time.monotonic() - began:.0f} s of Kafka's start"
        )

    def check_all_published(self) -> None:
        self._wait_for_empty()
        recorded = self._drained()
        assert recorded == on_topic(self._servers, self._topic), "events are missing"

    def _waiting(self) -> int:
        waiting: int = json.loads(self._get("/health/ready"))["parts"]["outbox"]["waiting"]
        return waiting

    def _wait_for_empty(self) -> None:
        give_up = time.monotonic() + 300
        while self._waiting():
            if time.monotonic() > give_up:
                raise TimeoutError("the outbox did not drain")
            time.sleep(0.2)


if __name__ == "__main__":
    main()
