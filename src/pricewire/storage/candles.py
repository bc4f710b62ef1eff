"""Candles as checkpoints have written them, read; fulfils `services.candles.StoredCandles`.

Invariant: it only reads; processors write (`storage.checkpoints`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, Select, select

from pricewire.domain.candle import Candle, Interval, Part, Series
from pricewire.services.candles import AsOf, Page
from pricewire.storage.database import Database
from pricewire.storage.tables import candles, processors

_FIELDS = tuple(field.name for field in fields(Candle))


class SqlCandles:
    """See the module.

    Args:
        series: what each processor of candles makes them of, by its name.
    """

    def __init__(self, database: Database, series: Mapping[str, Series]) -> None:
        self._database = database
        self._series = series

    async def parts(self, symbol: str, interval: Interval, page: Page) -> Sequence[Part]:
        statement = _parts(symbol, interval, page)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [self._part(row) for row in rows if row.processor in self._series]

    async def as_of(self, partition: int) -> Mapping[Series, AsOf]:
        mine = processors.c.processor.in_(self._series) & (processors.c.partition == partition)
        statement = select(processors).where(mine)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return {
            self._series[row.processor]: AsOf(row.partition, row.next_offset, row.logged_at)
            for row in rows
        }

    def _part(self, row: Row[Any]) -> Part:
        named = row._mapping  # noqa: SLF001
        candle = Candle(*(named[name] for name in _FIELDS))
        return Part(self._series[named["processor"]], named["partition"], candle)


def _parts(symbol: str, interval: Interval, page: Page) -> Select[Any]:
    which = (candles.c.symbol == symbol) & (candles.c.interval == interval.value)
    if page.since is not None:
        which &= candles.c.start >= page.since
    if page.until is not None:
        which &= candles.c.start < page.until
    order = candles.c.start.desc() if page.newest else candles.c.start
    # A candle has as many rows as parts, so that its starts are what is limited.
    starts = select(candles.c.start).where(which).distinct().order_by(order).limit(page.limit)
    chosen = starts.subquery()
    whole = (candles.c.symbol == symbol) & (candles.c.interval == interval.value)
    parts = select(candles).join(chosen, candles.c.start == chosen.c.start).where(whole)
    return parts.order_by(candles.c.start)
