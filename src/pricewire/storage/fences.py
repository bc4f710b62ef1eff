"""Whether a job's or a feed's prices may still be recorded; `recording` asks in its transaction.

Invariant: a job's or a feed's row stays locked until the transaction ends; jobs are locked by id,
then feeds by provider, before any symbol. So an epoch that is the claimer's here is so at the
commit, and of two who poll the same due time the second finds what the first has recorded
(docs/decisions/0019, 0022).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from pricewire.errors import FeedOvertaken, PollOvertaken
from pricewire.services.feeds.kept import FeedFence
from pricewire.services.recording import Entry, Fence, Overtaken
from pricewire.storage.tables import feeds, jobs, polls

_LOCK_JOBS = (
    select(jobs.c.id, jobs.c.epoch)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(jobs.c.id)
    .with_for_update()
)
_POLLED = select(polls.c.job_id, polls.c.due, polls.c.symbol).where(
    polls.c.job_id.in_(bindparam("ids", expanding=True)),
    polls.c.due.in_(bindparam("dues", expanding=True)),
)

_LOCK_FEEDS = (
    select(feeds.c.provider, feeds.c.epoch)
    .where(feeds.c.provider.in_(bindparam("providers", expanding=True)))
    .order_by(feeds.c.provider)
    .with_for_update()
)

_Poll = tuple[UUID, datetime, str]


@dataclass(frozen=True, slots=True)
class Fences:
    """The epochs of locked jobs and feeds, and what the jobs' due times have already."""

    epochs: dict[UUID, int]
    polled: set[_Poll]
    feeds: dict[str, int]

    @classmethod
    def locked(cls, connection: Connection, group: Sequence[Entry]) -> Self:
        """Lock the jobs and the feeds of a group."""
        fences = [entry.fence for entry in group if isinstance(entry.fence, Fence)]
        epochs, polled = _lock_jobs(connection, fences) if fences else ({}, set())
        providers = {one.fence.provider for one in group if isinstance(one.fence, FeedFence)}
        return cls(epochs, polled, _lock_feeds(connection, providers) if providers else {})

    def fallen(self, entries: Iterable[Entry]) -> dict[UUID, Overtaken]:
        """Return why entries may not be recorded, by the ids of what they are made from."""
        found: dict[UUID, Overtaken] = {}
        for entry in entries:
            if error := self._fallen(entry):
                found[entry.raw.id] = error
            elif isinstance(entry.fence, Fence):
                self.polled.update(_polls(entry, entry.fence))
        return found

    def _fallen(self, entry: Entry) -> Overtaken | None:
        if isinstance(entry.fence, Fence):
            reason = self._fallen_job(entry, entry.fence)
            return PollOvertaken(reason) if reason else None
        if entry.fence is not None:
            reason = self._fallen_feed(entry.fence)
            return FeedOvertaken(reason) if reason else None
        return None

    def _fallen_job(self, entry: Entry, fence: Fence) -> str | None:
        epoch = self.epochs.get(fence.job_id)
        if epoch is None:
            return f"the job {fence.job_id} is gone"
        if epoch != fence.epoch:
            return f"the job {fence.job_id} is at epoch {epoch}, not at {fence.epoch} any more"
        if there := self.polled.intersection(_polls(entry, fence)):
            return f"the job {fence.job_id} has {min(there)[2]} for {fence.due} already"
        return None

    def _fallen_feed(self, fence: FeedFence) -> str | None:
        epoch = self.feeds.get(fence.provider)
        if epoch is None:
            return f"the feed {fence.provider} is gone"
        if epoch != fence.epoch:
            return f"the feed {fence.provider} is at epoch {epoch}, not at {fence.epoch} any more"
        return None


def _lock_jobs(
    connection: Connection, fences: Sequence[Fence]
) -> tuple[dict[UUID, int], set[_Poll]]:
    ids = sorted({fence.job_id for fence in fences})
    epochs = {row.id: row.epoch for row in connection.execute(_LOCK_JOBS, {"ids": ids})}
    dues = sorted({fence.due for fence in fences})
    rows = connection.execute(_POLLED, {"ids": ids, "dues": dues})
    return epochs, {(row.job_id, row.due, row.symbol) for row in rows}


def _lock_feeds(connection: Connection, providers: Collection[str]) -> dict[str, int]:
    rows = connection.execute(_LOCK_FEEDS, {"providers": sorted(providers)})
    return {row.provider: row.epoch for row in rows}


def poll_rows(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return the rows of `polls` for what is recorded."""
    return [
        {"job_id": job_id, "due": due, "symbol": symbol, "raw_response_id": entry.raw.id}
        for entry in entries
        if isinstance(entry.fence, Fence)
        for job_id, due, symbol in _polls(entry, entry.fence)
    ]


def _polls(entry: Entry, fence: Fence) -> list[_Poll]:
    names = dict.fromkeys(draft.quote.symbol for draft in entry.drafts)
    return [(fence.job_id, fence.due, name) for name in names]
