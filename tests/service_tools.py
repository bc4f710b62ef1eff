"""The service as its users run it: a process of its own, asked over HTTP, stopped by signals.

Tests start it on a real Kafka and a fresh database, kill it, and compare what it acknowledged with
what lies on the topic.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from tests.kafka_tools import KafkaTools, free_port

PRICEWIRE = str(Path(sys.executable).with_name("pricewire"))


@dataclass
class Service:
    """One `pricewire COMMAND`; may be started again after it ended.

    Args:
        environment: settings; `API_PORT` and `PRICEWIRE_HOME` are given already.
        program: what is run; takes the command.
    """

    home: Path
    environment: dict[str, str]
    command: str = "up"
    program: tuple[str, ...] = (PRICEWIRE,)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    arguments: tuple[str, ...] = ()

    @property
    def log(self) -> str:
        path = self.home / f"{self.command}-{self.port}.log"
        return path.read_text() if path.exists() else ""

    def start(self, *, ready: bool = True) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PRICEWIRE_HOME": str(self.home),
            "API_PORT": str(self.port),
            # A second of two processors for each service that a test starts.
            "MARKET_CALENDARS": "off",
            **self.environment,
        }
        with (self.home / f"{self.command}-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, self.command, *self.arguments],
                env=environment,
                cwd=self.home,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if ready and self.command != "relay":
            eventually(self.answers, 60)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended: {self.log[-3000:]}"
        try:
            return self.get("/health/live")[0] == 200
        except OSError:
            return False

    def publishes(self) -> bool:
        shards = self.json("/health/ready")["parts"]["relay"]["shards"]
        return all(shard["phase"] == "publishing" for shard in shards)

    def get(
        self, path: str, timeout: float = 15, *, method: str = "GET", body: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            sent = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[2])

    def price(self, symbol: str, **parameters: object) -> Any:
        """Ask for a price that must be answered."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        status, _, body = self.get(f"/v1/prices/latest?symbol={symbol}{more}")
        assert status == 200, body
        return json.loads(body)

    def drained(self) -> bool:
        return bool(self.json("/health/ready")["parts"]["outbox"]["waiting"] == 0)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout: float = 30) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout)


@contextlib.contextmanager
def running(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.kill()


def eventually(holds: Callable[[], bool], seconds: float = 20, pause: float = 0.05) -> None:
    """Wait until `holds`; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{holds} did not come true within {seconds} s"
        time.sleep(pause)


class Load:
    """Asks for prices from several threads until told to end; keeps what was acknowledged.

    `pace` may be set meanwhile: seconds that each thread waits before it asks again.
    """

    def __init__(self, service: Service, symbols: list[str], threads: int = 8) -> None:
        self.acknowledged: list[dict[str, Any]] = []
        self.slowest = 0.0
        self.pace = 0.0
        self._service = service
        self._symbols = symbols
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(threads)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, turn: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=15)
        while not self._ended.is_set():
            turn += 1
            self._ended.wait(self.pace)
            symbol = self._symbols[turn % len(self._symbols)]
            began = time.monotonic()
            try:
                connection.request("GET", f"/v1/prices/latest?symbol={symbol}")
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self._ended.wait(0.02)
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            if answer.status == 200:
                self.acknowledged.append(json.loads(body))
        connection.close()


@dataclass(frozen=True)
class Published:
    """A record of ours on the topic, taken apart."""

    event_id: str
    source: str
    key: str
    value: bytes
    raw_response_id: str
    partition: int
    headers: dict[str, str]


def published(kafka: KafkaTools, topic: str) -> list[Published]:
    return [taken_apart(message) for message in kafka.read_all(topic)]


def taken_apart(message: Message) -> Published:
    raw = message.headers() or []
    pairs = raw.items() if isinstance(raw, dict) else raw
    headers = {name: value.decode() for name, value in pairs if isinstance(value, bytes)}
    key, value, partition = message.key(), message.value(), message.partition()
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    assert partition is not None
    return Published(
        event_id=headers["ce_id"],
        source=headers["ce_source"],
        key=key.decode(),
        value=value,
        raw_response_id=json.loads(value)["raw_response_id"],
        partition=partition,
        headers=headers,
    )


def assert_each_once_in_order(records: list[Published]) -> None:
    """No (source, id) twice; the sequences of each symbol rise by one from 1."""
    identities = [(record.source, record.event_id) for record in records]
    assert len(set(identities)) == len(identities)
    sequences: dict[str, list[int]] = defaultdict(list)
    for record in records:
        symbol, _, number = record.event_id.rpartition("~")
        assert symbol == record.key
        sequences[symbol].append(int(number))
    for symbol, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), symbol


def assert_all_published(acknowledged: list[dict[str, Any]], records: list[Published]) -> None:
    """What was acknowledged is there under its id, with its raw response's id."""
    there = {record.event_id: record.raw_response_id for record in records}
    for price in acknowledged:
        assert there.get(price["event"]["id"]) == price["raw_response_id"], price
