"""What the database says was published, for `services.verification`; and what was not found.

Invariant: it only reads. `SqlPublished` looks at one snapshot, so that a page never misses what the
relay moves from the outbox to the publications meanwhile; only `known_now` looks at the present.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, tuple_

from pricewire.domain.event import EventId, Source
from pricewire.errors import StartupError
from pricewire.services.verification import NowKnown, Placed, PlacedEvent, Totals
from pricewire.storage.database import Database, Snapshot
from pricewire.storage.event_tables import LIVE, EventTables
from pricewire.storage.migrate import HEAD, current_revision
from pricewire.storage.outbox import LOOKUP_CHUNK, read_source

PAGE = 1_000


@asynccontextmanager
async def published_in(
    database: Database, topic: str, tables: EventTables = LIVE
) -> AsyncIterator[SqlPublished]:
    """Look at what was published to `topic`; the snapshot lasts while inside.

    Raises:
        StartupError: the database is not at this program's revision.
    """
    found = await database.read(current_revision)
    if found != HEAD:
        raise StartupError(
            f"the database is at revision {found}, this version of pricewire reads {HEAD}: "
            "start the service once, which migrates it"
        )
    async with database.snapshot() as snapshot:
        yield SqlPublished(database, snapshot, topic, tables)


class SqlPublished:
    """Fulfils `services.verification.Published`."""

    def __init__(
        self, database: Database, snapshot: Snapshot, topic: str, tables: EventTables
    ) -> None:
        self._database = database
        self._snapshot = snapshot
        self._tables = tables
        self._here = tables.publications.c.topic == topic

    async def source(self) -> Source:
        return await self._snapshot.read(read_source)

    async def totals(self) -> Totals:
        publications = self._tables.publications
        here = select(func.count()).select_from(publications).where(self._here)
        elsewhere = select(func.count()).select_from(publications).where(~self._here)
        waiting = select(func.count()).select_from(self._tables.outbox)
        counts = select(
            here.scalar_subquery(), elsewhere.scalar_subquery(), waiting.scalar_subquery()
        )
        row = await self._snapshot.read(lambda connection: connection.execute(counts).one())
        return Totals(*row)

    async def placed(self, first: Mapping[int, int]) -> AsyncGenerator[list[PlacedEvent], None]:
        events, publications = self._tables.events, self._tables.publications
        partition, offset = publications.c.partition, publications.c.offset
        kept = [and_(partition == which, offset >= begin) for which, begin in first.items()]
        statement = (
            select(*self._place_columns, publications.c.generation, events.c.value)
            .join_from(publications, events, self._tables.same_event(publications, events))
            .where(self._here, offset.is_not(None), or_(partition.not_in(list(first)), *kept))
            .order_by(partition, offset)
        )
        async for page in self._pages(statement):
            yield [PlacedEvent(self._place(row), row[4], row[5]) for row in page]

    async def unplaced(self) -> AsyncGenerator[list[Placed], None]:
        offset = self._tables.publications.c.offset
        statement = select(*self._place_columns).where(self._here, offset.is_(None))
        async for page in self._pages(statement):
            yield [self._place(row) for row in page]

    async def _pages(self, statement: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
        streamed = statement.execution_options(stream_results=True, yield_per=PAGE)
        result = await self._snapshot.read(lambda connection: connection.execute(streamed))
        while page := await self._snapshot.read(lambda _: result.fetchmany(PAGE)):
            yield page

    async def known_now(self, ids: Sequence[EventId]) -> dict[EventId, NowKnown]:
        statement = _known_statement(self._tables)
        known: dict[EventId, NowKnown] = {}
        ids = self._tables.own(ids)
        for start in range(0, len(ids), LOOKUP_CHUNK):
            chunk = [(one.symbol, one.sequence) for one in ids[start : start + LOOKUP_CHUNK]]
            rows = await self._database.read(
                lambda connection: connection.execute(statement, {"ids": chunk}).all()  # noqa: B023
            )
            found = (self._known(row) for row in rows)
            known |= dict(found)
        return known

    def _known(self, row: Any) -> tuple[EventId, NowKnown]:
        symbol, sequence, value, outbox_id, partition, offset = row
        event_id = self._tables.event_id(symbol, sequence)
        place = None if partition is None else Placed(event_id, partition, offset)
        return event_id, NowKnown(value, outbox_id is not None, place)

    @property
    def _place_columns(self) -> tuple[ColumnElement[Any], ...]:
        columns = self._tables.publications.c
        return columns.symbol, columns.sequence, columns.partition, columns.offset

    def _place(self, row: Any) -> Placed:
        return Placed(self._tables.event_id(row[0], row[1]), row[2], row[3])


@cache
def _known_statement(tables: EventTables) -> Select[Any]:
    events, outbox, publications = tables.events, tables.outbox, tables.publications
    return (
        select(
            events.c.symbol,
            events.c.sequence,
            events.c.value,
            outbox.c.id,
            publications.c.partition,
            publications.c.offset,
        )
        .outerjoin_from(events, publications, tables.same_event(events, publications))
        .outerjoin(outbox, tables.same_event(events, outbox))
        .where(tuple_(events.c.symbol, events.c.sequence).in_(bindparam("ids", expanding=True)))
    )


class Scratch:
    """Fulfils `services.verification.Missing` in a file that nobody else sees."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(
            """
            CREATE TABLE missing (symbol, sequence, backfilled, partition, "offset",
                                  PRIMARY KEY (symbol, sequence)) WITHOUT ROWID;
            CREATE TABLE seen (symbol, sequence,
                               PRIMARY KEY (symbol, sequence)) WITHOUT ROWID;
            """
        )

    def add(self, places: Sequence[Placed]) -> None:
        rows = [
            (*_pair(one.event_id), one.event_id.backfilled, one.partition, one.offset)
            for one in places
        ]
        self._connection.executemany("INSERT INTO missing VALUES (?, ?, ?, ?, ?)", rows)

    def seen(self, ids: Sequence[EventId]) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", map(_pair, ids))

    def never_seen(self) -> Iterator[Placed]:
        return map(_missing, self._connection.execute(
            """
            SELECT * FROM missing WHERE NOT EXISTS (
                SELECT 1 FROM seen
                WHERE seen.symbol = missing.symbol AND seen.sequence = missing.sequence)
            ORDER BY partition, "offset", symbol, sequence
            """
        ))  # fmt: skip


def _missing(row: Any) -> Placed:
    symbol, sequence, backfilled, partition, offset = row
    return Placed(EventId(symbol, sequence, bool(backfilled)), partition, offset)


def _pair(event_id: EventId) -> tuple[str, int]:
    return event_id.symbol, event_id.sequence


@contextmanager
def scratch() -> Iterator[Scratch]:
    """Keep what may be millions of events out of memory; the file is gone afterwards."""
    # An empty name is a temporary file of SQLite's own, which spills only what does not fit.
    connection = sqlite3.connect("", isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield Scratch(connection)
    finally:
        connection.close()
