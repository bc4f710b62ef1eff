"""PostgreSQL over asyncpg; fulfils `Database`.

Invariants: no session stays in a transaction while its process is frozen; a shard's lock is a
session's advisory lock, so that a lost lock is a lost connection, and such a connection never goes
back to a pool. Needs a direct connection: a pooler in transaction mode would share the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pricewire.storage.database import Database, Rank, Session, Snapshot, T, Work, translated

LOCK_TIMEOUT_MS = 2_000
FROZEN_WRITER_MS = 1_500
"""How long PostgreSQL lets a writer sit in its transaction. Below the lock time-out, so that those
who wait for a frozen process get its locks instead of an error (docs/decisions/0003)."""
FROZEN_RELAY_MS = 5_000
FROZEN_OWNER_MS = 60_000
"""How long PostgreSQL lets the owner of a shard be silent. A process that is stopped, and not its
machine, keeps its connections for ever; while it runs it asks every second or so."""

_LOCK = text("SELECT pg_try_advisory_lock(:class, :shard)")


class PostgresDatabase(Database):
    is_sqlite = False
    insert = staticmethod(postgresql.insert)

    def __init__(self, url: str, *, command_seconds: float | None = 10) -> None:
        sessions = {"isolation_level": "AUTOCOMMIT", "pool_size": 10}
        self._sessions = _engine(url, FROZEN_RELAY_MS, command_seconds, **sessions)
        self._writers = _engine(url, FROZEN_WRITER_MS, command_seconds, pool_size=2)

    async def read(self, work: Work[T]) -> T:
        with translated():
            async with self._sessions.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, rank: Rank, work: Work[T]) -> T:  # noqa: ARG002
        with translated():
            async with self._writers.begin() as connection:
                return await connection.run_sync(work)

    @asynccontextmanager
    async def shard_session(self, lock_class: int, shard: int) -> AsyncIterator[Session | None]:
        with translated():
            connection = await self._sessions.connect()
        try:
            with translated():
                locked = await connection.scalar(_LOCK, {"class": lock_class, "shard": shard})
                await connection.exec_driver_sql(f"SET idle_session_timeout = {FROZEN_OWNER_MS}")
            yield _OwnSession(connection) if locked else None
        finally:
            # Closed, not given back: only that is sure to free the lock.
            with translated():
                await connection.invalidate()
                await connection.close()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        with translated():
            connection = await self._sessions.connect()
        try:
            with translated():
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                await connection.exec_driver_sql(
                    "SET LOCAL idle_in_transaction_session_timeout = 0"
                )
            yield _OwnSession(connection)
        finally:
            with translated():
                await connection.close()

    async def aclose(self) -> None:
        await self._sessions.dispose()
        await self._writers.dispose()


class _OwnSession:
    """A connection of one's own: the one that holds a shard's lock, in autocommit; a snapshot's."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def read(self, work: Work[T]) -> T:
        async with self._lost_on_error():
            return await self._connection.run_sync(work)

    async def write(self, rank: Rank, work: Work[T]) -> T:  # noqa: ARG002
        async with self._lost_on_error():
            await self._connection.exec_driver_sql("BEGIN")
            done = await self._connection.run_sync(work)
            await self._connection.exec_driver_sql("COMMIT")
            return done

    @asynccontextmanager
    async def _lost_on_error(self) -> AsyncIterator[None]:
        """Give the session up after any error: its lock and its transaction end with it.

        An invalidated connection is never opened again here: SQLAlchemy refuses until its
        transaction, begun with the lock, is rolled back, which nobody does.
        """
        try:
            with translated():
                yield
        except BaseException:
            await self._connection.invalidate()
            raise


def _engine(
    url: str, idle_in_transaction_ms: int, command_seconds: float | None, **options: Any
) -> AsyncEngine:
    server_settings = {
        "application_name": "pricewire",
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(idle_in_transaction_ms),
        # A machine that vanished must not keep its locks for the kernel's two hours.
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "jit": "off",
    }
    arguments = {
        "timeout": 3,
        "command_timeout": command_seconds,
        "server_settings": server_settings,
    }
    return create_async_engine(
        url, max_overflow=40, pool_timeout=3, connect_args=arguments, **options
    )
