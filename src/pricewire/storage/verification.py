"""What the database says was published, for `services.verification`; and what was not found.

Invariant: it only reads. `SqlPublished` looks at one snapshot, so that a page never misses what the
relay moves from the outbox to the publications meanwhile; only `known_now` looks at the present.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, or_, select, tuple_

from pricewire.domain.event import EventId, Source
from pricewire.errors import StartupError
from pricewire.services.verification import NowKnown, Placed, PlacedEvent, Totals
from pricewire.storage.database import Database, Snapshot
from pricewire.storage.migrate import HEAD, current_revision
from pricewire.storage.outbox import LOOKUP_CHUNK, read_source
from pricewire.storage.tables import events, outbox, publications

PAGE = 1_000

_OF_EVENT = (events.c.symbol == publications.c.symbol) & (
    events.c.sequence == publications.c.sequence
)
_KNOWN = (
    select(
        events.c.symbol,
        events.c.sequence,
        events.c.value,
        outbox.c.id,
        publications.c.partition,
        publications.c.offset,
    )
    .outerjoin_from(events, publications, _OF_EVENT)
    .outerjoin(
        outbox, (events.c.symbol == outbox.c.symbol) & (events.c.sequence == outbox.c.sequence)
    )
    .where(tuple_(events.c.symbol, events.c.sequence).in_(bindparam("ids", expanding=True)))
)


@asynccontextmanager
async def published_in(database: Database, topic: str) -> AsyncIterator[SqlPublished]:
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
        yield SqlPublished(database, snapshot, topic)


class SqlPublished:
    """Fulfils `services.verification.Published`."""

    def __init__(self, database: Database, snapshot: Snapshot, topic: str) -> None:
        self._database = database
        self._snapshot = snapshot
        self._here = publications.c.topic == topic

    async def source(self) -> Source:
        return await self._snapshot.read(read_source)

    async def totals(self) -> Totals:
        here = select(func.count()).select_from(publications).where(self._here)
        elsewhere = select(func.count()).select_from(publications).where(~self._here)
        waiting = select(func.count()).select_from(outbox)
        counts = select(
            here.scalar_subquery(), elsewhere.scalar_subquery(), waiting.scalar_subquery()
        )
        row = await self._snapshot.read(lambda connection: connection.execute(counts).one())
        return Totals(*row)

    async def placed(self, first: Mapping[int, int]) -> AsyncGenerator[list[PlacedEvent], None]:
        partition, offset = publications.c.partition, publications.c.offset
        kept = [and_(partition == which, offset >= begin) for which, begin in first.items()]
        statement = (
            select(*_PLACE, publications.c.generation, events.c.value)
            .join_from(publications, events, _OF_EVENT)
            .where(self._here, offset.is_not(None), or_(partition.not_in(list(first)), *kept))
            .order_by(partition, offset)
        )
        async for page in self._pages(statement):
            yield [PlacedEvent(_place(row), row[4], row[5]) for row in page]

    async def unplaced(self) -> AsyncGenerator[list[Placed], None]:
        statement = select(*_PLACE).where(self._here, publications.c.offset.is_(None))
        async for page in self._pages(statement):
            yield [_place(row) for row in page]

    async def _pages(self, statement: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
        streamed = statement.execution_options(stream_results=True, yield_per=PAGE)
        result = await self._snapshot.read(lambda connection: connection.execute(streamed))
        while page := await self._snapshot.read(lambda _: result.fetchmany(PAGE)):
            yield page

    async def known_now(self, ids: Sequence[EventId]) -> dict[EventId, NowKnown]:
        known: dict[EventId, NowKnown] = {}
        for start in range(0, len(ids), LOOKUP_CHUNK):
            chunk = [(one.symbol, one.sequence) for one in ids[start : start + LOOKUP_CHUNK]]
            rows = await self._database.read(
                lambda connection: connection.execute(_KNOWN, {"ids": chunk}).all()  # noqa: B023
            )
            known |= {EventId(row[0], row[1]): _known(row) for row in rows}
        return known


_PLACE = (
    publications.c.symbol,
    publications.c.sequence,
    publications.c.partition,
    publications.c.offset,
)


def _place(row: Any) -> Placed:
    return Placed(EventId(row[0], row[1]), row[2], row[3])


def _known(row: Any) -> NowKnown:
    symbol, sequence, value, outbox_id, partition, offset = row
    place = None if partition is None else Placed(EventId(symbol, sequence), partition, offset)
    return NowKnown(value, outbox_id is not None, place)


class Scratch:
    """Fulfils `services.verification.Missing` in a file that nobody else sees."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(
            """
            CREATE TABLE missing (symbol, sequence, partition, "offset",
                                  PRIMARY KEY (symbol, sequence)) WITHOUT ROWID;
            CREATE TABLE seen (symbol, sequence,
                               PRIMARY KEY (symbol, sequence)) WITHOUT ROWID;
            """
        )

    def add(self, places: Sequence[Placed]) -> None:
        rows = [(*_pair(one.event_id), one.partition, one.offset) for one in places]
        self._connection.executemany("INSERT INTO missing VALUES (?, ?, ?, ?)", rows)

    def seen(self, ids: Sequence[EventId]) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", map(_pair, ids))

    def never_seen(self) -> Iterator[Placed]:
        return map(_place, self._connection.execute(
            """
            SELECT * FROM missing WHERE NOT EXISTS (
                SELECT 1 FROM seen
                WHERE seen.symbol = missing.symbol AND seen.sequence = missing.sequence)
            ORDER BY partition, "offset", symbol, sequence
            """
        ))  # fmt: skip


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
