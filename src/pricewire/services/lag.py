"""How far processors are behind their topic; `GET /v1/lag` asks.

Invariant: a position is that of a checkpoint, in the database: the group's offsets in Kafka only
follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pricewire.services.processing import Counters


class CheckpointPosition(Protocol):
    @property
    def processor(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def next_offset(self) -> int | None: ...
    @property
    def logged_at(self) -> int | None: ...
    @property
    def counters(self) -> Counters: ...


class Positions(Protocol):
    async def positions(self) -> Sequence[CheckpointPosition]:
        """Return where every processor is, by its name and partition."""
        ...


class Ends(Protocol):
    async def ends(self) -> Mapping[int, tuple[int, int]]:
        """Return the first offset and the end of each partition of the topic.

        Raises:
            KafkaTrouble: no broker answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One processor in one partition.

    Args:
        behind: records that it has not counted yet.
        seconds: since the last record that it counted was logged; 0 if none waits.
    """

    processor: str
    partition: int
    generation: int
    next_offset: int | None
    end_offset: int
    behind: int
    seconds: float
    counters: Counters


class Lag:
    """See the module.

    Args:
        topics: which topic each processor reads; one that is not named is not told of.
        ends: of these topics.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        topics: Mapping[str, str],
        ends: Mapping[str, Ends],
        clock: Callable[[], datetime],
    ) -> None:
        self._positions = positions
        self._topics = topics
        self._ends = ends
        self._clock = clock

    async def report(self) -> list[PartitionLag]:
        """Say where every processor is.

        Raises:
            KafkaTrouble: no broker answers.
            StoreError: the database is away.
        """
        known = [one for one in await self._positions.positions() if one.processor in self._topics]
        asked = {self._topics[one.processor] for one in known}
        ends = {topic: await self._ends[topic].ends() for topic in sorted(asked)}
        return [
            self._lag(one, *ends[self._topics[one.processor]][one.partition])
            for one in known
            if one.partition in ends[self._topics[one.processor]]
        ]

    def _lag(self, position: CheckpointPosition, low: int, end: int) -> PartitionLag:
        behind = max(0, end - max(position.next_offset or 0, low))
        seconds = 0.0
        if behind and position.logged_at is not None:
            seconds = max(0.0, self._clock().timestamp() - position.logged_at / 1000)
        return PartitionLag(
            position.processor,
            position.partition,
            position.generation,
            position.next_offset,
            end,
            behind,
            round(seconds, 3),
            position.counters,
        )
