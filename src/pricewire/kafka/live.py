"""Follows the topics of the live streams as they grow; fulfils `services.following.Follower`.

Opened when the first reader comes, in a thread of its own. It begins shortly before the topics'
ends, so that who was away for a moment, or while the service was started anew, is answered from
memory. Invariants: at most `MOST_BYTES` and one batch are on their way to readers, so that no chunk
for them is larger; and a topic that was made anew, has other partitions or lost records that were
not read yet is no longer followed but told of.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pricewire.domain.position import Place, StreamTopic, tag_of
from pricewire.errors import KafkaTrouble
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.live_records import ReadMessages, readers_of
from pricewire.kafka.live_topics import LiveTopics, Seen
from pricewire.kafka.log_reader import LogReader
from pricewire.kafka.trouble import explain
from pricewire.services.live.events import LiveEvent
from pricewire.services.live.following import Listener

POLL_SECONDS = 0.2
BATCH = 500
BATCH_BYTES = 131_072
MOST_BYTES = 524_288
RECORD_BYTES = 300
"""What a record comes to besides its value."""
EARLIER_RECORDS = 12_000
"""How many records before the ends are read first, all partitions together."""
LOOK_SECONDS = 5.0
RETRY_SECONDS = 1.0
END_SECONDS = 5.0

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
_OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_UNKNOWN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)


def live_config(connection: Connection) -> Config:
    """Return librdkafka's properties; the group is never joined."""
    return {
        **connection.base("live"),
        "group.id": "pricewire-live",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # A position that the topic no longer has must be seen, not skipped.
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": 4_096,
        "fetch.message.max.bytes": 1_048_576,
        "fetch.error.backoff.ms": 100,
        "fetch.queue.backoff.ms": 20,
    }


class _Changed(Exception):
    """The topics are not those that are followed."""


class LiveFollower:
    """See the module; `close` ends its thread."""

    def __init__(self, connection: Connection, topics: LiveTopics, listener: Listener) -> None:
        self._config = live_config(connection)
        self._topics = topics
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._room = _Room()
        self._seen: dict[StreamTopic, Seen] = {}
        self._topic_of = {name: topic for topic, name in topics.names.items()}
        self._unread: dict[tuple[StreamTopic, int], int] = {}
        self._looked_at = 0.0
        self.log = LogReader(self._config, topics.names)
        self._thread = threading.Thread(target=self._run, name="live-follower", daemon=True)
        self._thread.start()

    def flushed(self, batches: int) -> None:
        self._room.give_back(batches)

    def close(self) -> None:
        self._closing.set()
        self._room.close()
        self._thread.join()
        self.log.close()
        self._topics.close()

    # In the thread.

    def _run(self) -> None:
        try:
            consumer = self._begin()
            if consumer is not None:
                self._follow(consumer)
        except _Changed as change:
            self._tell(self._listener.changed, str(change))
        except Exception as error:  # noqa: BLE001
            # A thread that dies is heard by nobody.
            self._tell(self._listener.died, error)

    def _begin(self) -> Consumer | None:
        """Take the position before the ends, as soon as Kafka is there."""
        while not self._closing.is_set():
            consumer = Consumer(self._config)
            try:
                self._take_position(consumer)
            except KafkaTrouble as trouble:
                self._tell(self._listener.troubled, trouble.detail)
            except KafkaException as error:
                self._tell(self._listener.troubled, explain(error.args[0], self._config))
            else:
                return consumer
            consumer.close()
            self._closing.wait(RETRY_SECONDS)
        return None

    def _take_position(self, consumer: Consumer) -> None:
        self._seen, missing = self._topics.require()
        self._looked_at = time.monotonic()
        partitions = sum(one.partitions for one in self._seen.values())
        start: dict[StreamTopic, Place] = {}
        self._unread.clear()
        for topic in (one for one in StreamTopic if one in self._seen):
            offsets = []
            for number in range(self._seen[topic].partitions):
                place = TopicPartition(self._topics.names[topic], number)
                low, high = consumer.get_watermark_offsets(place, timeout=END_SECONDS)
                offsets.append(max(low, high - EARLIER_RECORDS // partitions))
                self._unread[topic, number] = high
            start[topic] = Place(tag_of(self._seen[topic].topic_id), tuple(offsets))
        self.log.read_with(readers_of(self._topics.names, self._ids()))
        consumer.assign(
            [
                TopicPartition(self._topics.names[topic], number, offset)
                for topic, place in start.items()
                for number, offset in enumerate(place.offsets)
            ]
        )
        self._tell(self._listener.began, start, missing)
        self._note_read({key: start[key[0]].offsets[key[1]] for key in self._unread})
        if not start:
            self._tell(self._listener.at_the_end)

    def _ids(self) -> dict[StreamTopic, str]:
        return {topic: one.topic_id for topic, one in self._seen.items()}

    def _follow(self, consumer: Consumer) -> None:
        read = readers_of(self._topics.names, self._ids())
        with closing(consumer):
            while not self._closing.is_set():
                self._look_for_other_topics()
                self._read_on(consumer, read)

    def _read_on(self, consumer: Consumer, read: dict[str, ReadMessages]) -> None:
        try:
            first = consumer.poll(POLL_SECONDS)
            rest = consumer.consume(BATCH - 1, 0) if first is not None else []
        except KafkaException:
            # Brokers that are away are told by health; the client gets over it by itself.
            self._closing.wait(POLL_SECONDS)
            return
        for batch in _batches([first, *rest] if first is not None else []):
            self._hand_over(batch, read)

    def _hand_over(self, messages: Sequence[Message], read: dict[str, ReadMessages]) -> None:
        passed: dict[tuple[StreamTopic, int], int] = {}
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            topic, partition, offset = _place(message)
            if (error := message.error()) is not None:
                self._get_over(error)
                if error.code() != _EOF:
                    continue
                passed[self._topic_of[topic], partition] = offset
                continue
            passed[self._topic_of[topic], partition] = offset + 1
            by_topic[topic].append(message)
        events: list[LiveEvent] = []
        for name, some in by_topic.items():
            events.extend(read[name](some))
        if not passed:
            return
        self._room.take(sum(map(_size, messages)))
        self._tell(self._listener.took, events, passed)
        self._note_read(passed)

    def _note_read(self, passed: dict[tuple[StreamTopic, int], int]) -> None:
        """Tell once when all that was there at the beginning has been read."""
        was_behind = bool(self._unread)
        for key, next_offset in passed.items():
            if next_offset >= self._unread.get(key, next_offset + 1):
                del self._unread[key]
        if was_behind and not self._unread:
            self._tell(self._listener.at_the_end)

    def _get_over(self, error: KafkaError) -> None:
        if error.code() == _OUT_OF_RANGE:
            raise _Changed("a topic lost records before they were read; come again")
        if error.code() in _UNKNOWN:
            self._looked_at = 0.0
            self._look_for_other_topics()

    def _look_for_other_topics(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        # Without an answer nothing is known, and nothing is read either.
        with suppress(KafkaException):
            if (seen := self._topics.look()) != self._seen:
                raise _Changed(_difference(self._topics.names, self._seen, seen))

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        # After the service's end there is nobody to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)


class _Room:
    """How much is on its way to readers; the thread waits for room, the event loop never does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batches: deque[int] = deque()
        self._bytes = 0
        self._closed = False

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < MOST_BYTES or self._closed)
            self._batches.append(size)
            self._bytes += size

    def give_back(self, batches: int) -> None:
        with self._changed:
            for _ in range(batches):
                self._bytes -= self._batches.popleft()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


def _size(message: Message) -> int:
    return len(message) + RECORD_BYTES


def _batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Give messages in batches of so many bytes at most, or of one message."""
    begin = size = 0
    for at, message in enumerate(messages):
        size += _size(message)
        if size > BATCH_BYTES and at > begin:
            yield messages[begin:at]
            begin, size = at, _size(message)
    if messages:
        yield messages[begin:]


def _place(message: Message) -> tuple[str, int, int]:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    return topic or "", partition or 0, offset or 0


def _difference(
    names: dict[StreamTopic, str], was: dict[StreamTopic, Seen], now: dict[StreamTopic, Seen]
) -> str:
    changed = [names[one] for one in names if was.get(one) != now.get(one)]
    return f"topic {', '.join(changed)} is not the one that was followed; come again"
