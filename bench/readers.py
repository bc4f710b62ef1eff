"""Measures how late readers of the live stream are while some of them do not read at all.

`python -m bench.readers [--readers N] [--frozen N] [--rate N] [--seconds N]`. One `pricewire up` on
a real Kafka; events are produced by a schedule, straight to the topic, and lateness counts from the
schedule to the reader's socket. The frozen readers are a process that is stopped (SIGSTOP) once it
is connected. Told are the latenesses of the others, what they missed (nothing), and the service's
memory and processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import murmur2

from bench.main_job import local_kafka, machine, start
from bench.streams_input import PARTITIONS, create_topic, input_producer
from bench.streams_watch import Sample, sample
from tests.kafka_tools import free_port

TOPIC = "price-events"
QUERY = "topics=prices"
VALUE = (
    '{"symbol":"%s","price":%d.25,"timestamp":"2026-01-05T14:30:00.123456Z","source":"n%08d",'
    '"raw_response_id":"019b8ec7-5c11-7d3e-9a40-6f1d2c3b4a59"}'
)
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b""),
    ("ce_type", b"price.recorded"),
    ("ce_source", b"/pricewire/019b8ec7-5c11-7d3e-9a40-6f1d2c3b4a59/1"),
    ("content-type", b"application/json"),
]


def main() -> None:
    options = _options()
    print(machine(), flush=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricewire-bench-")))
        kafka = stack.enter_context(local_kafka(home / "kafka"))
        servers = f"localhost:{kafka.port}"
        create_topic(servers, TOPIC)
        run = Run(options, servers, home, stack)
        for line in run.measure():
            print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=1_000)
    parser.add_argument("--frozen", type=int, default=50, help="of them")
    parser.add_argument("--rate", type=int, default=200, help="events a second")
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--warm", type=int, default=10, help="seconds before, not counted")
    parser.add_argument("--profile", type=Path, help="file for py-spy's raw profile")
    return parser.parse_args()


class Run:
    """One service, its readers, and the schedule."""

    def __init__(
        self, options: argparse.Namespace, servers: str, home: Path, stack: ExitStack
    ) -> None:
        self._options = options
        self._servers = servers
        self._port = free_port()
        self._stack = stack
        environment = {
            **os.environ,
            "PRICEWIRE_HOME": str(home / "service"),
            "API_PORT": str(self._port),
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "KAFKA_PRICE_EVENTS_TOPIC": TOPIC,
            "LOG_LEVEL": "WARNING",
            "MARKET_CALENDARS": "off",
        }
        self._service = start(["pricewire", "up"], environment)
        stack.callback(_stop, self._service)

    def measure(self) -> Iterator[str]:
        options = self._options
        self._wait_until_ready()
        alone = sample(self._service.pid)
        began = time.time() + 5 + options.readers / 200
        frozen = self._readers(options.frozen, began)
        os.kill(frozen.pid, signal.SIGSTOP)
        good = self._readers(options.readers - options.frozen, began)
        assert time.time() < began, "connecting took too long"
        connected = sample(self._service.pid)
        with watched(self._service.pid) as samples, self._profiled(began):
            self._produce(began)
        before = min(samples, key=lambda one: abs(one.at - began - options.warm))
        assert good.stdout is not None
        told = json.loads(good.stdout.read())
        yield _line(told)
        busy = (samples[-1].cpu - before.cpu) / (samples[-1].at - before.at)
        most = max(samples, key=lambda one: one.rss)
        yield (
            f"service: {busy:.0%} of a core; memory {_mb(alone)} alone, {_mb(connected)} with "
            f"{options.readers} readers, {_mb(most)} at most, {_mb(samples[-1])} at the end"
        )
        yield from self._metrics()
        os.kill(frozen.pid, signal.SIGCONT)

    def _readers(self, count: int, began: float) -> subprocess.Popen[bytes]:
        options = self._options
        numbers = [self._port, count, began, options.rate, options.warm, options.seconds]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.readers_client", *map(str, numbers), QUERY],
            stdout=subprocess.PIPE,
        )
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        return process

    def _produce(self, began: float) -> None:
        """Produce by schedule."""
        options = self._options
        producer = input_producer(self._servers, linger_ms=0)
        for number in range(options.rate * (options.warm + options.seconds)):
            due = began + number / options.rate
            while (ahead := due - time.time()) > 0:
                time.sleep(min(ahead, 0.002))
            turn, place = divmod(number, options.symbols)
            symbol = f"S{place:03}"
            headers = [HEADERS[0], ("ce_id", f"{symbol}~{turn + 1}".encode()), *HEADERS[2:]]
            value = VALUE % (symbol, turn + 1, number)
            partition = murmur2(symbol.encode(), PARTITIONS)
            producer.produce(TOPIC, value.encode(), symbol, partition, headers=headers)
            producer.poll(0)
        assert producer.flush(30) == 0

    @contextmanager
    def _profiled(self, began: float) -> Iterator[None]:
        """Have py-spy look at the service from when it counts on, if that is wanted."""
        options = self._options
        if options.profile is None:
            yield
            return
        program = Path(sys.executable).with_name("py-spy")
        spy = (
            f"sleep {began + options.warm - time.time():.0f}; exec {program} record --gil "
            f"-p {self._service.pid} -r 100 -d {options.seconds - 5} -f raw --nonblocking "
            f"-o {options.profile}"
        )
        with subprocess.Popen(["bash", "-c", spy], stdout=subprocess.DEVNULL) as process:
            yield
            process.wait()

    def _metrics(self) -> Iterator[str]:
        text = self._get("/metrics").decode()
        for line in text.splitlines():
            if line.startswith("pricewire_stream_") and "_created" not in line:
                yield line

    def _wait_until_ready(self) -> None:
        for _ in range(300):
            try:
                if json.loads(self._get("/health/ready"))["status"] == "up":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise TimeoutError("the service did not become ready")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def watched(pid: int) -> Iterator[list[Sample]]:
    """Sample a process twice a second, from a thread, while inside."""
    samples: list[Sample] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            samples.append(sample(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _line(told: dict[str, object]) -> str:
    late = told["late"]
    assert isinstance(late, dict)
    buckets = sorted((int(ms), int(count)) for ms, count in late.items())
    seen = sum(count for _, count in buckets)
    if not seen:
        return "readers: nothing was seen"
    figures = [f"{name} {_at(buckets, seen * part)} ms" for name, part in _PARTS.items()]
    return (
        f"readers: {', '.join(figures)}, max {buckets[-1][0]} ms ({seen:,} events seen, "
        f"{told['wrong']} readers that missed some, {told['ended']} connections ended)"
    )


_PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def _at(buckets: list[tuple[int, int]], wanted: float) -> int:
    """Return the millisecond up to which so many were seen."""
    seen = 0
    for ms, count in buckets:
        seen += count
        if seen >= wanted:
            return ms
    return buckets[-1][0]


def _mb(one: Sample) -> str:
    return f"{one.rss / 1e6:.0f} MB"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(30) == 0


if __name__ == "__main__":
    main()
