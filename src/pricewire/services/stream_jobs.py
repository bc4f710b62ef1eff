"""Makes, changes and lists streaming jobs, within what a vendor allows on one connection.

The API calls it. Invariant: jobs are checked and kept in one transaction, one after the other, so
that two that are made at once never both count on the same room; what is refused is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from pricewire.domain.job import JobStatus
from pricewire.domain.stream_job import StreamConfig, StreamJob, wanted
from pricewire.errors import FeedFull, InvalidParameter, NotFound, TooManyJobs
from pricewire.services.kept_jobs import KeptJobs

MAX_STREAMS = 1_000


@dataclass(frozen=True, slots=True)
class Streamable:
    """What has to be known of a feed before a job is taken.

    Args:
        most: how many symbols it takes on its connection; None: as many as you like.
        covers: whether it can have a symbol at all.
        lacks: settings without which it cannot be connected; none: it can.
    """

    name: str
    most: int | None
    covers: Callable[[str], bool]
    lacks: tuple[str, ...] = ()


class StreamJobs:
    """See the module.

    Args:
        feeds: by provider.
        changed: called after every change, so that whoever drives feeds looks again.
    """

    def __init__(
        self,
        store: KeptJobs[StreamJob],
        *,
        feeds: Mapping[str, Streamable],
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._clock = clock
        self._changed = changed

    async def create(self, config: StreamConfig) -> StreamJob:
        """Keep a job; its feed is connected, or takes its symbols, at once.

        Raises:
            InvalidParameter: there is no such feed, or its key is not set.
            FeedFull: the vendor does not take so many symbols.
            TooManyJobs, StoreError.
        """
        self._feed(config)
        now = self._clock()
        job = StreamJob(
            id=uuid7(), config=config, status=JobStatus.ACTIVE, created_at=now, since=now
        )
        return self._told(await self._store.add(job, self._fitting))

    async def change(self, job_id: UUID, wish: Mapping[str, Any]) -> StreamJob:
        """Change a job; a paused one stays paused.

        Args:
            wish: new values of members of `StreamConfig`.

        Raises:
            NotFound, and as `create` does.
        """

        def changed(job: StreamJob, others: Sequence[StreamJob]) -> StreamJob:
            since = self._clock() if "symbols" in wish else job.since
            new = replace(job, config=replace(job.config, **wish), since=since)
            return self._fitting(new, others)

        return self._found(await self._store.change(job_id, changed), job_id)

    async def pause(self, job_id: UUID) -> StreamJob:
        """Want nothing until it is resumed.

        Raises:
            NotFound, StoreError.
        """
        found = await self._store.change(
            job_id, lambda job, _: replace(job, status=JobStatus.PAUSED)
        )
        return self._found(found, job_id)

    async def resume(self, job_id: UUID) -> StreamJob:
        """Go on with a paused job; what passed meanwhile is no gap.

        Raises:
            NotFound, and as `create` does.
        """

        def resumed(job: StreamJob, others: Sequence[StreamJob]) -> StreamJob:
            if job.active:
                return job
            new = replace(job, status=JobStatus.ACTIVE, since=self._clock())
            return self._fitting(new, others)

        return self._found(await self._store.change(job_id, resumed), job_id)

    async def delete(self, job_id: UUID) -> None:
        """Forget a job; its prices stay.

        Raises:
            NotFound, StoreError.
        """
        if not await self._store.delete(job_id):
            raise _no_job(job_id)
        self._changed()

    async def find(self, job_id: UUID) -> StreamJob | None:
        """Return a job, None where there is no streaming one of that id."""
        return await self._store.get(job_id)

    async def all(self) -> list[StreamJob]:
        """Return all jobs, the oldest first."""
        return await self._store.all()

    def _fitting(self, job: StreamJob, others: Sequence[StreamJob]) -> StreamJob:
        if len(others) >= MAX_STREAMS:
            raise TooManyJobs(f"there are {len(others)} streaming jobs; {MAX_STREAMS} at most")
        feed = self._feed(job.config)
        for symbol in job.config.symbols:
            if not feed.covers(symbol):
                raise InvalidParameter(f"the feed of {feed.name} has no symbols such as {symbol}")
        symbols = wanted([job, *others]).get(feed.name, {})
        if job.active and feed.most is not None and len(symbols) > feed.most:
            raise FeedFull(
                f"{feed.name} takes {feed.most} symbols on its connection, and with this job "
                f"{len(symbols)} would be wanted"
            )
        return job

    def _feed(self, config: StreamConfig) -> Streamable:
        feed = self._feeds.get(config.provider)
        if feed is None:
            known = ", ".join(sorted(self._feeds))
            raise InvalidParameter(f"there is no feed of {config.provider[:64]!r}; of {known}")
        if feed.lacks:
            raise InvalidParameter(f"the feed of {feed.name} needs {', '.join(feed.lacks)}")
        return feed

    def _found(self, job: StreamJob | None, job_id: UUID) -> StreamJob:
        if job is None:
            raise _no_job(job_id)
        return self._told(job)

    def _told(self, job: StreamJob) -> StreamJob:
        self._changed()
        return job


def _no_job(job_id: UUID) -> NotFound:
    return NotFound(f"there is no job {job_id}")
