"""Polling jobs in the database; fulfils `services.jobs.JobStore`.

Invariant: whoever changes a job's row has it locked and holds its epoch, or raises it. A claim
never waits for a locked row; several rows are locked in the order of their ids, as the door does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from pricewire.domain.job import Job, JobConfig, JobStatus, claimed
from pricewire.services.jobs import Claim
from pricewire.services.kept_jobs import Change
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import jobs, polls

POLL = "poll"
"""The kind of a job that is polled; no other is ever claimed here."""
_PLANNING = text("SELECT pg_advisory_xact_lock(5072694101)")
"""One plan after the other; beside the key under which one process migrates."""


class SqlJobs:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: Job, change: Change[Job]) -> Job:
        def work(connection: Connection) -> Job:
            take_turns(connection)
            new = change(job, _read(connection, _ALL))
            connection.execute(insert(jobs).values(_row(new)))
            return new

        return await self._database.write(Rank.OTHER, work)

    async def change(self, job_id: UUID, change: Change[Job]) -> Job | None:
        def work(connection: Connection) -> Job | None:
            take_turns(connection)
            found = _read(connection, _ALL.where(jobs.c.id == job_id).with_for_update())
            if not found:
                return None
            new = change(found[0], _read(connection, _ALL.where(jobs.c.id != job_id)))
            _replace(connection, new, epoch=found[0].epoch)
            return new

        return await self._database.write(Rank.OTHER, work)

    async def delete(self, job_id: UUID) -> bool:
        statement = delete(jobs).where(jobs.c.id == job_id, jobs.c.kind == POLL)
        return await self._database.write(
            Rank.OTHER, lambda connection: connection.execute(statement).rowcount > 0
        )

    async def get(self, job_id: UUID) -> Job | None:
        found = await self._database.read(
            lambda connection: _read(connection, _ALL.where(jobs.c.id == job_id))
        )
        return found[0] if found else None

    async def all(self) -> list[Job]:
        return await self._database.read(lambda connection: _read(connection, _ALL))

    async def next_run(self) -> datetime | None:
        # Whose lease is over runs at once; SQLite's max() of two would be null with a null.
        lease = func.coalesce(jobs.c.leased_until, jobs.c.next_run)
        statement = select(jobs.c.next_run, lease).where(_POLLED)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return min((max(run, free) for run, free in rows), default=None)

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Claim]:
        due = (
            _ALL.where(
                _POLLED,
                jobs.c.next_run <= now,
                or_(jobs.c.leased_until.is_(None), jobs.c.leased_until <= now),
            )
            .order_by(None)
            .order_by(jobs.c.next_run)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )

        def work(connection: Connection) -> list[Claim]:
            return [_claim(connection, job, now, lease) for job in _read(connection, due)]

        return await self._database.write(Rank.OTHER, work)

    async def renew(self, jobs_: Sequence[Job], until: datetime) -> set[UUID]:
        epochs = {job.id: job.epoch for job in jobs_}
        ours = _ALL.where(jobs.c.id.in_(list(epochs))).with_for_update()

        def work(connection: Connection) -> set[UUID]:
            found = {job.id for job in _read(connection, ours) if job.epoch == epochs[job.id]}
            if found:
                connection.execute(
                    update(jobs).where(jobs.c.id.in_(found)).values(leased_until=until)
                )
            return found

        return await self._database.write(Rank.OTHER, work)

    async def finish(self, job: Job) -> bool:
        return await self._database.write(
            Rank.OTHER, lambda connection: _replace(connection, job, epoch=job.epoch)
        )


_ALL: Select[Any] = select(jobs).where(jobs.c.kind == POLL).order_by(jobs.c.id)
_POLLED = and_(jobs.c.kind == POLL, jobs.c.status == JobStatus.ACTIVE)


def take_turns(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(_PLANNING)


def _claim(connection: Connection, job: Job, now: datetime, lease: timedelta) -> Claim:
    taken = claimed(job, now, lease)
    _replace(connection, taken, epoch=job.epoch)
    there = select(polls.c.symbol).where(polls.c.job_id == job.id, polls.c.due == taken.next_due)
    missed = taken.missed - job.missed
    return Claim(taken, frozenset(connection.scalars(there)), missed)


def _replace(connection: Connection, job: Job, *, epoch: int) -> bool:
    """Write a job where its epoch is still `epoch`."""
    statement = update(jobs).where(jobs.c.id == job.id, jobs.c.epoch == epoch).values(_row(job))
    return connection.execute(statement).rowcount > 0


def _read(connection: Connection, statement: Select[Any]) -> list[Job]:
    return [_job(row) for row in connection.execute(statement)]


def _job(row: Row[Any]) -> Job:
    members: dict[str, Any] = row._asdict()
    # A copy of what the configuration says, for the database to choose by.
    del members["kind"]
    config = msgspec.json.decode(members.pop("config"), type=JobConfig)
    return Job(**members | {"config": config, "status": JobStatus(row.status)})


def _row(job: Job) -> dict[str, Any]:
    members = {name: getattr(job, name) for name in Job.__slots__}
    config = asdict(job.config)
    return members | {
        "kind": config.get("kind", POLL),
        "config": msgspec.json.encode(config).decode(),
        "status": job.status.value,
    }
