"""What the relay reads and marks: one shard's outbox rows, publications, position, generation.

The same for each topic that the relay publishes (`event_tables`).

`services.relay` calls it through the ports `Shards` and `ShardStore`. Invariant: everything goes
over the very session that holds the shard's lock, so that who lost the lock can mark nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache

import msgspec
from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    case,
    func,
    literal,
    select,
    tuple_,
    update,
)

from pricewire.domain.event import EventId, Publication, Source, WaitingEvent
from pricewire.services.publishing import Known, Position, ShardState
from pricewire.storage.bulk import delete_by_key, insert_rows
from pricewire.storage.database import Database, Session
from pricewire.storage.event_tables import LIVE, EventTables
from pricewire.storage.tables import store

LOOKUP_CHUNK = 300

_decode_headers = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


class _Statements:
    """What is asked of one topic's tables; made once for each."""

    def __init__(self, tables: EventTables) -> None:
        events, outbox = tables.events, tables.outbox
        same = tables.same_event(events, outbox)
        self.waiting = (
            select(
                outbox.c.id,
                outbox.c.symbol,
                outbox.c.sequence,
                tables.type,
                events.c.raw_response_id,
                events.c.recorded_at,
                events.c.value,
                events.c.headers,
            )
            .join_from(outbox, events, same)
            .where(outbox.c.shard == bindparam("shard"), outbox.c.id > bindparam("above"))
            .order_by(outbox.c.id)
            .limit(bindparam("limit", type_=Integer))
        )
        self.count_up_to = select(func.count()).where(
            outbox.c.shard == bindparam("shard"), outbox.c.id <= bindparam("above")
        )
        self.lookup = (
            select(events.c.symbol, events.c.sequence, events.c.raw_response_id, outbox.c.id)
            .outerjoin_from(events, outbox, same)
            .where(tuple_(events.c.symbol, events.c.sequence).in_(bindparam("ids", expanding=True)))
        )
        shard = update(tables.shards).where(tables.shards.c.shard == bindparam("which"))
        self.keep_position = shard.values(
            topic_id=bindparam("topic_id"), next_offset=bindparam("next_offset")
        )
        self.tell_blocked = shard.values(
            blocked_since=bindparam("blocked_since"), last_error=bindparam("last_error")
        )


_statements = cache(_Statements)


class SqlShards:
    """Fulfils `Shards` for one topic."""

    def __init__(self, database: Database, tables: EventTables = LIVE) -> None:
        self._database = database
        self._tables = tables

    @asynccontextmanager
    async def hold(self, shard: int) -> AsyncIterator[SqlShardStore | None]:
        tables = self._tables
        async with self._database.shard_session(tables.lock_class, shard) as session:
            if session is None:
                yield None
                return
            make_row = self._database.insert(tables.shards).on_conflict_do_nothing()
            await session.write(
                tables.rank, lambda connection: connection.execute(make_row, {"shard": shard})
            )
            yield SqlShardStore(session, shard, tables)


class SqlShardStore:
    """Fulfils `ShardStore` over the session that holds the shard's lock."""

    def __init__(self, session: Session, shard: int, tables: EventTables) -> None:
        self._session = session
        self._shard = shard
        self._tables = tables
        self._statements = _statements(tables)

    async def source(self) -> Source:
        return await self._session.read(read_source)

    async def state(self) -> ShardState:
        shards = self._tables.shards
        statement = select(shards).where(shards.c.shard == self._shard)
        row = await self._session.read(lambda connection: connection.execute(statement).one())
        position = None if row.topic_id is None else Position(row.topic_id, row.next_offset)
        return ShardState(position, row.blocked_since)

    async def waiting(self, limit: int) -> list[WaitingEvent]:
        which = {"shard": self._shard, "above": 0, "limit": limit}
        return await self._session.read(lambda connection: self._waiting(connection, which))

    async def waiting_behind(self, outbox_id: int, limit: int) -> tuple[int, list[WaitingEvent]]:
        which = {"shard": self._shard, "above": outbox_id, "limit": limit}
        return await self._session.read(
            lambda connection: (
                connection.execute(self._statements.count_up_to, which).scalar_one(),
                self._waiting(connection, which),
            )
        )

    async def lookup(self, ids: Sequence[EventId]) -> dict[EventId, Known]:
        return await self._session.read(lambda connection: self._lookup(connection, ids))

    async def mark(self, published: Mapping[int, Publication], position: Position | None) -> None:
        await self._session.write(
            self._tables.rank, lambda connection: self._mark(connection, published, position)
        )

    async def start_generation(self, above: int) -> Source:
        return await self._session.write(
            self._tables.rank, lambda connection: raise_generation(connection, above)
        )

    async def tell_blocked(self, since: datetime | None, error: str | None) -> None:
        values = {"which": self._shard, "blocked_since": since, "last_error": error}
        await self._session.write(
            self._tables.rank,
            lambda connection: connection.execute(self._statements.tell_blocked, values),
        )

    def _waiting(self, connection: Connection, which: dict[str, int]) -> list[WaitingEvent]:
        event_id = self._tables.event_id
        return [
            WaitingEvent(
                row[0], event_id(row[1], row[2]), row[3], row[4], row[5], row[6], _headers(row[7])
            )
            for row in connection.execute(self._statements.waiting, which)
        ]

    def _lookup(self, connection: Connection, ids: Sequence[EventId]) -> dict[EventId, Known]:
        event_id = self._tables.event_id
        known: dict[EventId, Known] = {}
        for chunk in _chunks(self._tables.own(ids)):
            pairs = [(one.symbol, one.sequence) for one in chunk]
            rows = connection.execute(self._statements.lookup, {"ids": pairs})
            known |= {event_id(row[0], row[1]): Known(row[2], row[3]) for row in rows}
        return known

    def _mark(
        self,
        connection: Connection,
        published: Mapping[int, Publication],
        position: Position | None,
    ) -> None:
        tables = self._tables
        if published:
            rows = [_publication_row(publication) for publication in published.values()]
            insert_rows(connection, (tables.publications, rows))
            delete_by_key(connection, tables.outbox.c.id, list(published))
        if position is not None:
            keep = {
                "which": self._shard,
                "topic_id": position.topic_id,
                "next_offset": position.next_offset,
            }
            connection.execute(self._statements.keep_position, keep)


def read_source(connection: Connection) -> Source:
    """Return the store's identity as it is now."""
    row = connection.execute(select(store.c.store_id, store.c.generation)).one()
    return Source(row.store_id, row.generation)


def raise_generation(connection: Connection, above: int) -> Source:
    """Raise the store's generation above its own and `above`; return the new source."""
    floor = literal(above)
    highest = case((store.c.generation > floor, store.c.generation), else_=floor)
    statement = update(store).values(generation=highest + 1)
    row = connection.execute(statement.returning(store.c.store_id, store.c.generation)).one()
    return Source(row.store_id, row.generation)


def _headers(stored: str) -> tuple[tuple[str, str], ...]:
    return _decode_headers(stored) if stored else ()


def _publication_row(publication: Publication) -> dict[str, object]:
    return {
        "symbol": publication.event_id.symbol,
        "sequence": publication.event_id.sequence,
        "generation": publication.generation,
        "topic": publication.topic,
        "partition": publication.partition,
        "offset": publication.offset,
        "published_at": publication.published_at,
    }


def _chunks(ids: Sequence[EventId]) -> Iterable[Sequence[EventId]]:
    return (ids[start : start + LOOKUP_CHUNK] for start in range(0, len(ids), LOOKUP_CHUNK))
