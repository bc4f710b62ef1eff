"""Streaming jobs: whose ticks are wanted, and how often; pure.

`services.stream_jobs` keeps them, `services.feeds.driver` has their feeds connected. Several jobs
may want the same symbol: there is one event for each tick all the same. Invariant: a symbol is
conflated only as far as all of its active jobs want it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pricewire.domain.job import JobStatus, check_symbols
from pricewire.errors import InvalidParameter

SHORTEST_CONFLATE = 10
LONGEST_CONFLATE = 3_600_000


class Want(NamedTuple):
    """What is wanted of a symbol.

    Args:
        conflate: milliseconds; its last price at most so often; 0: every tick.
        since: what passed before that is no gap: nobody wanted it.
    """

    conflate: int
    since: datetime


Wanted = Mapping[str, Want]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What a caller asks for.

    Args:
        conflate: milliseconds; the last price at most so often; None: every tick.

    Raises:
        InvalidParameter, InvalidSymbol: says what would be right.
    """

    symbols: tuple[str, ...]
    provider: str
    conflate: int | None = None

    def __post_init__(self) -> None:
        check_symbols(self.symbols)
        if self.conflate is None:
            return
        if not SHORTEST_CONFLATE <= self.conflate <= LONGEST_CONFLATE:
            raise InvalidParameter(
                f"conflate is a whole number of milliseconds from {SHORTEST_CONFLATE} to "
                f"{LONGEST_CONFLATE}, or null for every tick"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamJob:
    """A streaming job as it is kept; what its feed does is the feed's, not the job's.

    Args:
        since: when it was made or resumed, or got its symbols.
    """

    id: UUID
    config: StreamConfig
    status: JobStatus
    created_at: datetime
    since: datetime

    @property
    def active(self) -> bool:
        return self.status is JobStatus.ACTIVE


def wanted(jobs: Iterable[StreamJob]) -> dict[str, dict[str, Want]]:
    """Return what active jobs want, by provider."""
    found: dict[str, dict[str, Want]] = {}
    for job in jobs:
        if job.active:
            symbols = found.setdefault(job.config.provider, {})
            mine = Want(job.config.conflate or 0, job.since)
            for symbol in job.config.symbols:
                other = symbols.get(symbol, mine)
                symbols[symbol] = Want(
                    min(mine.conflate, other.conflate), min(mine.since, other.since)
                )
    return found
