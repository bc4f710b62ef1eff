"""What the client alone can do: read and decode, or produce; run by `bench.streams`.

`python limits.py consume|produce SERVERS INPUT OUTPUT GROUP EVENTS` prints one line of JSON, the
times at which a fifth and all were done. Headers are read and written, as a processor must.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

BATCH = 1_000


class PriceEvent(msgspec.Struct):
    symbol: str
    price: Decimal
    timestamp: datetime
    source: str
    raw_response_id: UUID


def consume(servers: str, source: str, group: str, events: int) -> tuple[float, float]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "broker.address.family": "v4",
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # By default a full queue pauses fetching for a second, and is empty long before.
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    consumer.subscribe([source])
    decode = msgspec.json.Decoder(PriceEvent).decode
    done, fifth = 0, 0.0
    while done < events:
        for message in consumer.consume(BATCH, 0.5):
            if error := message.error():
                raise KafkaException(error)
            decode(message.value() or b"")
            message.headers()
            done += 1
        if not fifth and done >= events / 5:
            fifth = time.time()
    ended = time.time()
    consumer.close()
    return fifth, ended


class Produced:
    """Counts delivery reports, and notes when a fifth of them had come."""

    def __init__(self, events: int) -> None:
        self._fifth_part = events // 5
        self._count = 0
        self.fifth = 0.0

    def __call__(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        self._count += 1
        if self._count == self._fifth_part:
            self.fifth = time.time()


def produce(servers: str, target: str, events: int) -> tuple[float, float]:
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "broker.address.family": "v4",
            "compression.type": "snappy",
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
    )
    value = (
        b'{"symbol":"S0001","kind":"sma","window":"5","value":182.33560000,"timestamp":'
        b'"2026-01-05T14:30:00Z","count":5,"raw_response_id":"019b8ec7-5c11-7000-8000-00000000abcd"'
    )
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"S0001~12345~sma:5"),
        ("ce_type", b"average.moved"),
        ("ce_source", b"/pricewire/019b8ec7-5c11-7000-8000-00000000abcd/1/averages/1"),
        ("content-type", b"application/json"),
    ]
    reported = Produced(events)
    for number in range(events):
        text = b'%b,"event_id":"S0001~%d"}' % (value, number)
        key = f"S{number % 100:04}"
        while True:
            try:
                producer.produce(target, text, key, on_delivery=reported, headers=list(headers))
                break
            except BufferError:
                producer.poll(0.05)
        if number % 500 == 0:
            producer.poll(0)
    producer.flush()
    return reported.fifth, time.time()


def main(which: str, servers: str, source: str, target: str, group: str, events: str) -> None:
    if which == "consume":
        fifth, ended = consume(servers, source, group, int(events))
    else:
        fifth, ended = produce(servers, target, int(events))
    print(json.dumps({"fifth": fifth, "ended": ended}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:7])
