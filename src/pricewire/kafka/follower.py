"""Follows the topic of averages from now on and keeps the latest of each; fulfils `Published`.

Every process with an API runs one, in a thread of its own. Invariant: a repeat of an older average,
as a processor's restart may leave it on the topic, never takes the place of a newer one.
"""

from __future__ import annotations

import threading
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from pricewire.domain.average import AverageSpec
from pricewire.kafka.client import Connection
from pricewire.services.averages import PublishedAverage, event_order

POLL_SECONDS = 0.2
BATCH = 1_000


class AverageIn(msgspec.Struct, frozen=True, gc=False):
    """The value of a record on the topic, as far as it is needed."""

    symbol: str
    kind: str
    window: str
    value: Decimal
    timestamp: datetime
    count: int
    raw_response_id: UUID
    event_id: str


_decode = msgspec.json.Decoder(AverageIn).decode
_Key = tuple[str, str, str]


class AveragesFollower:
    """See the module; `close` ends its thread."""

    def __init__(self, connection: Connection, topic: str, partitions: int) -> None:
        self._topic = topic
        self._latest: dict[_Key, tuple[bytes, int, AverageIn, int, int]] = {}
        self._closing = threading.Event()
        self._consumer = Consumer(
            {
                **connection.base("follower"),
                "group.id": "pricewire-follower",
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "queued.max.messages.kbytes": 4_096,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_END) for number in range(partitions)]
        )
        self._thread = threading.Thread(target=self._follow, name="averages-follower", daemon=True)
        self._thread.start()

    def latest(self, symbol: str, spec: AverageSpec) -> PublishedAverage | None:
        found = self._latest.get((symbol, spec.kind.value, spec.window))
        if found is None:
            return None
        _, _, one, partition, offset = found
        return PublishedAverage(
            symbol=one.symbol,
            kind=one.kind,
            window=one.window,
            value=one.value,
            timestamp=one.timestamp,
            count=one.count,
            raw_response_id=one.raw_response_id,
            event_id=one.event_id,
            topic=self._topic,
            partition=partition,
            offset=offset,
        )

    def symbols(self) -> set[str]:
        return {symbol for symbol, _, _ in self._latest.copy()}

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._consumer.close()

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                first = self._consumer.poll(POLL_SECONDS)
                rest = self._consumer.consume(BATCH, 0) if first is not None else []
            except KafkaException:
                # Brokers that are away are told by health; the client gets over it by itself.
                self._closing.wait(POLL_SECONDS)
                continue
            for message in ([first] if first is not None else []) + rest:
                self._note(message)

    def _note(self, message: Message) -> None:
        if message.error() is not None:
            return
        try:
            one = _decode(message.value() or b"")
        except msgspec.DecodeError:
            return
        headers = dict(message.headers() or ())
        source = headers.get("ce_source") or b""
        order = event_order(one.event_id)
        key = (one.symbol, one.kind, one.window)
        known = self._latest.get(key)
        if known is not None and known[0] == source and order < known[1]:
            return
        place = (message.partition() or 0, message.offset() or 0)
        self._latest[key] = (source if isinstance(source, bytes) else b"", order, one, *place)
