"""What a processor reads and writes, and its ports: the log, the outputs, the checkpoints.

`streams.runner` uses them; `kafka` and `storage` fulfil them. Everything here is called in the
processor's own thread but for `Checkpoints`, which the event loop runs. Invariant: nothing here
knows what a processor computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from pricewire.domain.quote import Precision


class PriceTick(msgspec.Struct, frozen=True, gc=False):
    """A price event as read off the topic.

    Args:
        event_id: `<symbol>~<sequence>`, `<symbol>~h<sequence>` for a past price; for another
            producer's, `<topic>/<partition>/<offset>`.
        sequence: None for a record of another producer, which has no number.
        source: `ce_source`; for another producer's, `/kafka/<topic id>`.
        logged_at: Kafka's timestamp, milliseconds.
        raw_response_id: the UUID's text, lower case with hyphens; it is only compared and copied.
        precision: of `timestamp`, where it is coarser than a second; else `SECOND`.
    """

    partition: int
    offset: int
    logged_at: int
    event_id: str
    sequence: int | None
    source: str
    symbol: str
    price: Decimal
    timestamp: datetime
    provider: str
    raw_response_id: str
    precision: Precision = Precision.SECOND


class Poison(msgspec.Struct, frozen=True):
    """A record that can never be read: its bytes, and what is wrong with them.

    Args:
        error_class: a word for machines: `not_json`, `schema`, `key`, `conflict`.
    """

    partition: int
    offset: int
    logged_at: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    error_class: str
    error: str


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A record that is not to be counted: a test's or a replay's."""

    partition: int
    offset: int
    logged_at: int


Record = PriceTick | Poison | Skipped


class Inputs(Protocol):
    """A group's share of a topic. All raise `KafkaTrouble`."""

    def read(self, limit: int, seconds: float) -> Sequence[Record]:
        """Return what is there, at least waiting for the first; runs the rebalance callbacks."""
        ...

    def poison(self, partition: int, offset: int, error_class: str, error: str) -> Poison:
        """Return a record of the last batch as it came, to be set aside."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka the next offsets, for lag displays only; never waits."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None:
        """Leave the group; what is assigned is released first, through the callback."""
        ...


class OpenInputs(Protocol):
    def __call__(
        self,
        *,
        assigned: Callable[[Sequence[int], str], Mapping[int, int | None]],
        released: Callable[[Sequence[int]], None],
        lost: Callable[[Sequence[int]], None],
        expired: Callable[[int, int, int], None],
    ) -> Inputs:
        """Join the group.

        Args:
            assigned: given partitions and the topic's id, returns where each starts; None: first.
            released: gives partitions back in good order.
            lost: says that they belong to somebody else already.
            expired: partition, where it wanted to go on, and the first offset that is still there.
        """
        ...


class Outputs(Protocol):
    """The producer of derived events and dead letters. All raise `KafkaTrouble`."""

    def put(self, event_id: str, source: str, key: str, value: bytes, logged_at: int) -> None:
        """Queue a derived event; waits while the queue is full.

        Args:
            logged_at: its cause's, so that a repeated computation gives the same record.
        """
        ...

    def put_dead_letter(self, poison: Poison) -> None: ...

    def serve(self) -> None:
        """Take reports in, without waiting; raise if one of them failed."""
        ...

    def flush(self, seconds: float) -> None:
        """Return when everything queued is delivered; raise if that fails or takes longer."""
        ...

    def close(self) -> None:
        """Forget what is queued or in flight."""
        ...


OpenOutputs = Callable[[], Outputs]


class Counters(msgspec.Struct):
    """What a partition has seen since its state began."""

    taken: int = 0
    repeats: int = 0
    healed: int = 0
    missing: int = 0
    lost: int = 0
    dead_letters: int = 0
    skipped: int = 0
    expired: int = 0


@dataclass(slots=True)
class ProcessorStatus:
    """What a processor is doing here, for health, metrics and the log.

    Args:
        partitions: next offsets of the partitions that it owns here.
        counters: of these partitions, since their state began.
    """

    name: str
    phase: str = "starting"
    partitions: dict[int, int] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    checkpoints: int = 0
    restarts: int = 0
    last_error: str | None = None


Row = Mapping[str, Any]
"""A row of a processor's results, by column, without the processor and its partition."""
RowKey = tuple[str, str, datetime]
"""What a row is found by: its symbol, a name within it, and a time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows of results that a partition's owner asks for."""

    partition: int
    epoch: int
    keys: Sequence[RowKey]


@dataclass(frozen=True, slots=True)
class PartitionStart:
    """What an owner takes over: `states` by symbol, as they were dumped."""

    epoch: int
    generation: int
    next_offset: int | None
    counters: Counters
    states: Mapping[str, bytes]


class Drop(msgspec.Struct, frozen=True):
    """An event that will never come: the dead letter that it became was dropped."""

    source: str
    symbol: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A partition's state and position, written together.

    Args:
        states: only those that changed since the last one.
        logged_at: Kafka's timestamp of the last record before `next_offset`, milliseconds.
        settled: drops that the states know of; they are told no more.
        table: where `rows` go, results that changed since the last one; None: there are none.
    """

    partition: int
    epoch: int
    next_offset: int
    logged_at: int
    counters: Counters
    states: Mapping[str, bytes] = field(default_factory=dict)
    settled: Sequence[Drop] = ()
    table: str | None = None
    rows: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Which processor wants which partition, of which topic, with which version of its step."""

    processor: str
    version: str
    partition: int
    topic_id: str


class Checkpoints(Protocol):
    """Where processors keep their state. All raise `StoreError`."""

    async def claim(self, claim: Claim) -> PartitionStart:
        """Become a partition's owner; state and results of another topic or version are given up.

        A new generation begins where it is given up.
        """
        ...

    async def write(self, processor: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint.

        Raises:
            OwnerChanged: the partition has another owner by now; nothing is written.
        """
        ...

    async def drops(self, processor: str) -> Sequence[Drop]:
        """Return the drops that no checkpoint knows of yet."""
        ...

    async def load(
        self, processor: str, table: str, wanted: Sequence[Wanted]
    ) -> Sequence[Mapping[RowKey, Row]]:
        """Return what there is of the rows that each partition wants, as it was last written.

        Raises:
            OwnerChanged: a partition has another owner by now, who may have changed its rows.
        """
        ...
