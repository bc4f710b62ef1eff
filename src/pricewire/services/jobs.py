"""Makes, changes and lists polling jobs, each planned against its provider's budget first.

The API calls it. Invariant: a job is planned and kept in one transaction, one after the other, so
that two that are made at once never both count on the same calls; and once a change, a pause or a
deletion is answered, no poll that began before it records a price any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7

from pricewire.domain.budget import Budget
from pricewire.domain.job import MAX_INTERVAL, Job, JobConfig, JobStatus, paused, started
from pricewire.domain.plan import Load, Plan, calls_of, plan, told
from pricewire.errors import InvalidParameter, NotFound, PlanExceeded, TooManyJobs
from pricewire.services.kept_jobs import KeptJobs

MAX_JOBS = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that one process polls now.

    Args:
        recorded: symbols that its due time has a price of already.
        missed: due times that came and went since it was polled last.
    """

    job: Job
    recorded: frozenset[str]
    missed: int = 0


class JobStore(KeptJobs[Job], Protocol):
    """Keeps polling jobs. All of it raises StoreError."""

    async def next_run(self) -> datetime | None:
        """Return when the next poll is to be tried, as far as nobody polls it."""
        ...

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Claim]:
        """Take due jobs, at most `limit`, each with an epoch that only this claim has."""
        ...

    async def renew(self, jobs: Sequence[Job], until: datetime) -> set[UUID]:
        """Lengthen leases; return the ids of those that still are ours."""
        ...

    async def finish(self, job: Job) -> bool:
        """Keep a claimed job as it is after its poll; False: it is not ours any more."""
        ...


@dataclass(frozen=True, slots=True)
class Plannable:
    """What planning has to know of a provider.

    Args:
        batch: how many symbols one call may name.
        credit_per_symbol: a call counts as many times as it names symbols.
    """

    name: str
    budget: Budget
    batch: int
    credit_per_symbol: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, of which provider, and the same in one sentence."""

    plan: Plan
    provider: Plannable
    detail: str


Wish = Mapping[str, Any]
"""What is to be changed of a job: new values of members of `JobConfig`."""


class Jobs:
    """See the module.

    Args:
        providers: by name.
        default: the provider of jobs that name none.
        changed: called after every change, so that whoever polls looks again.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        providers: Mapping[str, Plannable],
        default: str,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._providers = providers
        self._default = default
        self._clock = clock
        self._changed = changed

    async def create(self, config: JobConfig) -> Job:
        """Plan and keep a job; its first poll is due now.

        Raises:
            InvalidRequest: there is no such provider.
            PlanExceeded: its budget cannot hold it; has the plan.
            TooManyJobs, StoreError.
        """
        self._provider(config)
        now = self._clock()
        job = Job(
            id=uuid7(),
            config=config,
            status=JobStatus.ACTIVE,
            epoch=0,
            next_due=now,
            next_run=now,
            created_at=now,
        )
        return self._told(await self._store.add(job, self._begun))

    async def change(self, job_id: UUID, wish: Wish) -> Job:
        """Change a job and begin it anew; a paused one stays paused.

        Raises:
            NotFound, and as `create` does.
        """

        def changed(job: Job, others: Sequence[Job]) -> Job:
            new = replace(job, config=replace(job.config, **wish))
            self._provider(new.config)
            return self._begun(new, others) if job.status is JobStatus.ACTIVE else paused(new)

        return self._found(await self._store.change(job_id, changed), job_id)

    async def pause(self, job_id: UUID) -> Job:
        """Poll a job no more until it is resumed.

        Raises:
            NotFound, StoreError.
        """
        found = await self._store.change(job_id, lambda job, _: paused(job))
        return self._found(found, job_id)

    async def resume(self, job_id: UUID) -> Job:
        """Begin a paused job anew; one that is active goes on as it does.

        Raises:
            NotFound, and as `create` does.
        """

        def resumed(job: Job, others: Sequence[Job]) -> Job:
            return job if job.status is JobStatus.ACTIVE else self._begun(job, others)

        return self._found(await self._store.change(job_id, resumed), job_id)

    async def delete(self, job_id: UUID) -> None:
        """Forget a job; its prices stay.

        Raises:
            NotFound, StoreError.
        """
        if not await self._store.delete(job_id):
            raise _no_job(job_id)

    async def get(self, job_id: UUID) -> Job:
        """Return a job.

        Raises:
            NotFound, StoreError.
        """
        job = await self._store.get(job_id)
        if job is None:
            raise _no_job(job_id)
        return job

    async def all(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        return await self._store.all()

    async def plan(self, config: JobConfig) -> Planned:
        """Plan a job beside those that there are; keep nothing.

        Raises:
            InvalidRequest: there is no such provider.
            StoreError: the others cannot be read.
        """
        self._provider(config)
        return self._planned(config, await self._store.all())

    def _begun(self, job: Job, others: Sequence[Job]) -> Job:
        """Return the job as it begins now, its interval stretched where it may be.

        Raises:
            PlanExceeded, TooManyJobs.
        """
        if len(others) >= MAX_JOBS:
            raise TooManyJobs(f"there are {len(others)} jobs; delete one, {MAX_JOBS} at most")
        planned = self._planned(job.config, others)
        config = job.config
        if not planned.plan.lasts:
            shortest = planned.plan.shortest
            if not config.stretch or shortest is None or shortest > MAX_INTERVAL:
                raise PlanExceeded(planned.detail, planned)
            config = replace(config, interval=shortest)
        return started(replace(job, config=config), self._clock())

    def _planned(self, config: JobConfig, others: Sequence[Job]) -> Planned:
        provider = self._provider(config)
        loads = [
            _load(other.config, provider)
            for other in others
            if other.status is JobStatus.ACTIVE and self._name(other.config) == provider.name
        ]
        made = plan(provider.budget, _load(config, provider), loads)
        return Planned(made, provider, told(made, len(config.symbols)))

    def _name(self, config: JobConfig) -> str:
        return config.provider or self._default

    def _provider(self, config: JobConfig) -> Plannable:
        name = self._name(config)
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise InvalidParameter(f"there is no provider {name[:64]!r} here; there is {known}")
        return provider

    def _found(self, job: Job | None, job_id: UUID) -> Job:
        if job is None:
            raise _no_job(job_id)
        return self._told(job)

    def _told(self, job: Job) -> Job:
        self._changed()
        return job


def _load(config: JobConfig, provider: Plannable) -> Load:
    calls = calls_of(
        len(config.symbols), provider.batch, credit_per_symbol=provider.credit_per_symbol
    )
    return Load(calls, config.interval)


def _no_job(job_id: UUID) -> NotFound:
    return NotFound(f"there is no job {job_id}")
