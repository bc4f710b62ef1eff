"""Compares what the database says was published with what is on the topic now.

`pricewire verify outbox` asks for it, after a topic was made anew or a cluster lost records. Both
sides come in the order of partition and offset and are walked along together, a batch at a time;
what is not where it was published goes to `Missing`, on disk, until the whole topic was read.

Invariant: only reads, and an event is called lacking only after the topic was read up to an end
that is younger than the database's snapshot: the service may run and publish meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from pricewire.domain.event import EventId, Source

LACKING = "lacking"
DIFFERING = "differing"


@dataclass(frozen=True, slots=True)
class Placed:
    """An event and where the database has it; `offset` is None where the broker reported none."""

    event_id: EventId
    partition: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    """A published event as it should be at its place."""

    place: Placed
    generation: int
    value: bytes


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """A record of the relay's as it is on the topic."""

    event_id: EventId
    source: Source
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """The relay's records of a partition before `next_offset`, in order."""

    events: Sequence[FoundEvent]
    next_offset: int


@dataclass(frozen=True, slots=True)
class NowKnown:
    """What the database has under an id by now; without `place` it is not published."""

    value: bytes
    waiting: bool
    place: Placed | None


@dataclass(frozen=True, slots=True)
class Totals:
    """How many events the database has: published to this topic, to others, and waiting."""

    published: int
    elsewhere: int
    waiting: int


class Published(Protocol):
    """The database; all but `known_now` is one snapshot. All raise `StoreError`."""

    async def source(self) -> Source: ...

    async def totals(self) -> Totals: ...

    def placed(self, first: Mapping[int, int]) -> AsyncGenerator[list[PlacedEvent], None]:
        """Give those with an offset, by partition and offset; not those before `first`."""
        ...

    def unplaced(self) -> AsyncGenerator[list[Placed], None]:
        """Give those that the broker confirmed without an offset."""
        ...

    async def known_now(self, ids: Sequence[EventId]) -> dict[EventId, NowKnown]: ...


class Content(Protocol):
    """The topic. All raise `KafkaTrouble`."""

    async def first_offsets(self) -> dict[int, int]:
        """Return where each partition begins now; nothing if there is no such topic."""
        ...

    def events(self, partition: int) -> AsyncGenerator[FoundBatch, None]:
        """Read a partition to its present end; the last batch ends there."""
        ...


class Missing(Protocol):
    """Events that were not found at their places, and those seen elsewhere; kept on disk."""

    def add(self, places: Sequence[Placed]) -> None: ...

    def seen(self, ids: Sequence[EventId]) -> None: ...

    def never_seen(self) -> Iterator[Placed]:
        """Give what was added and not seen, by partition and offset."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that is not on the topic as it was published."""

    kind: str
    place: Placed


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts of events.

    Args:
        published: to this topic, as the database says; the sum of the next four.
        found: on the topic, with the same bytes.
        expired: older than what the topic keeps.
        elsewhere: published to a topic of another name; not looked for.
        waiting: in the outbox when the comparison began.
        arrived: those of the waiting that are on the topic already, and not marked yet.
        repeats: records of an event that is on the topic at its place as well.
        unknown: records of this store that the database does not have, or has otherwise.
    """

    source: Source
    partitions: int
    published: int
    found: int = 0
    differing: int = 0
    expired: int = 0
    lacking: int = 0
    elsewhere: int = 0
    waiting: int = 0
    arrived: int = 0
    repeats: int = 0
    unknown: int = 0

    @property
    def whole(self) -> bool:
        return self.lacking == 0 and self.differing == 0


class Verification:
    """One comparison; `run` it once.

    Args:
        tell: called for each finding, the differing ones first.
    """

    def __init__(
        self,
        published: Published,
        content: Content,
        missing: Missing,
        tell: Callable[[Finding], None],
    ) -> None:
        self._published = published
        self._content = content
        self._missing = missing
        self._tell = tell
        self._differing = self._arrived = self._repeats = self._unknown = 0

    async def run(self) -> Comparison:
        source, totals = await self._published.source(), await self._published.totals()
        first = await self._content.first_offsets()
        retained = await self._set_aside_the_unplaced()
        async with aclosing(self._published.placed(first)) as pages:
            expected = _Expected(pages)
            for partition in sorted(first):
                await self._compare(source, partition, expected)
            async for rest in expected.before(None):
                self._missing.add([event.place for event in rest])
        retained += expected.taken
        # Asked again: what expired while it was read is not lacking.
        lacking, expired = self._count_missing(await self._content.first_offsets())
        return Comparison(
            source=source,
            partitions=len(first),
            published=totals.published,
            found=retained - lacking - expired - self._differing,
            differing=self._differing,
            expired=totals.published - retained + expired,
            lacking=lacking,
            elsewhere=totals.elsewhere,
            waiting=totals.waiting,
            arrived=self._arrived,
            repeats=self._repeats,
            unknown=self._unknown,
        )

    async def _set_aside_the_unplaced(self) -> int:
        """Take them for missing until they are seen somewhere; return how many they are."""
        count = 0
        async with aclosing(self._published.unplaced()) as pages:
            async for page in pages:
                self._missing.add(page)
                count += len(page)
        return count

    async def _compare(self, source: Source, partition: int, expected: _Expected) -> None:
        async with aclosing(self._content.events(partition)) as batches:
            async for batch in batches:
                ours = [one for one in batch.events if one.source.store_id == source.store_id]
                there = {(partition, event.offset): event for event in ours}
                async for page in expected.before((partition, batch.next_offset)):
                    self._match(page, there)
                await self._judge_the_rest(partition, list(there.values()))

    def _match(self, page: list[PlacedEvent], there: dict[tuple[int, int], FoundEvent]) -> None:
        """Take from `there` what lies where it should; add the others of `page` to the missing."""
        missing = []
        for event in page:
            found = there.get(_key(event))
            if found is None or found.event_id != event.place.event_id:
                missing.append(event.place)
                continue
            del there[_key(event)]
            if found.value != event.value or found.source.generation != event.generation:
                self._differing += 1
                self._tell(Finding(DIFFERING, event.place))
        self._missing.add(missing)

    async def _judge_the_rest(self, partition: int, rest: list[FoundEvent]) -> None:
        """Say what a record is that lies at no place of a publication in the snapshot."""
        known = await self._published.known_now([event.event_id for event in rest])
        seen = []
        for event in rest:
            now = known.get(event.event_id)
            if now is None or now.value != event.value:
                self._unknown += 1
            elif now.waiting:
                self._arrived += 1
            elif now.place != Placed(event.event_id, partition, event.offset):
                seen.append(event.event_id)
                self._repeats += now.place is not None and now.place.offset is not None
        self._missing.seen(seen)

    def _count_missing(self, first: Mapping[int, int]) -> tuple[int, int]:
        """Return how many lack and how many may have expired; tell the lacking."""
        lacking = expired = 0
        for place in self._missing.never_seen():
            begin = first.get(place.partition, 0)
            if begin > 0 and (place.offset is None or place.offset < begin):
                expired += 1
            else:
                lacking += 1
                self._tell(Finding(LACKING, place))
        return lacking, expired


def _key(event: PlacedEvent) -> tuple[int, int]:
    offset = event.place.offset
    assert offset is not None
    return event.place.partition, offset


class _Expected:
    """Pages of events in the order of their places, taken up to one place after the other."""

    def __init__(self, pages: AsyncGenerator[list[PlacedEvent], None]) -> None:
        self._pages = pages
        self._page: list[PlacedEvent] = []
        self.taken = 0

    async def before(
        self, bound: tuple[int, int] | None
    ) -> AsyncGenerator[list[PlacedEvent], None]:
        """Give what lies before `bound`, a partition and an offset; all that is left if None."""
        while self._page or await self._turn():
            cut = len(self._page) if bound is None else bisect_left(self._page, bound, key=_key)
            taken, self._page = self._page[:cut], self._page[cut:]
            self.taken += cut
            if taken:
                yield taken
            if self._page:
                return

    async def _turn(self) -> bool:
        self._page = await anext(self._pages, [])
        return bool(self._page)
