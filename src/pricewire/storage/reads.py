"""Reads for the API: receipts, raw responses and frames, the outbox's depth, the store's identity.

Invariant: reads take no locks and never wait for the writing connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select, update

from pricewire.domain.event import EventId, EventState, Publication, Receipt, Source
from pricewire.domain.quote import RawResponse
from pricewire.errors import StartupError
from pricewire.services.averages import StoredPrice
from pricewire.services.receipts import StoredReceipt
from pricewire.storage.database import Database, Rank
from pricewire.storage.event_tables import ALL_EVENT_TABLES, LIVE, EventTables, tables_of
from pricewire.storage.frames import SqlFrames
from pricewire.storage.outbox import raise_generation, read_source
from pricewire.storage.tables import prices, processors, raw_responses, store

MAX_PRICES = 100_000


# States of an in-memory topic are given up with it: no other topic has its id.
_STATES_FOR = select(func.count()).where(
    processors.c.partitions == bindparam("before"),
    processors.c.topic_id.not_like("in-memory-%"),
)


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How many events wait, and since when the oldest does."""

    waiting: int
    oldest: datetime | None


class SqlReads:
    """Fulfils `services.receipts.ReceiptStore` and answers the health checks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipt(self, event_id: EventId) -> StoredReceipt | None:
        tables = tables_of(event_id)
        events, publications, shards = tables.events, tables.publications, tables.shards
        statement = (
            select(
                events.c.raw_response_id,
                events.c.recorded_at,
                tables.type,
                publications,
                shards.c.blocked_since,
                shards.c.last_error,
            )
            .outerjoin_from(events, publications, tables.same_event(events, publications))
            .outerjoin(tables.outbox, tables.same_event(events, tables.outbox))
            .outerjoin(shards, shards.c.shard == tables.outbox.c.shard)
            .where(events.c.symbol == event_id.symbol, events.c.sequence == event_id.sequence)
        )
        found = await self._database.read(
            lambda connection: connection.execute(statement).mappings().first()
        )
        if found is None:
            return None
        publication = None
        if found[publications.c.topic] is not None:
            publication = Publication(
                event_id,
                found[publications.c.generation],
                found[publications.c.topic],
                found[publications.c.partition],
                found[publications.c.offset],
                found[publications.c.published_at],
            )
        receipt = Receipt(
            event_id=event_id,
            type=found[tables.type],
            raw_response_id=found[events.c.raw_response_id],
            recorded_at=found[events.c.recorded_at],
            state=EventState.PUBLISHED if publication else EventState.QUEUED,
            last_error=None if publication else found[shards.c.last_error],
            publication=publication,
        )
        return StoredReceipt(receipt, found[shards.c.blocked_since])

    async def raw_response(self, raw_response_id: UUID) -> RawResponse | None:
        statement = select(raw_responses).where(raw_responses.c.id == raw_response_id)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            return await SqlFrames(self._database).frame(raw_response_id)
        return RawResponse(
            id=row.id,
            provider=row.provider,
            url=row.url,
            status=row.status,
            headers=tuple(json.loads(row.headers).items()),
            body=row.body,
            fetched_at=row.fetched_at,
        )

    async def has_price(self, raw_response_id: UUID) -> bool:
        statement = select(prices.c.symbol).where(prices.c.raw_response_id == raw_response_id)
        return await self._database.read(
            lambda connection: connection.execute(statement.limit(1)).first() is not None
        )

    async def last_prices(
        self, symbol: str, count: int, since: datetime | None
    ) -> list[StoredPrice]:
        """Return the last `count` prices of a symbol, or all since a market time, oldest first."""
        statement = select(prices).where(prices.c.symbol == symbol)
        if since is None:
            statement = statement.limit(count)
        else:
            statement = statement.where(prices.c.timestamp >= since).limit(MAX_PRICES)
        newest_first = statement.order_by(prices.c.sequence.desc())
        rows = await self._database.read(lambda connection: connection.execute(newest_first).all())
        return [
            StoredPrice(
                str(EventId(row.symbol, row.sequence)),
                row.price,
                row.timestamp,
                row.provider,
                row.raw_response_id,
            )
            for row in reversed(rows)
        ]

    async def outbox_depth(self, tables: EventTables = LIVE) -> OutboxDepth:
        return await self._database.read(lambda connection: _outbox_depth(connection, tables))

    async def source(self) -> Source:
        return await self._database.read(read_source)

    async def fork(self) -> Source:
        """Start a new generation by hand, before a copy of a database is used (protocol 2.6)."""
        return await self._database.write(
            Rank.OTHER, lambda connection: raise_generation(connection, 0)
        )

    async def adopt_partitions(
        self, partitions: int, wanted_by: str = "KAFKA_TOPIC_PARTITIONS says"
    ) -> None:
        """Note for how many partitions events are recorded.

        Raises:
            StartupError: events for another number still wait; their shards would have no owner.
        """
        await self._database.write(
            Rank.OTHER, lambda connection: _adopt_partitions(connection, partitions, wanted_by)
        )


def _outbox_depth(connection: Connection, tables: EventTables) -> OutboxDepth:
    events, outbox = tables.events, tables.outbox
    first = select(func.min(outbox.c.id)).scalar_subquery()
    oldest = (
        select(events.c.recorded_at)
        .join_from(events, outbox, tables.same_event(events, outbox))
        .where(outbox.c.id == first)
    )
    return OutboxDepth(_waiting(connection, tables), connection.scalar(oldest))


def _waiting(connection: Connection, tables: EventTables) -> int:
    return connection.scalar(select(func.count()).select_from(tables.outbox)) or 0


def _adopt_partitions(connection: Connection, partitions: int, wanted_by: str) -> None:
    before = connection.scalar(select(store.c.partitions))
    if before == partitions:
        return
    waiting = sum(_waiting(connection, tables) for tables in ALL_EVENT_TABLES)
    if before is not None and waiting:
        raise StartupError(
            f"{waiting} events wait to be published to {before} partitions, and {wanted_by} "
            f"{partitions}: start it as it was, with KAFKA_TOPIC_PARTITIONS={before} or on the "
            "in-memory cluster if that is where they were recorded, until they are published; "
            "then change it"
        )
    if before is not None and connection.scalar(_STATES_FOR, {"before": before}):
        raise StartupError(
            f"processors keep their states for {before} partitions, and {wanted_by} {partitions}: "
            f"set KAFKA_TOPIC_PARTITIONS={before}, or run `pricewire topics repartition "
            "--partitions N` for more"
        )
    connection.execute(update(store).values(partitions=partitions))
