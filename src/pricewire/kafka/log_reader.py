"""Reads the topics of the live streams from where a reader was; fulfils `catching_up.Log`.

A few consumers serve all readers in turns: each is assigned what one reader lacks, read for a
moment and let go. Invariant: what is returned of a partition has no hole that is not named.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pricewire.domain.position import Offsets, StreamTopic
from pricewire.errors import KafkaUnavailable, ShuttingDown
from pricewire.kafka.client import Config
from pricewire.kafka.trouble import explain
from pricewire.services.live.catching_up import TURNS, Gap, Piece
from pricewire.services.live.events import LiveEvent, Subscription

TURN_RECORDS = 4_000
TURN_BYTES = 1_048_576
TURN_SECONDS = 0.5
SILENCE_SECONDS = 5.0
BATCH = 500
END_SECONDS = 5.0

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
_OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001

Offset = dict[tuple[StreamTopic, int], int]


class LogReader:
    """See the module; `close` it."""

    def __init__(self, config: Config, names: Mapping[StreamTopic, str]) -> None:
        # What is fetched beyond a turn is thrown away.
        self._config = {**config, "queued.max.messages.kbytes": 1_024, "queued.min.messages": 1_000}
        self._names = dict(names)
        self._topic_of = {name: topic for topic, name in names.items()}
        self._read: Mapping[str, Any] = {}
        self._threads = ThreadPoolExecutor(TURNS, thread_name_prefix="log-reader")
        self._consumers: SimpleQueue[Consumer] = SimpleQueue()
        self._made: list[Consumer] = []
        self._closed = False

    def read_with(self, readers: Mapping[str, Any]) -> None:
        """Take what makes events of each topic's messages."""
        self._read = readers

    async def read(
        self,
        starts: Mapping[tuple[StreamTopic, int], int],
        until: Mapping[tuple[StreamTopic, int], int],
        wanted: Subscription,
    ) -> Piece:
        piece: Piece = await self._in_thread(self._turn, starts, until, wanted)
        return piece

    async def ends(self, topics: Sequence[StreamTopic]) -> Offsets:
        found: dict[StreamTopic, list[int]] = await self._in_thread(self._ends, topics)
        return found

    def close(self) -> None:
        """Let turns that were begun end."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for consumer in self._made:
            consumer.close()

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        if self._closed:
            raise KafkaUnavailable(ShuttingDown().detail)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._with_consumer, work, arguments)
        except KafkaException as error:
            raise KafkaUnavailable(explain(error.args[0], self._config)) from error

    # In a thread.

    def _with_consumer(self, work: Any, arguments: Sequence[Any]) -> Any:
        try:
            consumer = self._consumers.get_nowait()
        except Empty:
            consumer = Consumer(self._config)
            self._made.append(consumer)
        try:
            return work(consumer, *arguments)
        finally:
            self._consumers.put(consumer)

    def _ends(
        self, consumer: Consumer, topics: Sequence[StreamTopic]
    ) -> dict[StreamTopic, list[int]]:
        found = {}
        for topic in topics:
            name = self._names[topic]
            partitions = consumer.list_topics(name, timeout=END_SECONDS).topics[name].partitions
            found[topic] = [self._edges(consumer, name, one)[1] for one in sorted(partitions)]
        return found

    def _edges(self, consumer: Consumer, name: str, partition: int) -> tuple[int, int]:
        place = TopicPartition(name, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=END_SECONDS)
        return low, high

    def _turn(
        self,
        consumer: Consumer,
        starts: Mapping[tuple[StreamTopic, int], int],
        until: Mapping[tuple[StreamTopic, int], int],
        wanted: Subscription,
    ) -> Piece:
        turn = _Turn(self._topic_of, until, wanted)
        consumer.assign(
            [
                TopicPartition(self._names[topic], partition, offset)
                for (topic, partition), offset in starts.items()
            ]
        )
        try:
            while not turn.over and not self._closed:
                for message in self._some(consumer, turn):
                    if turn.take(message):
                        at = starts[turn.key(message)]
                        turn.lost(self._lost(consumer, turn, message, at))
        finally:
            consumer.unassign()
        return Piece(self._events(turn), turn.passed, turn.gaps)

    def _some(self, consumer: Consumer, turn: _Turn) -> list[Message]:
        first = consumer.poll(0.1)
        if first is not None:
            return [first, *consumer.consume(BATCH - 1, 0)]
        if turn.silent_for > SILENCE_SECONDS:
            raise KafkaUnavailable("Kafka gave nothing of what is in the topic")
        return []

    def _lost(self, consumer: Consumer, turn: _Turn, message: Message, at: int) -> Gap:
        """Return what is gone where a partition begins after `at`."""
        name, partition = message.topic() or "", message.partition() or 0
        topic = self._topic_of[name]
        low, _ = self._edges(consumer, name, partition)
        # Not even there: it was cut off at its end, and what came instead has other offsets.
        reason, next_offset = ("expired", low) if low > at else ("beyond_end", turn.end(message))
        return Gap(reason, topic, partition, at, next_offset, next_offset - at)

    def _events(self, turn: _Turn) -> list[LiveEvent]:
        events: list[LiveEvent] = []
        for name, messages in turn.messages.items():
            events.extend(self._read[name](messages))
        return events


class _Turn:
    """What one turn has read so far, and whether that is enough."""

    def __init__(
        self,
        topic_of: Mapping[str, StreamTopic],
        until: Mapping[tuple[StreamTopic, int], int],
        wanted: Subscription,
    ) -> None:
        self.messages: dict[str, list[Message]] = defaultdict(list)
        self.passed: Offset = {}
        self.gaps: list[Gap] = []
        self._topic_of = topic_of
        self._until = dict(until)
        self._keys = None if wanted.symbols is None else {one.encode() for one in wanted.symbols}
        self._records = 0
        self._bytes = 0
        self._began = self._heard_at = time.monotonic()

    @property
    def over(self) -> bool:
        enough = self._records >= TURN_RECORDS or self._bytes >= TURN_BYTES
        now = time.monotonic()
        return not self._until or enough or (self._records > 0 and now - self._began > TURN_SECONDS)

    @property
    def silent_for(self) -> float:
        return time.monotonic() - self._heard_at

    def key(self, message: Message) -> tuple[StreamTopic, int]:
        return self._topic_of[message.topic() or ""], message.partition() or 0

    def end(self, message: Message) -> int:
        return self._until.get(self.key(message), 0)

    def lost(self, gap: Gap) -> None:
        """Note a gap; the next turn goes on behind it."""
        assert gap.topic is not None
        assert gap.partition is not None
        self.gaps.append(gap)
        self._heard_at = time.monotonic()
        self._until.pop((gap.topic, gap.partition), None)

    def take(self, message: Message) -> bool:
        """Take a message; tell whether it says that the partition begins later."""
        error, offset = message.error(), message.offset() or 0
        code = None if error is None else error.code()
        if code not in (None, _EOF):
            # The client gets over all else by itself; it may be of no partition.
            return code == _OUT_OF_RANGE
        self._heard_at = time.monotonic()
        key = self.key(message)
        self.passed[key] = offset if code == _EOF else offset + 1
        if code is None:
            self._keep(message)
        if self.passed[key] >= self._until.get(key, 0):
            self._until.pop(key, None)
        return False

    def _keep(self, message: Message) -> None:
        self._records += 1
        if self._keys is None or message.key() in self._keys:
            self._bytes += len(message)
            self.messages[message.topic() or ""].append(message)
