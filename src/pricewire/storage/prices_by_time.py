"""Reads live and past prices of a symbol by market time; fulfils `services.prices.PriceReads`.

Each kind is read along its own index and the two are merged here: one statement over both would
make the databases sort all of them. Invariant: digits and times come back as they went in.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    SmallInteger,
    Table,
    literal,
    null,
    select,
    tuple_,
)

from pricewire.domain.event import EventId
from pricewire.services.prices import Place, PriceQuery, PriceRow
from pricewire.storage.database import Database
from pricewire.storage.tables import history_prices, prices

_NO_NANOSECOND = literal(0, SmallInteger)


class SqlPricesByTime:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def place(self, event_id: EventId) -> Place | None:
        table = history_prices if event_id.backfilled else prices
        statement = select(table.c.timestamp, _nanosecond(table)).where(
            table.c.symbol == event_id.symbol, table.c.sequence == event_id.sequence
        )
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else Place(row[0], row[1], event_id)

    async def page(self, query: PriceQuery, after: Place | None, limit: int) -> Sequence[PriceRow]:
        return await self._database.read(partial(_page, query, after, limit))


def _page(
    query: PriceQuery, after: Place | None, limit: int, connection: Connection
) -> list[PriceRow]:
    both = [
        [_row(query.symbol, row, past=table is history_prices) for row in rows]
        for table in (prices, history_prices)
        if (rows := connection.execute(_select(table, query, after, limit)).all())
    ]
    merged = heapq.merge(*both, key=_key, reverse=query.descending)
    return [row for row, _ in zip(merged, range(limit), strict=False)]


def _key(row: PriceRow) -> tuple[datetime, int, bool, int]:
    return row.place.key


def _nanosecond(table: Table) -> ColumnElement[int]:
    return table.c.nanosecond if table is history_prices else _NO_NANOSECOND


def _select(table: Table, query: PriceQuery, after: Place | None, limit: int) -> Select[Any]:
    past = table is history_prices
    columns = table.c
    statement = select(
        columns.timestamp,
        _nanosecond(table),
        columns.sequence,
        columns.price,
        columns.precision,
        columns.provider,
        columns.kind,
        columns.currency,
        columns.size if past else null(),
        columns.trade_id if past else null(),
        columns.raw_response_id,
    ).where(columns.symbol == query.symbol)
    if query.start is not None:
        statement = statement.where(columns.timestamp >= query.start)
    if query.end is not None:
        statement = statement.where(columns.timestamp < query.end)
    if query.provider is not None:
        statement = statement.where(columns.provider == query.provider)
    if after is not None:
        statement = statement.where(*_behind(table, after, descending=query.descending))
    sorted_by = (columns.timestamp, *((columns.nanosecond,) if past else ()), columns.sequence)
    by = [column.desc() if query.descending else column.asc() for column in sorted_by]
    return statement.order_by(*by).limit(limit)


def _behind(
    table: Table, after: Place, *, descending: bool
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions for what stands behind a place; the first is for the index."""
    columns, place = table.c, after.event_id
    own = tuple_(
        columns.timestamp,
        _nanosecond(table),
        literal(int(table is history_prices), SmallInteger),
        columns.sequence,
    )
    that = tuple_(
        literal(after.timestamp, columns.timestamp.type),
        literal(after.nanosecond, SmallInteger),
        literal(int(place.backfilled), SmallInteger),
        literal(place.sequence, BigInteger),
    )
    if descending:
        return columns.timestamp <= after.timestamp, own < that
    return columns.timestamp >= after.timestamp, own > that


def _row(symbol: str, row: Any, *, past: bool) -> PriceRow:
    timestamp, nanosecond, sequence, *rest = row
    return PriceRow(Place(timestamp, nanosecond, EventId(symbol, sequence, past)), *rest)
