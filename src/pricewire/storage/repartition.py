"""Another number of partitions: whose rows belong where, changed in one transaction.

`bootstrap_repartition` calls it, once everything that was published is counted. Invariants: it
happens under the locks of all shards, over the very session that holds them, and with every symbol
locked, so that nobody publishes or records meanwhile; afterwards former owners of partitions are
fenced by their epochs, and former doors by the number that the store has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)

from pricewire.errors import StartupError
from pricewire.services.processing import Counters
from pricewire.storage.bulk import insert_rows
from pricewire.storage.database import Database, Rank, Session
from pricewire.storage.event_tables import ALL_EVENT_TABLES, LIVE
from pricewire.storage.tables import RESULTS, processor_states, processors, store

CHUNK = 5_000
_LOCK = text("SELECT pg_try_advisory_lock(:class, :shard)")


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many partitions things are kept.

    Args:
        store: None in a store that was never used.
        processors: by name; those that never ran are not there.
        waiting: rows in the outboxes.
    """

    store: int | None
    processors: Mapping[str, int]
    waiting: int


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """How many rows were given to another partition."""

    outbox: int
    states: int


class SqlRepartition:
    """See the module.

    Args:
        partition_of: of a symbol, among so many partitions.
        missing_in: how many events a symbol's state waits for.
        moved: makes of a state, given with its processor and that one's version, what it is in
            another partition.
    """

    def __init__(
        self,
        database: Database,
        *,
        partition_of: Callable[[str, int], int],
        missing_in: Callable[[bytes], int],
        moved: Callable[[str, str, bytes], bytes],
    ) -> None:
        self._database = database
        self._partition_of = partition_of
        self._missing_in = missing_in
        self._moved = moved

    async def kept(self) -> Kept:
        return await self._database.read(_kept)

    @asynccontextmanager
    async def alone(self, shards: int) -> AsyncIterator[Session]:
        """Hold the locks of so many shards while inside.

        Raises:
            StartupError: another process relays one of them.
        """
        async with self._database.shard_session(LIVE.lock_class, 0) as session:
            if session is None:
                raise StartupError(_relayed(0))
            if not self._database.is_sqlite:
                await session.read(lambda connection: _take(connection, shards))
            yield session

    async def rekey(self, session: Session, partitions: int) -> Rekeyed:
        """Give every row to the partition of its symbol; the session is that of `alone`."""
        return await session.write(
            Rank.OTHER, lambda connection: self._rekey(connection, partitions)
        )

    async def rekey_outbox(self, session: Session, partitions: int) -> None:
        """Give the waiting events alone to their partitions; states are left as they are."""

        def work(connection: Connection) -> None:
            self._rekey_store(connection, partitions)

        await session.write(Rank.OTHER, work)

    def _rekey_store(self, connection: Connection, partitions: int) -> int:
        if connection.dialect.name == "postgresql":
            # Against the statement that begins every recording (storage.recording).
            connection.execute(text("LOCK TABLE symbols, history_symbols IN EXCLUSIVE MODE"))
        connection.execute(update(store).values(partitions=partitions))
        return sum(
            self._rekey_outbox(connection, tables.outbox, partitions) for tables in ALL_EVENT_TABLES
        )

    def _rekey(self, connection: Connection, partitions: int) -> Rekeyed:
        moved = self._rekey_store(connection, partitions)
        states = sum(
            self._rekey_states(connection, name, before, partitions)
            for name, before in _kept(connection).processors.items()
            if before != partitions
        )
        return Rekeyed(moved, states)

    def _rekey_outbox(self, connection: Connection, outbox: Table, partitions: int) -> int:
        names = connection.scalars(select(outbox.c.symbol).distinct())
        groups = self._grouped(names, partitions)
        moved = 0
        for number, chunk in groups:
            wrong = (outbox.c.symbol.in_(chunk)) & (outbox.c.shard != number)
            moved += connection.execute(update(outbox).where(wrong).values(shard=number)).rowcount
        return moved

    def _rekey_states(
        self, connection: Connection, processor: str, before: int, partitions: int
    ) -> int:
        mine = processor_states.c.processor == processor
        self._drop_strays(connection, processor, before)
        names = connection.scalars(select(processor_states.c.symbol).where(mine))
        moved = 0
        for number, chunk in self._grouped(names, partitions):
            wrong = mine & processor_states.c.symbol.in_(chunk)
            wrong &= processor_states.c.partition != number
            self._tell_states(connection, processor, wrong)
            statement = update(processor_states).where(wrong).values(partition=number)
            moved += connection.execute(statement).rowcount
        for table in RESULTS.values():
            self._rekey_results(connection, table, processor, partitions)
        self._rekey_owners(connection, processor, partitions)
        return moved

    def _tell_states(
        self, connection: Connection, processor: str, which: ColumnElement[bool]
    ) -> None:
        """Write states as they are in another partition."""
        version = connection.scalar(
            select(processors.c.version).where(processors.c.processor == processor).limit(1)
        )
        columns = processor_states.c.symbol, processor_states.c.state
        changed = [
            {"whose": symbol, "new": moved}
            for symbol, state in connection.execute(select(*columns).where(which)).all()
            if (moved := self._moved(processor, version or "", state)) != state
        ]
        if changed:
            mine = processor_states.c.processor == processor
            mine &= processor_states.c.symbol == bindparam("whose")
            statement = update(processor_states).where(mine).values(state=bindparam("new"))
            connection.execute(statement, changed)

    def _rekey_results(
        self, connection: Connection, table: Table, processor: str, partitions: int
    ) -> None:
        mine = table.c.processor == processor
        # Offsets are of one partition: what comes in the new one is later than all of the old.
        earlier = {name: -1 for name in table.c.keys() if name.endswith("_offset")}  # noqa: SIM118
        names = connection.scalars(select(table.c.symbol).where(mine).distinct())
        for number, chunk in self._grouped(names, partitions):
            wrong = mine & table.c.symbol.in_(chunk) & (table.c.partition != number)
            connection.execute(update(table).where(wrong).values(partition=number, **earlier))

    def _drop_strays(self, connection: Connection, processor: str, before: int) -> None:
        """Where another producer put a symbol into a second partition, keep that of its key."""
        rows = connection.execute(
            select(processor_states.c.symbol, processor_states.c.partition).where(
                processor_states.c.processor == processor
            )
        )
        places: dict[str, list[int]] = defaultdict(list)
        for symbol, partition in rows:
            places[symbol].append(partition)
        for symbol, found in places.items():
            home = self._partition_of(symbol, before)
            keep = home if home in found else min(found)
            for stray in set(found) - {keep}:
                for table in (processor_states, *RESULTS.values()):
                    connection.execute(
                        delete(table).where(
                            table.c.processor == processor,
                            table.c.symbol == symbol,
                            table.c.partition == stray,
                        )
                    )

    def _rekey_owners(self, connection: Connection, processor: str, partitions: int) -> None:
        """Fence every owner; new partitions begin at their first record."""
        mine = processors.c.processor == processor
        rows = connection.execute(select(processors).where(mine)).all()
        missing = self._missing(connection, processor)
        connection.execute(delete(processors).where(mine))
        known = {row.partition: row for row in rows}
        first = rows[0]
        generation = max(row.generation for row in rows)
        fresh = [
            {
                "processor": processor,
                "partition": number,
                "epoch": known[number].epoch + 1 if number in known else 1,
                "generation": generation,
                "version": first.version,
                "topic_id": first.topic_id,
                "next_offset": known[number].next_offset if number in known else 0,
                "logged_at": known[number].logged_at if number in known else None,
                "counters": _counted(
                    known[number].counters if number in known else "{}", missing[number]
                ),
                "partitions": partitions,
            }
            for number in range(partitions)
        ]
        insert_rows(connection, (processors, fresh))

    def _missing(self, connection: Connection, processor: str) -> Mapping[int, int]:
        """Return how many events each partition waits for, now that symbols have moved."""
        missing: dict[int, int] = defaultdict(int)
        columns = processor_states.c.partition, processor_states.c.state
        for partition, state in connection.execute(
            select(*columns).where(processor_states.c.processor == processor)
        ):
            missing[partition] += self._missing_in(state)
        return missing

    def _grouped(self, names: Iterable[str], partitions: int) -> list[tuple[int, Sequence[str]]]:
        """Group symbols by their partition, in pieces that one statement can take."""
        groups: dict[int, list[str]] = defaultdict(list)
        for name in names:
            groups[self._partition_of(name, partitions)].append(name)
        return [
            (number, group[start : start + CHUNK])
            for number, group in groups.items()
            for start in range(0, len(group), CHUNK)
        ]


def _kept(connection: Connection) -> Kept:
    found = connection.execute(select(processors.c.processor, processors.c.partitions).distinct())
    rows = [row for row in found if row.partitions is not None]
    return Kept(
        connection.scalar(select(store.c.partitions)),
        {
            row.processor: min(one.partitions for one in rows if one.processor == row.processor)
            for row in rows
        },
        sum(
            connection.scalar(select(func.count()).select_from(tables.outbox)) or 0
            for tables in ALL_EVENT_TABLES
        ),
    )


def _take(connection: Connection, shards: int) -> None:
    """Lock the shards of all topics; to lock one of one's own again does no harm."""
    for tables in ALL_EVENT_TABLES:
        for shard in range(shards):
            if not connection.scalar(_LOCK, {"class": tables.lock_class, "shard": shard}):
                raise StartupError(_relayed(shard))


def _relayed(shard: int) -> str:
    return f"another process relays shard {shard}: stop every `pricewire relay` and `pricewire up`"


def _counted(counters: str, missing: int) -> str:
    counted = msgspec.json.decode(counters, type=Counters)
    counted.missing = missing
    return msgspec.json.encode(counted).decode()
