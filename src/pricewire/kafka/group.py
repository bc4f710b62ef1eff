"""A processor's share of a topic: consumes in batches, lets the processor say where to start.

Built by the composition root, used in the processor's thread only; fulfils `Inputs`. Invariants:
positions come from the processor's checkpoint, never from the group's; what a rebalance callback
raises comes out of the call that ran it, since librdkafka would go on with positions of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from pricewire.errors import KafkaUnavailable, ProcessorBroken
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.records import RecordReader, poison
from pricewire.kafka.topic import KafkaTopic
from pricewire.kafka.trouble import explain
from pricewire.services.processing import Poison, Record

_ERROR_OF = Message.error
WATERMARK_SECONDS = 5.0
LOOK_SECONDS = 5.0
_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
    }
)
"""What librdkafka gets over by itself."""


@dataclass(frozen=True, slots=True)
class GroupRules:
    """Settings of the group that users may turn.

    Args:
        protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848, Kafka 4.0 and later).
        session_seconds: a member that is silent for so long is out; classic only.
    """

    group: str
    protocol: str = "classic"
    session_seconds: float = 10.0


def consumer_config(connection: Connection, rules: GroupRules) -> Config:
    """Return librdkafka's properties (facts of its CONFIGURATION, 2.16)."""
    config = {
        **connection.base("processor"),
        "group.id": rules.group,
        "group.protocol": rules.protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A position that the topic no longer has must be seen, not skipped.
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": 4_096,
        "fetch.message.max.bytes": 1_048_576,
        "fetch.error.backoff.ms": 100,
        # A reader that is faster than the fetcher would otherwise wait a second for its queue.
        "fetch.queue.backoff.ms": 20,
    }
    if rules.protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = int(rules.session_seconds * 1000)
        config["heartbeat.interval.ms"] = int(rules.session_seconds * 1000 / 4)
    return config


class GroupReader:
    """See the module; the callbacks are those of `OpenInputs`.

    Args:
        open_records: given topic and its id, returns what reads records.
    """

    def __init__(
        self,
        config: Config,
        topic: KafkaTopic,
        *,
        open_records: Callable[[str, str], RecordReader] = RecordReader,
        assigned: Callable[[Sequence[int], str], Mapping[int, int | None]],
        released: Callable[[Sequence[int]], None],
        lost: Callable[[Sequence[int]], None],
        expired: Callable[[int, int, int], None],
    ) -> None:
        self._config = config
        self._topic = topic
        self._open_records = open_records
        self._assigned = assigned
        self._released = released
        self._lost = lost
        self._expired = expired
        self._failed: BaseException | None = None
        self._reader: RecordReader | None = None
        self._batch: list[Message] = []
        self._positions: dict[int, int] = {}
        self._looked_at = time.monotonic()
        self._consumer = Consumer(config)
        self._consumer.subscribe(
            [topic.name],
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    def read(self, limit: int, seconds: float) -> Sequence[Record]:
        self._look_for_another_topic()
        first = self._consumer.poll(seconds)
        self._raise_failed()
        if first is None:
            return ()
        # What is there already: `consume` with a time-out would wait for a full batch.
        self._batch = [first, *self._consumer.consume(limit - 1, 0)]
        self._raise_failed()
        reader = self._reader
        if reader is None:
            return ()
        if any(map(_ERROR_OF, self._batch)):
            self._batch = [one for one in self._batch if one.error() is None or self._get_over(one)]
        return reader.read(self._batch)

    def poison(self, partition: int, offset: int, error_class: str, error: str) -> Poison:
        for message in self._batch:
            if message.partition() == partition and message.offset() == offset:
                return poison(message, error_class, error)
        raise ProcessorBroken(f"partition {partition}, offset {offset} is not in the last batch")

    def commit(self, offsets: Mapping[int, int]) -> None:
        if offsets:
            self._consumer.commit(
                offsets=[self._place(number, offset) for number, offset in offsets.items()],
                asynchronous=True,
            )

    def pause(self) -> None:
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        self._consumer.resume(self._consumer.assignment())

    def close(self) -> None:
        self._consumer.close()
        self._raise_failed()

    def _look_for_another_topic(self) -> None:
        """Positions are of one topic: in another of the same name they mean nothing."""
        now = time.monotonic()
        if self._reader is None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        if self._topic.present_id() not in (None, self._reader.topic_id):
            raise KafkaUnavailable(f"topic {self._topic.name} was deleted and made anew")

    def _get_over(self, message: Message) -> bool:
        """Deal with what is no record but an error; always False."""
        error = message.error()
        assert error is not None
        code = error.code()
        if code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            self._go_on_at_the_first(message.partition())
        elif code not in _PASSING:
            raise self._refused(error)
        return False

    def _go_on_at_the_first(self, partition: int | None) -> None:
        assert partition is not None
        self._looked_at = 0.0
        self._look_for_another_topic()
        place = TopicPartition(self._topic.name, partition)
        try:
            low, _ = self._consumer.get_watermark_offsets(place, timeout=WATERMARK_SECONDS)
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([self._place(partition, low)])
        except KafkaException as error:
            raise self._refused(error.args[0]) from error
        self._expired(partition, self._positions.get(partition, 0), low)

    # Rebalance; librdkafka calls these inside `poll`, `consume` and `close`.

    def _on_assign(self, places: list[TopicPartition]) -> None:
        topic_id = self._topic.require()
        if self._reader is None or self._reader.topic_id != topic_id:
            self._reader = self._open_records(self._topic.name, topic_id)
        starts = self._assigned([place.partition for place in places], topic_id)
        for place in places:
            start = starts[place.partition]
            self._positions[place.partition] = start or 0
            place.offset = OFFSET_BEGINNING if start is None else start
        self._consumer.incremental_assign(places)

    def _on_revoke(self, places: list[TopicPartition]) -> None:
        self._released([place.partition for place in places])
        self._consumer.incremental_unassign(places)

    def _on_lost(self, places: list[TopicPartition]) -> None:
        self._lost([place.partition for place in places])
        self._consumer.incremental_unassign(places)

    def _guarded(self, callback: Callable[[list[TopicPartition]], None]) -> Callable[..., None]:
        """Keep what `callback` raises for the call that librdkafka is in."""

        def guarded(_consumer: Any, places: list[TopicPartition]) -> None:
            try:
                callback(places)
            except BaseException as error:  # noqa: BLE001
                self._failed = self._failed or error

        return guarded

    def _raise_failed(self) -> None:
        failed, self._failed = self._failed, None
        if isinstance(failed, KafkaException):
            raise self._refused(failed.args[0]) from failed
        if failed is not None:
            raise failed

    def _refused(self, error: KafkaError) -> KafkaUnavailable:
        return KafkaUnavailable(explain(error, self._config, topic=self._topic.name, right="Read"))

    def _place(self, partition: int, offset: int) -> TopicPartition:
        return TopicPartition(self._topic.name, partition, offset)
