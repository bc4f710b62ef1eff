"""What the parts of one process share: settings, Kafka, the database, and how they are ended.

`bootstrap` opens a room and composes the parts in it. Invariant: what runs in a room is told to
stop and waited for in the opposite order, and what one part dies of is told by `crashed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import murmur2

from pricewire.bootstrap_streams import PROCESSORS
from pricewire.domain.event import Source
from pricewire.errors import StartupError
from pricewire.kafka.client import Connection
from pricewire.kafka.memory import MEMORY_PARTITIONS
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.migrate import migrate
from pricewire.storage.ownership import owned
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.reads import SqlReads
from pricewire.storage.sqlite import SqliteDatabase, sqlite_path


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of the service a process runs; processors by name."""

    api: bool = False
    relay: bool = False
    processors: tuple[str, ...] = ()


ALL_PARTS = Parts(api=True, relay=True, processors=tuple(PROCESSORS))


@dataclass(frozen=True, slots=True)
class Room:
    """What the parts of one process share; what runs in it is stopped in the opposite order.

    Args:
        stack: closed when the process ends.
        crashed: ends with what a part dies of.
    """

    settings: Settings
    connection: Connection
    database: Database
    reads: SqlReads
    partitions: int
    stack: AsyncExitStack
    crashed: asyncio.Future[None]

    def shard_of(self, symbol: str) -> int:
        return int(murmur2(symbol.encode(), self.partitions))

    def run(self, work: Coroutine[Any, Any, None], tell: Callable[[], None]) -> None:
        """Run a part; at the end it is told to stop, and waited for."""
        task = watch(asyncio.create_task(work), self.crashed)
        self.stack.push_async_callback(_stop, task, tell)


async def opened_room(
    stack: AsyncExitStack, settings: Settings, connection: Connection, parts: Parts
) -> Room:
    database = await stack.enter_async_context(opened_database(settings, parts))
    reads = SqlReads(database)
    if connection.in_memory:
        partitions = MEMORY_PARTITIONS
        await reads.adopt_partitions(partitions, "the in-memory cluster always has")
    else:
        partitions = settings.kafka_topic_partitions
        await reads.adopt_partitions(partitions)
    crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return Room(settings, connection, database, reads, partitions, stack, crashed)


@asynccontextmanager
async def opened_database(settings: Settings, parts: Parts) -> AsyncIterator[Database]:
    """Give the database, migrated.

    Raises:
        StartupError: it is SQLite and another process has it, or these parts need PostgreSQL.
    """
    url = settings.database
    async with AsyncExitStack() as stack:
        if settings.uses_sqlite:
            if parts != ALL_PARTS:
                raise StartupError(
                    "SQLite serves one `pricewire up`; parts as processes of their own need "
                    "PostgreSQL: DATABASE_URL=postgresql://user:password@host/name"
                )
            stack.enter_context(owned(sqlite_path(url)))
        database = SqliteDatabase(url) if settings.uses_sqlite else PostgresDatabase(url)
        stack.push_async_callback(database.aclose)
        await migrate(database)
        yield database


async def fork_store(settings: Settings) -> Source:
    """Start a new generation of the store by hand; return the new source."""
    async with opened_database(settings, ALL_PARTS) as database:
        return await SqlReads(database).fork()


def watch(task: asyncio.Task[None], crashed: asyncio.Future[None]) -> asyncio.Task[None]:
    """Let `crashed` end with what `task` dies of."""

    def ended(done: asyncio.Task[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not crashed.done():
            crashed.set_exception(error)

    task.add_done_callback(ended)
    return task


async def _stop(task: asyncio.Task[None], tell: Callable[[], None]) -> None:
    """Tell a part to stop and let it finish; its crash was told already."""
    tell()
    await asyncio.wait([task])
