"""The topic of dead letters, read and put back from; fulfils `DeadLetterTopic`.

Invariant: key, value and headers go back as they came, with two headers more that say from where
and for whom; what is no dead letter of a processor of ours is not shown as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from pricewire.errors import KafkaTrouble, KafkaUnavailable
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.outputs import MAX_DEAD_LETTER_BYTES
from pricewire.kafka.records import REDRIVEN_FOR
from pricewire.kafka.topic import KafkaTopic
from pricewire.kafka.trouble import explain
from pricewire.services.dead_letters import DeadLetter, DeadLetterId

SECONDS = 10.0
BATCH = 500
_REASONS = frozenset(
    {
        *("pw-origin-topic", "pw-origin-partition", "pw-origin-offset"),
        *("pw-processor", "pw-error-class", "pw-error"),
    }
)


class KafkaDeadLetters:
    """See the module.

    Args:
        topic: the topic of dead letters.
        origin: the topic that they came from.
    """

    def __init__(
        self, connection: Connection, topic: KafkaTopic, origin: str, partitions: int
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._origin = origin
        self._partitions = partitions

    @property
    def origin(self) -> str:
        return self._origin

    async def topic_id(self) -> str:
        return await self._topic.ensure()

    async def read(self, last: int | None) -> AsyncIterator[DeadLetter]:
        for number in range(self._partitions):
            with self._reading() as consumer:
                end = await asyncio.to_thread(self._open, consumer, number, last)
                while end > 0:
                    messages = await asyncio.to_thread(self._batch, consumer)
                    for message in messages:
                        if (letter := _letter(message)) is not None:
                            yield letter
                    if messages and (messages[-1].offset() or 0) + 1 >= end:
                        break

    async def find(self, letter: DeadLetterId) -> DeadLetter | None:
        return await asyncio.to_thread(self._find, letter)

    async def put_back(self, letter: DeadLetter) -> int:
        return await asyncio.to_thread(self._put_back, letter)

    async def origin_ends(self) -> Mapping[int, int]:
        return await asyncio.to_thread(self._origin_ends)

    async def find_put_back(self, letter: DeadLetter, start: int) -> int | None:
        return await asyncio.to_thread(self._find_put_back, letter, start)

    def _origin_ends(self) -> dict[int, int]:
        with self._reading() as consumer:
            places = [TopicPartition(self._origin, one) for one in range(self._partitions)]
            return {place.partition: self._ends(consumer, place)[1] for place in places}

    def _find_put_back(self, letter: DeadLetter, start: int) -> int | None:
        """Read the partition that it came from, from where it ended before to where it ends now."""
        place = TopicPartition(self._origin, letter.origin_partition, start)
        with self._reading() as consumer:
            low, high = self._ends(consumer, place)
            place.offset = max(low, start)
            consumer.assign([place])
            at = place.offset
            while at < high:
                for message in self._batch(consumer):
                    at = (message.offset() or 0) + 1
                    headers: Any = message.headers() or []
                    if ("pw-redrive", self._mark(letter)) in headers:
                        return message.offset()
        return None

    def _mark(self, letter: DeadLetter) -> bytes:
        return f"{self._topic.name}/{letter.id}".encode()

    def _open(self, consumer: Consumer, number: int, last: int | None) -> int:
        """Go where reading starts; return the end, 0 where there is nothing."""
        place = TopicPartition(self._topic.name, number)
        low, high = self._ends(consumer, place)
        place.offset = low if last is None else max(low, high - last)
        consumer.assign([place])
        return high if high > place.offset else 0

    def _find(self, letter: DeadLetterId) -> DeadLetter | None:
        if letter.partition >= self._partitions:
            return None
        place = TopicPartition(self._topic.name, letter.partition, letter.offset)
        with self._reading() as consumer:
            low, high = self._ends(consumer, place)
            if not low <= letter.offset < high:
                return None
            consumer.assign([place])
            messages = self._batch(consumer, 1)
        return _letter(messages[0]) if messages else None

    def _batch(self, consumer: Consumer, limit: int = BATCH) -> list[Message]:
        first = consumer.poll(SECONDS)
        if first is None:
            raise KafkaUnavailable(f"{self._topic.name} could not be read to its end")
        messages = [first, *(consumer.consume(limit - 1, 0) if limit > 1 else [])]
        for message in messages:
            if (error := message.error()) is not None:
                raise self._refused(error, "Read")
        return messages

    def _ends(self, consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=SECONDS)
        except KafkaException as error:
            raise self._refused(error.args[0], "Read") from error
        return low, high

    @contextmanager
    def _reading(self) -> Iterator[Consumer]:
        config: Config = {
            **self._connection.base("dead-letters"),
            "group.id": "pricewire-dead-letters",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": MAX_DEAD_LETTER_BYTES,
        }
        consumer = Consumer(config)
        try:
            yield consumer
        finally:
            consumer.close()

    def _put_back(self, letter: DeadLetter) -> int:
        reports: list[tuple[KafkaError | None, Message]] = []
        config: Config = {
            **self._connection.base("redrive"),
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": int(SECONDS * 1000),
            "message.max.bytes": MAX_DEAD_LETTER_BYTES,
        }
        # Others have counted it, or set it aside themselves; without a number it would count again.
        whose = (REDRIVEN_FOR, letter.processor.encode())
        kept = (header for header in letter.headers if header[0] != REDRIVEN_FOR)
        headers: Any = [*kept, ("pw-redrive", self._mark(letter)), whose]
        producer = Producer(config)
        producer.produce(
            self._origin,
            letter.value,
            letter.key,
            letter.origin_partition,
            lambda error, message: reports.append((error, message)),
            timestamp=max(letter.logged_at, 0),
            headers=headers,
        )
        producer.flush(SECONDS + 1)
        error, message = reports[0] if reports else (None, None)
        if message is None or error is not None:
            reason = "no report from the broker" if error is None else error.str()
            raise KafkaTrouble(f"dead letter {letter.id} was not put back: {reason}")
        return message.offset() or 0

    def _refused(self, error: KafkaError, right: str) -> KafkaUnavailable:
        config = self._connection.base("dead-letters")
        return KafkaUnavailable(explain(error, config, topic=self._topic.name, right=right))


def _letter(message: Message) -> DeadLetter | None:
    """Return the dead letter in a message; None if no processor of ours put it there."""
    raw: Any = message.headers() or []
    reasons = {name: value for name, value in raw if name in _REASONS}
    if set(reasons) != _REASONS:
        return None
    text = {name: (value or b"").decode("utf-8", "replace") for name, value in reasons.items()}
    key: Any = message.key()
    value: Any = message.value()
    try:
        origin = int(text["pw-origin-partition"]), int(text["pw-origin-offset"])
    except ValueError:
        return None
    return DeadLetter(
        DeadLetterId(message.partition() or 0, message.offset() or 0),
        key,
        value,
        tuple((name, content) for name, content in raw if name not in _REASONS),
        message.timestamp()[1],
        text["pw-origin-topic"],
        *origin,
        text["pw-processor"],
        text["pw-error-class"],
        text["pw-error"],
    )
