"""Brings a reader from where it was to the head of the stream: out of the log, then out of memory.

`streaming` runs one task for each reader that comes with a position. The hand-over needs no lock:
the log is read until nothing is missing between the reader's cursor and what memory has
(`Recent.covers`), memory is given out from there, and in the one step of the event loop in which
nothing is left to give and no partition is ahead of memory the reader joins. An event is given if
its offset is not behind the cursor, whoever read it, so that where log and memory overlap nothing
comes twice. Invariants: a reader is never given more than its connection takes, so that a slow one
holds up nobody; reading the log is a turn of bounded size, and whoever waits longest has the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from pricewire.domain.position import Cursor, Offsets, Place, Position, StreamTopic
from pricewire.errors import KafkaTrouble
from pricewire.services.live.broadcast import PIECE_BYTES, Broadcast
from pricewire.services.live.events import LiveEvent, Passed, Subscription
from pricewire.services.live.readers import Framing, Reader, framed
from pricewire.services.live.recent import Span

TURNS = 2
"""Readers for which the log is read at the same time."""
AT_ONCE = 8
"""Readers that are given something out of memory before others get their turn."""
CHUNKS = 64
"""Chunks of memory that are kept: who comes back after the same outage is given the same."""
ROOM_SECONDS = 0.05
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Gap:
    """What a reader cannot be given; `partition` None: of the whole topic.

    Args:
        reason: `expired`: the log no longer has it. `beyond_end`: the log never had it, or lost it.
            `other_topic`: the position is of another topic, or of one that was made anew; the
            stream goes on at the beginning of this one. `not_asked_before`: the position says
            nothing of this topic, and `unknown_position`: it is none; the stream goes on with
            what comes.
    """

    reason: str
    topic: StreamTopic | None = None
    partition: int | None = None
    position: int | None = None
    next: int | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What one turn read.

    Args:
        passed: how far, also where it was no event for this reader.
    """

    events: Sequence[LiveEvent]
    passed: Passed
    gaps: Sequence[Gap]


class Log(Protocol):
    """The topics; all raise `KafkaTrouble`."""

    async def read(
        self,
        starts: Mapping[tuple[StreamTopic, int], int],
        until: Mapping[tuple[StreamTopic, int], int],
        wanted: Subscription,
    ) -> Piece:
        """Read some partitions on, at most one turn's worth, and little beyond `until`."""
        ...

    async def ends(self, topics: Sequence[StreamTopic]) -> Offsets:
        """Return where each partition ends."""
        ...


def taken_up(position: Position, now: Position) -> tuple[dict[StreamTopic, Place], list[Gap]]:
    """Return where a reader with a position goes on, and what it is to be told of that; pure.

    Args:
        now: where the topics stand that it asks for.
    """
    places: dict[StreamTopic, Place] = {}
    gaps: list[Gap] = []
    for topic, present in now.items():
        known = position.get(topic)
        missing = len(present.offsets) - len(known.offsets) if known else 0
        if known is None:
            gaps.append(Gap("not_asked_before", topic))
            places[topic] = present
        elif known.tag != present.tag or missing < 0:
            gaps.append(Gap("other_topic", topic))
            places[topic] = Place(present.tag, (0,) * len(present.offsets))
        else:
            # Partitions that were added later are new from their first record on.
            places[topic] = Place(present.tag, known.offsets + (0,) * missing)
    return places, gaps


class CatchingUp:
    """See the module."""

    def __init__(
        self,
        broadcast: Broadcast,
        log: Log,
        clock: Callable[[], float],
        *,
        stalled_seconds: float,
    ) -> None:
        self._broadcast = broadcast
        self._recent = broadcast.recent
        self._log = log
        self._clock = clock
        self._stalled_seconds = stalled_seconds
        # Whoever waits longest is next: the semaphore of asyncio is fair.
        self._turns = asyncio.Semaphore(TURNS)
        self._few = asyncio.Semaphore(AT_ONCE)
        self._chunks: dict[tuple[Subscription, Framing, int], bytes] = {}

    async def bring(self, reader: Reader, places: Position) -> None:
        """Give a reader all that it lacks, then let it join."""
        cursor = Cursor(places)
        reader.position = cursor.text
        self._broadcast.catching_up.add(reader)
        try:
            await self._check_ends(reader, cursor)
            while not reader.ended and not await self._from_memory(reader, cursor):
                await self._from_the_log(reader, cursor)
        finally:
            self._broadcast.catching_up.discard(reader)

    async def _check_ends(self, reader: Reader, cursor: Cursor) -> None:
        """Another process may be ahead of this one; nobody can be ahead of the log."""
        while not cursor.is_at_or_before(self._recent.head):
            try:
                ends = await self._log.ends(reader.wanted.topics)
            except KafkaTrouble:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for topic, own in cursor.next.items():
                for partition, end in enumerate(ends[topic]):
                    if own[partition] > end:
                        gap = Gap("beyond_end", topic, partition, own[partition], end)
                        own[partition] = end
                        self._tell(reader, cursor, gap)
            return

    async def _from_memory(self, reader: Reader, cursor: Cursor) -> bool:
        """Give what memory has; tell whether the reader joined, or is gone."""
        index: int | None = None
        while not reader.ended:
            if index is None or not self._recent.has(index):
                if not self._recent.covers(cursor):
                    return False
                index = self._recent.index_for(cursor)
            async with self._few:
                if self._recent.has(index):
                    index = self._give_span(reader, cursor, index)
                # From there to `join` nothing may wait: what came in between would be missed.
                at_the_head = index == self._recent.next_index and reader.has_room
                if at_the_head and cursor.is_at_or_before(self._recent.head):
                    self._broadcast.join(reader)
                    return True
                await asyncio.sleep(0)
            if at_the_head:
                await asyncio.sleep(ROOM_SECONDS)
            await self._room(reader)
        return True

    def _give_span(self, reader: Reader, cursor: Cursor, index: int) -> int:
        """Write the next events in memory for a reader; return the index behind them."""
        span = self._recent.span(index)
        if span.before is None or not cursor.is_at_or_before(span.before):
            blocks: list[bytes] = []
            for event in span.events:
                self._give(reader, cursor, event, blocks)
            self._write(reader, blocks)
        elif chunk := self._chunk(reader, span):
            # It is where everybody was there: what follows has everybody's positions.
            reader.write(chunk, self._clock())
        cursor.pass_all(span.behind)
        return span.end

    def _chunk(self, reader: Reader, span: Span) -> bytes:
        """Return what all who asked for the same are given of a span from a mark; may be empty."""
        key = (reader.wanted, reader.framing, span.end)
        chunk = self._chunks.get(key)
        if chunk is None:
            events = [one for one in span.events if reader.wanted.wants(one)]
            chunk = framed(reader.framing, reader.wanted, events) if events else b""
            if len(self._chunks) >= CHUNKS:
                self._chunks.pop(next(iter(self._chunks)))
            self._chunks[key] = chunk
        return chunk

    async def _from_the_log(self, reader: Reader, cursor: Cursor) -> None:
        """Read one turn's worth, and give it."""
        starts, until = self._lacking(cursor)
        if not starts:
            return
        async with self._turns:
            try:
                piece = await self._log.read(starts, until, reader.wanted)
            except KafkaTrouble:
                await asyncio.sleep(RETRY_SECONDS)
                return
        for gap in piece.gaps:
            assert gap.topic is not None
            assert gap.partition is not None
            cursor.pass_(gap.topic, gap.partition, gap.next or 0)
            self._tell(reader, cursor, gap)
        await self._give_all(reader, cursor, piece.events)
        for (topic, partition), next_offset in piece.passed.items():
            cursor.pass_(topic, partition, next_offset)

    def _lacking(
        self, cursor: Cursor
    ) -> tuple[dict[tuple[StreamTopic, int], int], dict[tuple[StreamTopic, int], int]]:
        """Return the partitions that memory does not cover: from where, and up to where."""
        start = self._recent.start
        starts = {
            (topic, partition): offset
            for topic, own in cursor.next.items()
            for partition, offset in enumerate(own)
            if offset < start[topic][partition]
        }
        until = {(topic, number): self._recent.head[topic][number] for topic, number in starts}
        return starts, until

    async def _give_all(self, reader: Reader, cursor: Cursor, events: Sequence[LiveEvent]) -> None:
        blocks: list[bytes] = []
        size = 0
        for event in events:
            if self._give(reader, cursor, event, blocks):
                size += len(blocks[-1])
            if size > PIECE_BYTES:
                self._write(reader, blocks)
                blocks, size = [], 0
                await self._room(reader)
        self._write(reader, blocks)
        await self._room(reader)

    def _give(self, reader: Reader, cursor: Cursor, event: LiveEvent, blocks: list[bytes]) -> bool:
        """Add the event's block if the reader lacks it."""
        topic, partition, offset = event.topic, event.partition, event.offset
        if topic not in cursor.next or not cursor.wants(topic, partition, offset):
            return False
        # Also past what is not for this reader: within a partition they come in order.
        cursor.pass_(topic, partition, offset + 1)
        if not reader.wanted.wants(event):
            return False
        blocks.append(reader.framing.block(event.name, cursor.text(), event.data))
        return True

    def _write(self, reader: Reader, blocks: list[bytes]) -> None:
        if blocks:
            reader.write(reader.framing.frame(blocks), self._clock())

    def _tell(self, reader: Reader, cursor: Cursor, gap: Gap) -> None:
        reader.tell("gap", cursor.text(), known(gap), self._clock())

    async def _room(self, reader: Reader) -> None:
        """Wait until the connection has taken what it was given; end one that never does."""
        await asyncio.sleep(0)
        waiting, since = reader.waiting, self._clock()
        while not reader.has_room and not reader.ended:
            await asyncio.sleep(ROOM_SECONDS)
            if reader.waiting < waiting:
                waiting, since = reader.waiting, self._clock()
            elif self._clock() - since > self._stalled_seconds:
                self._broadcast.cut(reader, f"it took nothing for {self._stalled_seconds:g} s")


def known(gap: Gap) -> dict[str, object]:
    return {name: value for name, value in asdict(gap).items() if value is not None}
