"""Stored prices of a symbol, live and past ones, by market time; `GET /v1/prices` asks.

Invariant: the order is total and does not change: market time, live before past, sequence. So a
page goes on behind the last event of the one before, whatever was recorded meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from pricewire.domain.event import EventId
from pricewire.errors import InvalidParameter

PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceQuery:
    """Which prices: market times from `start` up to, and not at, `end`."""

    symbol: str
    start: datetime | None = None
    end: datetime | None = None
    provider: str | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands in the order."""

    timestamp: datetime
    nanosecond: int
    event_id: EventId

    @property
    def key(self) -> tuple[datetime, int, bool, int]:
        one = self.event_id
        return self.timestamp, self.nanosecond, one.backfilled, one.sequence


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A stored price."""

    place: Place
    price: Decimal
    precision: str
    provider: str
    kind: str
    currency: str | None
    size: Decimal | None
    trade_id: str | None
    raw_response_id: UUID


class PriceReads(Protocol):
    """All raise `StoreError`."""

    async def place(self, event_id: EventId) -> Place | None: ...

    async def page(self, query: PriceQuery, after: Place | None, limit: int) -> Sequence[PriceRow]:
        """Return the first `limit` prices behind `after`, in the query's order."""
        ...


class StoredSeries:
    """See the module."""

    def __init__(self, reads: PriceReads) -> None:
        self._reads = reads

    async def pages(
        self, query: PriceQuery, *, cursor: EventId | None, limit: int | None
    ) -> AsyncIterator[Sequence[PriceRow]]:
        """Give pages of prices, together at most `limit`; the first is read before this returns.

        Args:
            cursor: the event behind which to go on.

        Raises:
            InvalidParameter: there is no such event of the symbol.
        """
        after = None if cursor is None else await self._place(query, cursor)
        first = await self._reads.page(query, after, PAGE if limit is None else min(PAGE, limit))
        return self._rest(query, first, limit)

    async def _rest(
        self, query: PriceQuery, page: Sequence[PriceRow], limit: int | None
    ) -> AsyncIterator[Sequence[PriceRow]]:
        left = limit
        while page:
            yield page
            if left is not None:
                left -= len(page)
            if left == 0 or len(page) < PAGE:
                return
            size = PAGE if left is None else min(PAGE, left)
            page = await self._reads.page(query, page[-1].place, size)

    async def _place(self, query: PriceQuery, cursor: EventId) -> Place:
        place = await self._reads.place(cursor) if cursor.symbol == query.symbol else None
        if place is None:
            raise InvalidParameter(
                f"cursor={cursor} is no event of {query.symbol}: give the next_cursor of a page"
            )
        return place
