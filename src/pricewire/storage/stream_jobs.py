"""Streaming jobs in the database; fulfils `services.kept_jobs.KeptJobs`.

They are rows of the table of jobs, of kind `stream`; `next_due` is since when one is wanted, and
what only polling needs stands still in them.
Invariant: no statement here touches a polling job, and none of `storage.jobs` a streaming one.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Select, delete, insert, select, update

from pricewire.domain.job import JobStatus
from pricewire.domain.stream_job import StreamConfig, StreamJob
from pricewire.services.kept_jobs import Change
from pricewire.storage.database import Database, Rank
from pricewire.storage.jobs import take_turns
from pricewire.storage.tables import jobs

STREAM = "stream"

_ALL: Select[Any] = (
    select(jobs.c.id, jobs.c.config, jobs.c.status, jobs.c.created_at, jobs.c.next_due)
    .where(jobs.c.kind == STREAM)
    .order_by(jobs.c.id)
)
_decode = msgspec.json.Decoder(StreamConfig).decode


class SqlStreamJobs:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: StreamJob, change: Change[StreamJob]) -> StreamJob:
        def work(connection: Connection) -> StreamJob:
            take_turns(connection)
            new = change(job, _read(connection, _ALL))
            connection.execute(insert(jobs).values(_row(new)))
            return new

        return await self._database.write(Rank.OTHER, work)

    async def change(self, job_id: UUID, change: Change[StreamJob]) -> StreamJob | None:
        def work(connection: Connection) -> StreamJob | None:
            take_turns(connection)
            found = _read(connection, _ALL.where(jobs.c.id == job_id).with_for_update())
            if not found:
                return None
            new = change(found[0], _read(connection, _ALL.where(jobs.c.id != job_id)))
            changed = {
                "config": _encoded(new.config),
                "status": new.status.value,
                "next_due": new.since,
            }
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(changed))
            return new

        return await self._database.write(Rank.OTHER, work)

    async def delete(self, job_id: UUID) -> bool:
        statement = delete(jobs).where(jobs.c.id == job_id, jobs.c.kind == STREAM)
        return await self._database.write(
            Rank.OTHER, lambda connection: connection.execute(statement).rowcount > 0
        )

    async def get(self, job_id: UUID) -> StreamJob | None:
        found = await self._database.read(
            lambda connection: _read(connection, _ALL.where(jobs.c.id == job_id))
        )
        return found[0] if found else None

    async def all(self) -> list[StreamJob]:
        return await self._database.read(lambda connection: _read(connection, _ALL))


def _read(connection: Connection, statement: Select[Any]) -> list[StreamJob]:
    return [
        StreamJob(
            id=row.id,
            config=_decode(row.config),
            status=JobStatus(row.status),
            created_at=row.created_at,
            since=row.next_due,
        )
        for row in connection.execute(statement)
    ]


def _encoded(config: StreamConfig) -> str:
    return msgspec.json.encode(asdict(config)).decode()


def _row(job: StreamJob) -> dict[str, Any]:
    counters = dict.fromkeys(("epoch", "tries", "failures", "made", "failed", "missed"), 0)
    return counters | {
        "id": job.id,
        "kind": STREAM,
        "config": _encoded(job.config),
        "status": job.status.value,
        "next_due": job.since,
        "next_run": job.created_at,
        "created_at": job.created_at,
    }
