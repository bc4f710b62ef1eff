"""Whether a polling job's prices may still be recorded; `recording` asks within its transaction.

Invariant: a job's row stays locked until the transaction ends, and jobs are locked by id before any
symbol. So an epoch that is the claimer's here is so at the commit, and of two who poll the same due
time the second finds what the first has recorded (docs/decisions/0019).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from pricewire.errors import PollOvertaken
from pricewire.services.recording import Entry, Fence
from pricewire.storage.tables import jobs, polls

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

_Poll = tuple[UUID, datetime, str]


@dataclass(frozen=True, slots=True)
class Fences:
    """The epochs of locked jobs, and what their due times have already."""

    epochs: dict[UUID, int]
    polled: set[_Poll]

    @classmethod
    def locked(cls, connection: Connection, group: Sequence[Entry]) -> Self:
        """Lock the jobs of a group."""
        fences = [entry.fence for entry in group if entry.fence is not None]
        if not fences:
            return cls({}, set())
        ids = sorted({fence.job_id for fence in fences})
        epochs = {row.id: row.epoch for row in connection.execute(_LOCK_JOBS, {"ids": ids})}
        dues = sorted({fence.due for fence in fences})
        rows = connection.execute(_POLLED, {"ids": ids, "dues": dues})
        return cls(epochs, {(row.job_id, row.due, row.symbol) for row in rows})

    def fallen(self, entries: Iterable[Entry]) -> dict[UUID, PollOvertaken]:
        """Return why entries may not be recorded, by their raw responses' ids."""
        found: dict[UUID, PollOvertaken] = {}
        for entry in entries:
            if entry.fence is None:
                continue
            if reason := self._fallen(entry, entry.fence):
                found[entry.raw.id] = PollOvertaken(reason)
            else:
                self.polled.update(_polls(entry, entry.fence))
        return found

    def _fallen(self, entry: Entry, fence: Fence) -> str | None:
        epoch = self.epochs.get(fence.job_id)
        if epoch is None:
            return f"the job {fence.job_id} is gone"
        if epoch != fence.epoch:
            return f"the job {fence.job_id} is at epoch {epoch}, not at {fence.epoch} any more"
        if there := self.polled.intersection(_polls(entry, fence)):
            return f"the job {fence.job_id} has {min(there)[2]} for {fence.due} already"
        return None


def poll_rows(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return the rows of `polls` for what is recorded."""
    return [
        {"job_id": job_id, "due": due, "symbol": symbol, "raw_response_id": entry.raw.id}
        for entry in entries
        if entry.fence is not None
        for job_id, due, symbol in _polls(entry, entry.fence)
    ]


def _polls(entry: Entry, fence: Fence) -> list[_Poll]:
    names = dict.fromkeys(draft.quote.symbol for draft in entry.drafts)
    return [(fence.job_id, fence.due, name) for name in names]
