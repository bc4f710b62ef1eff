"""Measures how late averages are: from an event's time on `price-events` to where it is read.

`python -m bench.streams_latency [--rate N] [--seconds N] [--only peer,...]`. Events are produced by
a schedule, and lateness counts from the schedule, so that a processor that stalls cannot hide it.
For Pricewire the API runs too, and a probe asks it until it answers the average just due.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.main_job import machine
from bench.streams_input import PARTITIONS, WINDOW, Input, client, create_topic, input_producer
from bench.streams_peers import (
    ALL,
    EXTRA,
    Job,
    Peer,
    Servers,
    pricewire_settings,
    servers,
    stop,
)
from bench.streams_watch import sample
from tests.kafka_tools import free_port

START_SECONDS = 60.0


class Average(msgspec.Struct):
    symbol: str
    value: float | str | None


def main() -> None:
    options = _options()
    print(machine(), flush=True)
    with servers() as local:
        for peer in options.only:
            for where, late in Run(peer, local, options).measure().items():
                print(_line(f"{peer.name}, {where}", late), flush=True)


def _options() -> argparse.Namespace:
    known = {**ALL, **EXTRA}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--warm", type=int, default=10, help="seconds before, not counted")
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--only", default="pricewire", help=f"of {', '.join(known)}")
    parser.add_argument("--option", action="append", default=[], help="for kafka-streams")
    options = parser.parse_args()
    options.only = [known[name] for name in options.only.split(",")]
    return options


def _line(name: str, late: list[float]) -> str:
    if not late:
        return f"{name}: nothing was seen"
    late.sort()
    part = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    figures = [f"{label} {late[int(len(late) * at)] * 1000:.1f} ms" for label, at in part.items()]
    return f"{name}: {', '.join(figures)}, max {late[-1] * 1000:.1f} ms ({len(late):,} seen)"


class Run:
    """One peer on topics of its own."""

    def __init__(self, peer: Peer, local: Servers, options: argparse.Namespace) -> None:
        self._peer = peer
        self._options = options
        self._input = Input(options.symbols)
        self._job = Job(
            servers=local.kafka,
            source=create_topic(local.kafka, f"price-events-{peer.name}"),
            target=create_topic(local.kafka, f"averages-{peer.name}"),
            group=f"group-{peer.name}",
            home=local.home / peer.name,
            database_url=local.postgres.database_url(),
            events=0,
            options=tuple(options.option),
        )
        self._filled = WINDOW * options.symbols
        self._reader = Reader(self._job, options)

    def measure(self) -> dict[str, list[float]]:
        """Return the latenesses, in seconds, by where they were seen."""
        process = self._peer.start(self._job)
        others: list[subprocess.Popen[bytes]] = []
        try:
            self._reader.start()
            self._produce(0, self._filled, time.time())
            self._wait(lambda: self._reader.outputs >= self._options.symbols, process)
            late = self._scheduled(process, others)
        finally:
            for one in (process, *others):
                stop(one)
            self._reader.stop()
        return late

    def _scheduled(
        self, process: subprocess.Popen[bytes], others: list[subprocess.Popen[bytes]]
    ) -> dict[str, list[float]]:
        port = self._start_api(others) if self._peer.name == "pricewire" else None
        options = self._options
        began = time.time() + 2
        self._reader.began = began
        probe = self._start_probe(port, began) if port else None
        before = sample(process.pid)
        self._produce(
            self._filled, self._filled + options.rate * (options.warm + options.seconds), began
        )
        after = sample(process.pid)
        with suppress(TimeoutError):
            self._wait(lambda: self._reader.complete, process, seconds=10)
        busy = (after.cpu - before.cpu) / (after.at - before.at)
        print(f"{self._peer.name}: {busy:.0%} of a core at {options.rate:,} a second")
        late = {"seen on the output topic": self._reader.late}
        if probe:
            late["readable at the API"] = json.loads(probe.communicate(timeout=60)[0])
        return late

    def _produce(self, first: int, last: int, began: float) -> None:
        """Produce events by schedule, those of the fill at once."""
        producer = input_producer(self._job.servers, linger_ms=0)
        pace = 1 / self._options.rate if first else 0.0
        for number in range(first, last):
            due = began + (number - first) * pace
            while (ahead := due - time.time()) > 0:
                time.sleep(min(ahead, 0.001))
            key, value, partition, headers = self._input.event(number)
            producer.produce(self._job.source, value, key, partition, headers=headers)
            producer.poll(0)
        assert producer.flush(30) == 0

    def _wait(
        self,
        holds: Callable[[], bool],
        process: subprocess.Popen[bytes],
        seconds: float = START_SECONDS,
    ) -> None:
        """Wait until `holds`, as long as the peer lives."""
        end = time.monotonic() + seconds
        while not holds():
            if process.poll() is not None:
                log = (self._job.home / "log").read_text(errors="replace")
                sys.exit(f"{self._peer.name} ended with {process.returncode}: {log[-3000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"{self._peer.name}: not within {seconds} s")
            time.sleep(0.05)

    def _start_api(self, others: list[subprocess.Popen[bytes]]) -> int:
        """Start the API on the same database and topics; return its port."""
        port = free_port()
        api = Peer(
            "api",
            "",
            lambda _job: [str(Path(sys.executable).with_name("pricewire")), "api"],
            lambda job: {**pricewire_settings(job), "API_PORT": str(port)},
        )
        home = self._job.home / "api"
        others.append(api.start(_at(self._job, home)))
        end = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health/live", timeout=2):
                return port
            if time.monotonic() > end or others[-1].poll() is not None:
                sys.exit(f"the API did not come up: {(home / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def _start_probe(self, port: int, began: float) -> subprocess.Popen[bytes]:
        options = self._options
        numbers = [port, began, options.rate, options.symbols, options.warm, options.seconds]
        return subprocess.Popen(
            [sys.executable, "-m", "bench.streams_probe", *map(str, numbers)],
            stdout=subprocess.PIPE,
        )


def _at(job: Job, home: Path) -> Job:
    return Job(
        servers=job.servers,
        source=job.source,
        target=job.target,
        group=job.group,
        home=home,
        database_url=job.database_url,
        events=0,
    )


class Reader(threading.Thread):
    """Reads the output topic as it grows, and notes how late each average is."""

    def __init__(self, job: Job, options: argparse.Namespace) -> None:
        super().__init__(daemon=True)
        self.began = float("inf")
        self.late: list[float] = []
        self.outputs = 0
        self._job = job
        self._rate: int = options.rate
        self._symbols: int = options.symbols
        self._not_counted = self._rate * int(options.warm)
        self._all: int = self._symbols + self._rate * int(options.warm + options.seconds)
        self._ended = threading.Event()

    @property
    def complete(self) -> bool:
        return self.outputs >= self._all

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        settings = {**client(self._job.servers), "group.id": "bench-latency"}
        consumer = Consumer(settings)
        consumer.assign(
            [TopicPartition(self._job.target, one, OFFSET_BEGINNING) for one in range(PARTITIONS)]
        )
        decode = msgspec.json.Decoder(Average).decode
        seen: Counter[str] = Counter()
        while not self._ended.is_set():
            message = consumer.poll(0.1)
            at = time.time()
            if message is None or message.error() is not None:
                continue
            average = decode(message.value() or b"")
            if average.value is not None:
                seen[average.symbol] += 1
                self.outputs += 1
                self._note(average.symbol, seen[average.symbol], at)
        consumer.close()

    def _note(self, symbol: str, outputs: int, at: float) -> None:
        """Find the event's place in the schedule: symbols take turns, the first outputs are old."""
        number = (outputs - 2) * self._symbols + int(symbol[1:])
        if outputs >= 2 and number >= self._not_counted:
            self.late.append(at - (self.began + number / self._rate))


if __name__ == "__main__":
    main()
