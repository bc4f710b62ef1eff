"""Streaming jobs as `/v1/jobs…` has them: bodies in, answers with the state of their feed out.

`web.jobs` has the routes, for jobs of all kinds. Invariant: what is told of a feed is its owner's
word, `told_at` says of when; the answer of one job names the missing trades exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from pricewire.bootstrap_feeds import Live
from pricewire.domain.stream_job import StreamConfig, StreamJob
from pricewire.services.feeds.kept import FeedStatus, FeedSymbolState


class StreamRequest(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="stream"):
    """The body of a new job; `domain.stream_job.StreamConfig` says what the members mean."""

    symbols: list[str]
    provider: str
    conflate: int | None = None

    def config(self) -> StreamConfig:
        return StreamConfig(
            symbols=tuple(self.symbols), provider=self.provider, conflate=self.conflate
        )


class StreamChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a change; what is not named stays as it is."""

    symbols: list[str] | msgspec.UnsetType = msgspec.UNSET
    conflate: int | msgspec.UnsetType | None = msgspec.UNSET


class SymbolAnswer(msgspec.Struct):
    """Where a symbol of the feed is; `missing` are ranges of the vendor's numbers, both ends in."""

    symbol: str
    ticks: int
    repeats: int
    conflated: int
    gaps: int
    missing: tuple[tuple[int, int], ...]
    filled: int
    lost: int
    last_number: int | None
    last_timestamp: datetime | None
    seen_at: datetime | None


class StreamAnswer(msgspec.Struct):
    """`feed`: null until its feed was connected once; `symbols`: null in lists."""

    job_id: UUID
    kind: str
    status: str
    config: StreamConfig
    created_at: datetime
    since: datetime
    feed: FeedStatus | None
    symbols: list[SymbolAnswer] | None = None


async def one(live: Live, job: StreamJob) -> StreamAnswer:
    """Return a job with its feed and where each of its symbols is."""
    statuses = await live.feeding.statuses()
    states = await live.feeding.symbols(job.config.provider)
    mine = set(job.config.symbols)
    found = [_symbol(state) for state in states if state.symbol in mine]
    return answer(job, statuses, found)


def answer(
    job: StreamJob,
    statuses: Mapping[str, FeedStatus],
    symbols: list[SymbolAnswer] | None = None,
) -> StreamAnswer:
    return StreamAnswer(
        job_id=job.id,
        kind="stream",
        status=job.status.value,
        config=job.config,
        created_at=job.created_at,
        since=job.since,
        feed=statuses.get(job.config.provider),
        symbols=symbols,
    )


def wish(asked: StreamChange) -> dict[str, Any]:
    """Return what is to be changed; nothing where nothing is named."""
    given = msgspec.structs.asdict(asked)
    found = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    if "symbols" in found:
        found["symbols"] = tuple(found["symbols"])
    return found


def _symbol(state: FeedSymbolState) -> SymbolAnswer:
    return SymbolAnswer(**{name: getattr(state, name) for name in SymbolAnswer.__struct_fields__})
