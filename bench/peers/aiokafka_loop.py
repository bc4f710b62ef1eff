"""The moving average of five over aiokafka, in batches; run by `bench.streams`.

`python aiokafka_loop.py SERVERS INPUT OUTPUT GROUP`. As its documents show it: getmany, send
without waiting, flush, commit. Its windows are lost when it ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict, deque
from decimal import Decimal
from typing import Any

import msgspec
from aiokafka import (  # type: ignore[import-not-found,unused-ignore]
    AIOKafkaConsumer,
    AIOKafkaProducer,
)

WINDOW = 5
BATCH = 1_000
Headers = list[tuple[str, bytes]]


class PriceEvent(msgspec.Struct):
    symbol: str
    price: Decimal
    timestamp: str
    raw_response_id: str


class Average(msgspec.Struct):
    symbol: str
    kind: str
    window: str
    value: Decimal
    timestamp: str
    count: int
    raw_response_id: str
    event_id: str


async def main(servers: str, source: str, target: str, group: str) -> None:
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        compression_type="snappy",
        linger_ms=5,
        max_batch_size=262_144,
    )
    step = Step()
    async with consumer, producer:
        while True:
            batches = await consumer.getmany(timeout_ms=500, max_records=BATCH)
            sent = []
            for records in batches.values():
                for record in records:
                    if output := step.push(record):
                        value, headers = output
                        future = await producer.send(target, value, key=record.key, headers=headers)
                        sent.append(future)
            await producer.flush()
            for future in sent:
                future.result()
            if batches:
                await consumer.commit()


class Step:
    def __init__(self) -> None:
        self._windows: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._decoder = msgspec.json.Decoder(PriceEvent)
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def push(self, record: Any) -> tuple[bytes, Headers] | None:
        event = self._decoder.decode(record.value)
        window = self._windows[event.symbol]
        window.append(event.price)
        if len(window) < WINDOW:
            return None
        headers = dict(record.headers)
        event_id = headers["ce_id"].decode()
        average = Average(
            event.symbol,
            "sma",
            "5",
            sum(window, Decimal(0)) / WINDOW,
            event.timestamp,
            WINDOW,
            event.raw_response_id,
            event_id,
        )
        return self._encoder.encode(average), [
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{event_id}~sma:5".encode()),
            ("ce_type", b"average.moved"),
            ("ce_source", headers["ce_source"] + b"/averages/1"),
            ("content-type", b"application/json"),
        ]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
