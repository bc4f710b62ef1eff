"""The moving average of five as a plain loop over confluent-kafka; run by `bench.streams`.

`python batch_loop.py SERVERS INPUT OUTPUT GROUP`. Consume, decode, compute, produce, flush, commit:
the least that gives every event its average at least once. No headers either way, and none of a
processor's duties: its windows are lost when it ends, repeats and gaps go unseen.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer

WINDOW = 5
BATCH = 1_000


class PriceEvent(msgspec.Struct):
    symbol: str
    price: Decimal
    timestamp: datetime
    source: str
    raw_response_id: UUID


class Average(msgspec.Struct):
    symbol: str
    kind: str
    window: str
    value: Decimal
    timestamp: datetime
    count: int
    raw_response_id: UUID
    event_id: str


def main(servers: str, source: str, target: str, group: str) -> None:
    common = {"bootstrap.servers": servers, "broker.address.family": "v4"}
    consumer = Consumer(
        {
            **common,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            **common,
            "compression.type": "snappy",
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
    )
    consumer.subscribe([source])
    step = Step()
    while True:
        messages = consumer.consume(BATCH, 0.5)
        for message in messages:
            value = step.push(message)
            if value is not None:
                producer.produce(target, value, message.key())
        if messages:
            if producer.flush(30):
                raise TimeoutError("outputs were not delivered within 30 s")
            consumer.commit(asynchronous=False)


class Step:
    def __init__(self) -> None:
        self._windows: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._decoder = msgspec.json.Decoder(PriceEvent)
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def push(self, message: Message) -> bytes | None:
        if error := message.error():
            raise KafkaException(error)
        event = self._decoder.decode(message.value() or b"")
        window = self._windows[event.symbol]
        window.append(event.price)
        if len(window) < WINDOW:
            return None
        average = Average(
            event.symbol,
            "sma",
            "5",
            sum(window, Decimal(0)) / WINDOW,
            event.timestamp,
            WINDOW,
            event.raw_response_id,
            f"{message.partition()}-{message.offset()}",
        )
        return self._encoder.encode(average)


if __name__ == "__main__":
    main(*sys.argv[1:5])
