"""SQLite in threads of its own; fulfils `Database`.

Invariants: one writing connection in one thread (`sqlite_writer`), which also makes the
checkpoints; every writing transaction is BEGIN IMMEDIATE with WAL and synchronous=FULL. A
transaction is one hop to the thread: over an async driver each statement would be one, at four
times the cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from pricewire.storage.database import Database, Rank, Session, Snapshot, T, Work, translated
from pricewire.storage.sqlite_writer import SqliteWriter

READERS = 3
# Without recursive triggers REPLACE would delete rows of append-only tables unseen.
_PRAGMAS = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",
)


class SqliteDatabase(Database):
    is_sqlite = True
    insert = staticmethod(sqlite.insert)

    def __init__(self, url: str) -> None:
        sqlite_path(url).parent.mkdir(parents=True, exist_ok=True)
        writing = _engine(url, 1, "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
        self._writer = SqliteWriter(writing)
        self._readers = _engine(url, READERS, "PRAGMA query_only=ON")
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")

        @event.listens_for(writing, "begin")
        def begin_immediate(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def read(self, work: Work[T]) -> T:
        def in_thread() -> T:
            with translated(), self._readers.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._read_threads, in_thread)

    async def write(self, rank: Rank, work: Work[T]) -> T:
        return await self._writer.write(rank, work)

    @asynccontextmanager
    async def shard_session(
        self,
        lock_class: int,  # noqa: ARG002
        shard: int,  # noqa: ARG002
    ) -> AsyncIterator[Session | None]:
        """Give the database itself: its one process has every shard (`ownership`)."""
        yield self

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        session = _Snapshot(self._readers, self._read_threads)
        await session.read(lambda connection: connection.exec_driver_sql("BEGIN"))
        try:
            yield session
        finally:
            await session.aclose()

    async def aclose(self) -> None:
        await self._writer.aclose()
        self._read_threads.shutdown()
        self._readers.dispose()


class _Snapshot:
    """A reading connection of one's own, in a transaction."""

    def __init__(self, engine: Engine, threads: ThreadPoolExecutor) -> None:
        self._connection = engine.connect()
        self._threads = threads

    async def read(self, work: Work[T]) -> T:
        def in_thread() -> T:
            with translated():
                return work(self._connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, in_thread)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._connection.close)


def sqlite_path(url: str) -> Path:
    """Return the file that a SQLite URL names."""
    return Path(make_url(url).database or "")


def _engine(url: str, connections: int, *pragmas: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=3,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver would otherwise begin transactions by itself, and deferred ones.
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, *pragmas):
            connection.execute(pragma)

    return engine
