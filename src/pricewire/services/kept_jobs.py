"""What every store of jobs does, whatever their kind; `jobs` and `stream_jobs` keep theirs with it.

Invariant: jobs are added and changed one after the other, each beside all others of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

J = TypeVar("J")

Change = Callable[[J, Sequence[J]], J]
"""Makes of a job, beside all others, what is to be kept; may raise."""


class KeptJobs(Protocol[J]):
    """Keeps jobs of one kind. All of it raises StoreError."""

    async def add(self, job: J, change: Change[J]) -> J:
        """Keep what `change` makes of `job`; one after the other with every `add` and `change`."""
        ...

    async def change(self, job_id: UUID, change: Change[J]) -> J | None:
        """Replace a job by what `change` makes of it; None: there is no such job."""
        ...

    async def delete(self, job_id: UUID) -> bool: ...

    async def get(self, job_id: UUID) -> J | None: ...

    async def all(self) -> list[J]:
        """Return all jobs, the oldest first."""
        ...
