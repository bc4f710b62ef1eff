"""A processor's producer: derived events to its topic, dead letters beside the origin.

Built by the composition root, used in the processor's thread only; fulfils `Outputs`. Invariants:
after `flush` returned, everything that was put is on the topic; once a report failed, every call
raises, and nothing that was put since counts.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pricewire.errors import KafkaTrouble
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.codec import CE_SPECVERSION, CONTENT_TYPE
from pricewire.kafka.producer import ProducerRules
from pricewire.services.processing import Poison

PARTITION_UA = -1
"""librdkafka's word for: the partitioner says."""
QUEUE_MESSAGES = 100_000
FULL_SECONDS = 30.0
CLOSE_SECONDS = 5.0
MAX_DEAD_LETTER_BYTES = 4_194_304


def outputs_config(connection: Connection, rules: ProducerRules) -> Config:
    """Return librdkafka's properties: as the relay's producer, but successes are not reported.

    A report for each record costs as much as producing it; that the queue is empty and nothing
    failed says the same.
    """
    return {
        **connection.base("outputs"),
        "acks": "all",
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
        "topic.metadata.propagation.max.ms": 5_000,
        "allow.auto.create.topics": connection.in_memory,
        "compression.type": rules.compression,
        "linger.ms": min(rules.linger_ms, 5),
        "batch.size": rules.batch_bytes,
        "batch.num.messages": 10_000,
        "message.max.bytes": MAX_DEAD_LETTER_BYTES,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": QUEUE_MESSAGES,
        "queue.buffering.max.kbytes": 131_072,
        "delivery.report.only.error": True,
    }


class KafkaOutputs:
    """See the module.

    Args:
        topic: where derived events go.
        origin: the topic that the processor reads; dead letters go to `<origin>.dlq`.
        event_type: `ce_type` of the derived events.
    """

    def __init__(
        self, config: Config, *, topic: str, origin: str, processor: str, event_type: str
    ) -> None:
        self._topic = topic
        self._origin = origin
        self._processor = processor
        self._failure: str | None = None
        self._type = ("ce_type", event_type.encode())
        self._sources: dict[str, tuple[str, bytes]] = {}
        self._producer = Producer(
            {**config, "error_cb": self._on_error, "on_delivery": self._on_report}
        )
        self._send = self._producer.produce

    def put(self, event_id: str, source: str, key: str, value: bytes, logged_at: int) -> None:
        ce_source = self._sources.get(source)
        if ce_source is None:
            ce_source = self._sources[source] = ("ce_source", source.encode())
        headers: Any = [
            _SPECVERSION,
            ("ce_id", event_id),
            self._type,
            ce_source,
            _CONTENT_TYPE,
        ]
        try:
            # By place: names cost as much as the headers do.
            self._send(self._topic, value, key, PARTITION_UA, None, None, logged_at, headers)
        except (BufferError, KafkaException):
            self._produce(self._topic, value, key, logged_at, headers)

    def put_dead_letter(self, poison: Poison) -> None:
        headers = [*poison.headers, *self._reasons(poison)]
        topic = f"{self._origin}.dlq"
        self._produce(topic, poison.value, poison.key, poison.logged_at, headers)

    def serve(self) -> None:
        self._call(self._producer.poll, 0)

    def flush(self, seconds: float) -> None:
        left = self._call(self._producer.flush, seconds)
        if left:
            raise KafkaTrouble(f"{left} records were not confirmed within {seconds:.0f} s")

    def close(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        give_up = time.monotonic() + CLOSE_SECONDS
        # A fatal error ends a flush before its time.
        while len(self._producer) and (left := give_up - time.monotonic()) > 0:
            self._serve(self._producer.flush, left)
        # Only with an empty queue: it would wait without end for a broker that is away.
        if len(self._producer) == 0:
            self._producer.close()

    def _reasons(self, poison: Poison) -> list[tuple[str, bytes]]:
        return [
            ("pw-origin-topic", self._origin.encode()),
            ("pw-origin-partition", str(poison.partition).encode()),
            ("pw-origin-offset", str(poison.offset).encode()),
            ("pw-processor", self._processor.encode()),
            ("pw-error-class", poison.error_class.encode()),
            ("pw-error", poison.error.encode("utf-8", "replace")),
        ]

    def _produce(
        self, topic: str, value: bytes | None, key: str | bytes | None, at: int, headers: Any
    ) -> None:
        try:
            self._send(topic, value, key, PARTITION_UA, None, None, at, headers)
        except BufferError:
            self._make_room()
            self._produce(topic, value, key, at, headers)
        except KafkaException as error:
            raise KafkaTrouble(f"the producer refused a record: {error}") from error

    def _make_room(self) -> None:
        """Wait until the queue is no longer full."""
        give_up = time.monotonic() + FULL_SECONDS
        while len(self._producer) >= QUEUE_MESSAGES:
            self._call(self._producer.poll, 0.02)
            if time.monotonic() > give_up:
                raise KafkaTrouble(f"the broker took no record for {FULL_SECONDS:.0f} s")

    def _call(self, call: Any, seconds: float) -> int:
        """Let `call` serve callbacks; raise what they said."""
        left = self._serve(call, seconds)
        if self._failure is not None:
            raise KafkaTrouble(self._failure)
        return left

    def _serve(self, call: Any, seconds: float) -> int:
        """Let `call` serve callbacks; remember what it raises."""
        try:
            left: int = call(seconds)
        except (KafkaException, SystemError) as error:
            # SystemError: what becomes of a fatal error when a callback is called behind it.
            self._failure = self._failure or str(error.__cause__ or error)
            left = 0
        return left

    def _on_report(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failure = self._failure or error.str()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = self._failure or error.str()


_SPECVERSION = ("ce_specversion", CE_SPECVERSION)
_CONTENT_TYPE = ("content-type", CONTENT_TYPE)
