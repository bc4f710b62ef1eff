"""What the relay needs of a database, a topic and a producer: its ports, and the pure judgement.

`relay` uses them, `storage` and `kafka` fulfil them. Invariant: `judge` decides from values alone
which events arrived on the topic and whether the store went back in time (promise 4).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from pricewire.domain.event import EventId, Publication, Source, WaitingEvent


@dataclass(frozen=True, slots=True)
class Position:
    """Up to here a partition holds everything published; `topic_id` tells of which topic."""

    topic_id: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class ShardState:
    position: Position | None
    blocked_since: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the database has under an id; `waiting` is the outbox row's id while it has one."""

    raw_response_id: UUID
    waiting: int | None


@dataclass(frozen=True, slots=True)
class TailRecord:
    """A record of ours as it stands on the topic; `raw_response_id` is None if not to be read."""

    event_id: EventId
    source: Source
    raw_response_id: UUID | None
    offset: int


@dataclass(frozen=True, slots=True)
class TailBatch:
    records: Sequence[TailRecord]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report: `error` is None if the broker has the record."""

    outbox_id: int
    offset: int | None = None
    error: str | None = None
    too_large: bool = False


class ShardStore(Protocol):
    """One shard's rows, over the connection that holds its lock. All raise `StoreError`."""

    async def source(self) -> Source: ...

    async def state(self) -> ShardState: ...

    async def waiting(self, limit: int) -> list[WaitingEvent]:
        """Return the first `limit` events of the outbox, in order."""
        ...

    async def waiting_behind(self, outbox_id: int, limit: int) -> tuple[int, list[WaitingEvent]]:
        """Return how many events wait up to `outbox_id`, and the first `limit` behind it."""
        ...

    async def lookup(self, ids: Sequence[EventId]) -> dict[EventId, Known]: ...

    async def mark(
        self, publications: Mapping[int, Publication], position: Position | None
    ) -> None:
        """Record publications by outbox id, delete those rows and keep the position, at once."""
        ...

    async def start_generation(self, above: int) -> Source:
        """Raise the store's generation above its own and `above`; return the new source."""
        ...

    async def tell_blocked(self, since: datetime | None, error: str | None) -> None: ...


class Shards(Protocol):
    def hold(self, shard: int) -> AbstractAsyncContextManager[ShardStore | None]:
        """Own a shard while inside; gives None if another process owns it."""
        ...


class Topic(Protocol):
    async def ensure(self) -> str:
        """Create the topic if it is missing, check it, return its id.

        Raises:
            KafkaUnavailable: no broker answers.
            TopicMismatch: it is there, but not as configured.
        """
        ...

    def replaced(self, topic_id: str) -> bool:
        """Return whether the topic is known to be another one by now; returns at once."""
        ...

    def complaint(self, shard: int) -> str | None:
        """Return why nothing can be appended to a partition, as far as known; returns at once."""
        ...

    def tail(self, shard: int, start: int | None) -> AsyncGenerator[TailBatch, None]:
        """Read a partition from `start` (None or expired: the beginning) to its present end."""
        ...


class Publisher(Protocol):
    """One shard's producer. Its reports come in batches through the callback it was made with."""

    def hand_over(self, event: WaitingEvent, source: Source) -> None:
        """Queue a record; never blocks.

        Raises:
            KafkaTrouble: the producer refuses it and is of no use any more.
        """
        ...

    @property
    def failure(self) -> str | None:
        """Why the producer can never publish again (a fatal error), None while it can."""
        ...

    @property
    def last_error(self) -> str | None:
        """The last thing that the client or a broker complained about."""
        ...

    async def flush(self, seconds: float) -> None: ...

    async def aclose(self) -> None:
        """Forget what is queued or in flight, collect all reports, close."""
        ...


class OpenPublisher(Protocol):
    def __call__(
        self, shard: int, *, single: bool, reported: Callable[[list[Report]], None]
    ) -> Publisher:
        """Make a producer; `single` sends batches of one record."""
        ...


AHEAD = timedelta(minutes=1)


def not_of_the_future(event: WaitingEvent, now: datetime) -> WaitingEvent:
    """Return the event as it may be dated on the topic.

    A broker refuses what lies more than an hour ahead (`message.timestamp.after.max.ms`): recorded
    while a clock was wrong, it would hold its shard for as long as the clock was ahead.
    """
    return replace(event, recorded_at=now) if event.recorded_at > now + AHEAD else event


@dataclass(slots=True)
class Verdict:
    """What a partition's tail says: waiting events that are there, and how far back we went."""

    arrived: dict[int, TailRecord] = field(default_factory=dict)
    newest_generation: int = 0
    lost: list[EventId] = field(default_factory=list)


def judge(verdict: Verdict, records: Sequence[TailRecord], known: Mapping[EventId, Known]) -> None:
    """Add what `records` say to `verdict`.

    An id that the database lacks, or has with another raw response, was used up in a time that
    the database does not remember: a restored backup, a failover, a copy.
    """
    for record in records:
        verdict.newest_generation = max(verdict.newest_generation, record.source.generation)
        match = known.get(record.event_id)
        if match is None or match.raw_response_id != record.raw_response_id:
            verdict.lost.append(record.event_id)
        elif match.waiting is not None:
            verdict.arrived.setdefault(match.waiting, record)
