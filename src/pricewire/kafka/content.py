"""What is on the topic now, read from outside; `services.verification` compares it.

Invariant: it makes no topic, joins no group, commits no offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.codec import relayed
from pricewire.kafka.trouble import Complaint
from pricewire.services.verification import FoundBatch, FoundEvent

METADATA_SECONDS = 10.0
SILENCE_SECONDS = 15.0
BATCH = 1_000


class TopicContent:
    """Fulfils `services.verification.Content`; close it."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._topic = topic
        config: Config = connection.base("verify")
        self._complaint = Complaint(config)
        self._consumer = Consumer(
            {
                **config,
                "error_cb": self._complaint.note,
                "group.id": "pricewire-verify",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_uncommitted",
            }
        )

    async def first_offsets(self) -> dict[int, int]:
        try:
            return await asyncio.to_thread(self._first_offsets)
        except KafkaException as error:
            raise self._away(error) from error

    def _first_offsets(self) -> dict[int, int]:
        found = self._consumer.list_topics(self._topic, METADATA_SECONDS).topics[self._topic]
        if found.error is not None:
            if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return {}
            raise KafkaException(found.error)
        return {partition: self._ends(partition)[0] for partition in found.partitions}

    def _ends(self, partition: int) -> tuple[int, int]:
        place = TopicPartition(self._topic, partition)
        low, high = self._consumer.get_watermark_offsets(place, METADATA_SECONDS)
        return low, high

    async def events(self, partition: int) -> AsyncGenerator[FoundBatch, None]:
        try:
            begin, end = await asyncio.to_thread(self._ends, partition)
            self._consumer.assign([TopicPartition(self._topic, partition, begin)])
            at = begin
            while at < end:
                batch = await asyncio.to_thread(self._read, at, end)
                at = batch.next_offset
                yield batch
            yield FoundBatch([], end)
        except KafkaException as error:
            raise self._away(error) from error

    def _read(self, at: int, end: int) -> FoundBatch:
        """Read on; one `poll` a record, since `consume` waits for a batch that never fills."""
        events: list[FoundEvent] = []
        for _ in range(BATCH):
            message = self._consumer.poll(SILENCE_SECONDS)
            if message is None:
                raise KafkaUnavailable(f"topic {self._topic} could not be read to its end")
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                raise KafkaException(error)
            offset = message.offset()
            assert offset is not None
            if error is not None or offset >= end:
                return FoundBatch(events, max(offset, end))
            at = offset + 1
            if (event := _event(message, offset)) is not None:
                events.append(event)
            if at >= end:
                break
        return FoundBatch(events, at)

    def _away(self, error: KafkaException) -> KafkaUnavailable:
        self._consumer.poll(0)
        return KafkaUnavailable(self._complaint.explain(error.args[0]))

    def close(self) -> None:
        self._consumer.close()


def _event(message: Message, offset: int) -> FoundEvent | None:
    """Return the event if a relay published it, None if the record is somebody else's."""
    found = relayed(message.headers())
    return None if found is None else FoundEvent(*found, offset, message.value() or b"")
