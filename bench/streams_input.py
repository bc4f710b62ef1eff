"""The input of the streams benchmarks: price events of our exact shape, and their averages.

`bench.streams` and `bench.streams_latency` fill `price-events` with it. The reference is computed
here, from whole numbers and without any of the code that is measured. Invariant: the same seed,
symbols and number of events give the same prices.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from confluent_kafka import Producer, murmur2
from confluent_kafka.admin import AdminClient, NewTopic

from pricewire.domain.quote import Precision, Quote
from pricewire.kafka.codec import decode_price_event, encode_price_event

PARTITIONS = 6
WINDOW = 5
SOURCE = b"/pricewire/019b8ec7-5c11-7d3e-9a40-6f1d2c3b4a59/1"
FIRST = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
BLOCK = 10_000

Headers = list[tuple[str, str | bytes | None]]


@dataclass(slots=True)
class Expected:
    """What one symbol's averages must come to; prices in ten-thousandths.

    Args:
        price: the last one.
        events: how many prices there were.
        total: sum of the sums of all full windows.
    """

    price: int
    events: int = 0
    window: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    total: int = 0

    @property
    def outputs(self) -> int:
        return max(0, self.events - WINDOW + 1)

    @property
    def last(self) -> Decimal:
        return Decimal(sum(self.window)) / (10_000 * WINDOW)

    @property
    def sum_of_all(self) -> Decimal:
        return Decimal(self.total) / (10_000 * WINDOW)

    def step(self, change: int) -> int:
        """Move the price and return it."""
        self.events += 1
        self.price += change if self.price > 200_000 else abs(change)
        self.window.append(self.price)
        if self.events >= WINDOW:
            self.total += sum(self.window)
        return self.price


class Input:
    """A topic's worth of events of `symbols` symbols, made as they are asked for."""

    def __init__(self, symbols: int, seed: int = 1) -> None:
        draw = random.Random(seed)
        names = [symbol_name(number, symbols) for number in range(symbols)]
        self.expected = {name: Expected(draw.randrange(500_000, 9_000_000)) for name in names}
        self._names = names
        self._draw = draw
        self._partitions = {name: murmur2(name.encode(), PARTITIONS) for name in names}
        self._base = Headers([("ce_specversion", b"1.0"), ("ce_id", b"")])
        self._rest = Headers(
            [
                ("ce_type", b"price.recorded"),
                ("ce_source", SOURCE),
                ("content-type", b"application/json"),
            ]
        )

    @property
    def outputs(self) -> int:
        return sum(one.outputs for one in self.expected.values())

    def events(self, count: int) -> Iterator[tuple[str, bytes, int, Headers]]:
        """Yield key, value, partition and headers; a hundredth of a second of market each."""
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            names = self._draw.choices(self._names, k=size)
            changes = self._draw.choices(range(-400, 401), k=size)
            ids = os.urandom(size * 10).hex()
            for number, name in enumerate(names):
                yield self._event(
                    name, changes[number], start + number, ids[number * 20 : number * 20 + 20]
                )

    def event(self, number: int) -> tuple[str, bytes, int, Headers]:
        """Return an event of the symbol whose turn it is."""
        name = self._names[number % len(self._names)]
        return self._event(name, self._draw.randint(-400, 400), number, os.urandom(10).hex())

    def _event(
        self, name: str, change: int, number: int, random_id: str
    ) -> tuple[str, bytes, int, Headers]:
        known = self.expected[name]
        price = known.step(change)
        value = (
            f'{{"symbol":"{name}","price":{price // 10_000}.{price % 10_000:04},'
            f'"timestamp":"{_time_text(number)}","source":"alpha_vantage",'
            f'"raw_response_id":"019b8ec7-{random_id[:4]}-7{random_id[4:7]}-8{random_id[7:10]}'
            f'-{random_id[8:]}"}}'
        )
        event_id = ("ce_id", f"{name}~{known.events}".encode())
        headers = [self._base[0], event_id, *self._rest]
        return name, value.encode(), self._partitions[name], headers


def symbol_name(number: int, symbols: int) -> str:
    """Return the symbol whose turn it is at event `number`."""
    return f"S{number % symbols:0{len(str(symbols - 1))}}"


_second = -1
_second_text = ""


def _time_text(number: int) -> str:
    """Return the market time of event `number` as our codec writes it."""
    global _second, _second_text  # noqa: PLW0603
    second, hundredth = divmod(number, 100)
    if second != _second:
        _second = second
        _second_text = (FIRST + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{_second_text}.{hundredth:02}0000Z" if hundredth else f"{_second_text}Z"


def assert_our_shape(value: bytes) -> None:
    """Fail unless our codec would have written these very bytes."""
    event = decode_price_event(value)
    quote = Quote(
        symbol=event.symbol,
        price=event.price,
        timestamp=event.timestamp,
        precision=Precision.MILLISECOND,
    )
    again, _ = encode_price_event(
        quote, provider=event.source, raw_response_id=event.raw_response_id
    )
    assert again == value, (again, value)


def client(servers: str) -> dict[str, str | int | float | bool]:
    """Return what every client of the benchmark has in common; chatter stays off the table."""
    return {"bootstrap.servers": servers, "broker.address.family": "v4", "log_level": 3}


def create_topic(servers: str, name: str, **config: str) -> str:
    """Make a topic that keeps everything."""
    admin = AdminClient(client(servers))
    kept = {"retention.ms": "-1", **config}
    new = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=kept)
    admin.create_topics([new], operation_timeout=30)[name].result(30)
    return name


def delete_topic(servers: str, name: str) -> None:
    admin = AdminClient(client(servers))
    admin.delete_topics([name], operation_timeout=30)[name].result(30)


def topics(servers: str) -> set[str]:
    """Return the topics that are not the broker's own."""
    found = AdminClient(client(servers)).list_topics(timeout=30).topics
    return {name for name in found if not name.startswith("__")}


def fill(servers: str, topic: str, symbols: int, count: int, say: Callable[[str], None]) -> Input:
    """Produce `count` events; return what their averages must come to."""
    began = time.monotonic()
    made = Input(symbols)
    producer = input_producer(servers, linger_ms=50)
    for number, (key, value, partition, headers) in enumerate(made.events(count)):
        if number < 200:
            assert_our_shape(value)
        while True:
            try:
                producer.produce(topic, value, key, partition, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0, "the input was not delivered"
    seconds = time.monotonic() - began
    say(
        f"{count:,} events of {symbols:,} symbols on {topic} in {seconds:.1f} s "
        f"({count / seconds:,.0f} a second)"
    )
    return made


def input_producer(servers: str, linger_ms: float) -> Producer:
    return Producer(
        {
            **client(servers),
            "compression.type": "snappy",
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 200_000,
        }
    )
