"""Processors' checkpoints: a partition's owner, position, states, results; fulfils `Checkpoints`.

`streams` calls it through its port. Invariant: states, results and position of a partition change
together, in one transaction, and only for the owner of the present epoch (design promise 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, select, update

from pricewire.errors import OwnerChanged, TopicMismatch
from pricewire.services.processing import (
    Checkpoint,
    Claim,
    Counters,
    Drop,
    PartitionStart,
    Row,
    RowKey,
    Wanted,
)
from pricewire.storage.bulk import select_by_keys, upsert_rows
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import RESULTS, drops, processor_states, processors

log = structlog.get_logger()


def _of_partition(table: Table) -> ColumnElement[bool]:
    return (table.c.processor == bindparam("which")) & (table.c.partition == bindparam("number"))


_MINE, _STATES = _of_partition(processors), _of_partition(processor_states)
_FIND = select(processors).where(_MINE).with_for_update()
_TAKE_OVER = update(processors).where(_MINE)
_MOVE = (
    update(processors)
    .where(_MINE, processors.c.epoch == bindparam("mine"))
    .values(next_offset=bindparam("next"), logged_at=bindparam("at"), counters=bindparam("counted"))
)

_FORGET_DROP = delete(drops).where(
    drops.c.processor == bindparam("which"),
    drops.c.source == bindparam("of"),
    drops.c.symbol == bindparam("name"),
    drops.c.sequence == bindparam("number"),
)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a processor is in a partition; for lag displays."""

    processor: str
    partition: int
    generation: int
    topic_id: str
    next_offset: int | None
    logged_at: int | None
    counters: Counters


@dataclass(frozen=True, slots=True)
class StoredState:
    partition: int
    state: bytes


class SqlCheckpoints:
    """Fulfils `Checkpoints` on PostgreSQL and SQLite.

    Args:
        partitions: how many the topic has, for those who claim.
    """

    def __init__(self, database: Database, partitions: int | None = None) -> None:
        self._database = database
        self._partitions = partitions

    async def claim(self, claim: Claim) -> PartitionStart:
        make_row = self._database.insert(processors).on_conflict_do_nothing()

        def work(connection: Connection) -> PartitionStart:
            _check_partitions(connection, claim, self._partitions)
            connection.execute(make_row, _new_row(claim) | {"partitions": self._partitions})
            return _claim(connection, claim)

        return await self._database.write(Rank.OTHER, work)

    async def write(self, processor: str, checkpoint: Checkpoint) -> None:
        await self._database.write(
            Rank.OTHER, lambda connection: _write(connection, processor, checkpoint)
        )

    async def drops(self, processor: str) -> list[Drop]:
        statement = select(drops).where(drops.c.processor == processor)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [Drop(row.source, row.symbol, row.sequence) for row in rows]

    async def load(
        self, processor: str, table: str, wanted: Sequence[Wanted]
    ) -> Sequence[Mapping[RowKey, Row]]:
        return await self._database.read(
            lambda connection: _load(connection, processor, RESULTS[table], wanted)
        )

    async def positions(self) -> list[Position]:
        """Return where every processor is."""
        statement = select(processors).order_by(processors.c.processor, processors.c.partition)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [
            Position(
                row.processor,
                row.partition,
                row.generation,
                row.topic_id,
                row.next_offset,
                row.logged_at,
                _counters(row.counters),
            )
            for row in rows
        ]

    async def states(self, processor: str, symbol: str) -> list[StoredState]:
        """Return what the last checkpoint has of a symbol, partition by partition."""
        statement = select(processor_states).where(
            processor_states.c.processor == processor, processor_states.c.symbol == symbol
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [StoredState(row.partition, row.state) for row in rows]

    async def symbols(self, processor: str) -> set[str]:
        """Return the symbols that the last checkpoints know."""
        statement = select(processor_states.c.symbol).where(
            processor_states.c.processor == processor
        )
        found = await self._database.read(lambda connection: connection.scalars(statement).all())
        return set(found)


def _new_row(claim: Claim) -> dict[str, object]:
    return {
        "processor": claim.processor,
        "partition": claim.partition,
        "epoch": 0,
        "generation": 1,
        "version": claim.version,
        "topic_id": claim.topic_id,
        "next_offset": None,
        "counters": "{}",
    }


def _check_partitions(connection: Connection, claim: Claim, partitions: int | None) -> None:
    """Refuse what would split symbols from their states.

    Raises:
        TopicMismatch: the states are kept for another number of partitions.
    """
    statement = select(processors.c.partitions).where(
        processors.c.processor == claim.processor,
        processors.c.topic_id == claim.topic_id,
        processors.c.version == claim.version,
        processors.c.partitions != partitions,
    )
    kept_for = connection.scalar(statement.limit(1))
    if partitions is not None and kept_for is not None:
        raise TopicMismatch(
            f"{claim.processor} keeps its state for {kept_for} partitions, and the topic has "
            f"{partitions}: run `pricewire topics repartition --partitions {partitions}`"
        )


def _claim(connection: Connection, claim: Claim) -> PartitionStart:
    key = {"which": claim.processor, "number": claim.partition}
    row = connection.execute(_FIND, key).one()
    if (row.version, row.topic_id) != (claim.version, claim.topic_id):
        return _begin_anew(connection, claim, row.epoch + 1, row.generation + 1)
    connection.execute(_TAKE_OVER.values(epoch=row.epoch + 1), key)
    found = connection.execute(select(processor_states).where(_STATES), key)
    states = {state.symbol: state.state for state in found}
    return PartitionStart(
        row.epoch + 1, row.generation, row.next_offset, _counters(row.counters), states
    )


def _begin_anew(
    connection: Connection, claim: Claim, epoch: int, generation: int
) -> PartitionStart:
    """Give up what was computed from another topic, or by another version of the step."""
    key = {"which": claim.processor, "number": claim.partition}
    connection.execute(delete(processor_states).where(_STATES), key)
    for table in RESULTS.values():
        connection.execute(delete(table).where(_of_partition(table)), key)
    values = _new_row(claim) | {"epoch": epoch, "generation": generation, "logged_at": None}
    connection.execute(_TAKE_OVER.values(values), key)
    log.warning(
        "processor.began_anew",
        processor=claim.processor,
        partition=claim.partition,
        generation=generation,
        meaning="its state was of another topic or of another version; begins at the first record",
    )
    return PartitionStart(epoch, generation, None, Counters(), {})


def _write(connection: Connection, processor: str, checkpoint: Checkpoint) -> None:
    values = {
        "which": processor,
        "number": checkpoint.partition,
        "mine": checkpoint.epoch,
        "next": checkpoint.next_offset,
        "at": checkpoint.logged_at,
        "counted": msgspec.json.encode(checkpoint.counters).decode(),
    }
    if connection.execute(_MOVE, values).rowcount != 1:
        raise _changed_owner(processor, checkpoint.partition)
    if checkpoint.states:
        upsert_rows(connection, processor_states, _state_rows(processor, checkpoint))
    if checkpoint.settled:
        connection.execute(
            _FORGET_DROP,
            [
                {"which": processor, "of": one.source, "name": one.symbol, "number": one.sequence}
                for one in checkpoint.settled
            ],
        )
    if checkpoint.table is not None and checkpoint.rows:
        whose = {"processor": processor, "partition": checkpoint.partition}
        rows = [{**row, **whose} for row in checkpoint.rows]
        upsert_rows(connection, RESULTS[checkpoint.table], rows)


def _load(
    connection: Connection, processor: str, table: Table, wanted: Sequence[Wanted]
) -> list[dict[RowKey, Row]]:
    found: dict[int, dict[RowKey, Row]] = {one.partition: {} for one in wanted}
    for row in select_by_keys(connection, table, _keys(processor, wanted)):
        columns = dict(row)
        partition = columns.pop("partition")
        del columns["processor"]
        found[partition][columns["symbol"], columns["interval"], columns["start"]] = columns
    _check_owner(connection, processor, wanted)
    return [found[one.partition] for one in wanted]


def _keys(processor: str, wanted: Sequence[Wanted]) -> list[tuple[object, ...]]:
    return [(*key, processor, one.partition) for one in wanted for key in one.keys]


def _check_owner(connection: Connection, processor: str, wanted: Sequence[Wanted]) -> None:
    """Refuse rows that another owner may have changed.

    Asked after they were read: an epoch only rises, so what is ours now was ours then.
    """
    statement = select(processors.c.partition, processors.c.epoch).where(
        processors.c.processor == processor
    )
    epochs = {row.partition: row.epoch for row in connection.execute(statement)}
    for one in wanted:
        if epochs.get(one.partition) != one.epoch:
            raise _changed_owner(processor, one.partition)


def _changed_owner(processor: str, partition: int) -> OwnerChanged:
    return OwnerChanged(f"partition {partition} of {processor} has another owner by now")


def _state_rows(processor: str, checkpoint: Checkpoint) -> list[Mapping[str, object]]:
    # In one order, so that two owners of a moment never wait for each other's rows.
    return [
        {
            "processor": processor,
            "partition": checkpoint.partition,
            "symbol": symbol,
            "state": checkpoint.states[symbol],
        }
        for symbol in sorted(checkpoint.states)
    ]


def _counters(stored: str) -> Counters:
    return msgspec.json.decode(stored, type=Counters)
