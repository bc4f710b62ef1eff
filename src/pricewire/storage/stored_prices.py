"""Reads prices back as they passed the door; fulfils `services.latest.StoredPrices`.

Invariant: digits, times and the event's bytes come back as they went in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from pricewire.domain.event import Draft, EventId, RecordedPrice
from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.storage.database import Database
from pricewire.storage.tables import events, prices

_LAST = (
    select(prices, events.c.recorded_at, events.c.value, events.c.headers)
    .join(
        events,
        (events.c.symbol == prices.c.symbol) & (events.c.sequence == prices.c.sequence),
    )
    .where(prices.c.symbol == bindparam("symbol"))
    .order_by(prices.c.sequence.desc())
    .limit(1)
)
_Headers = tuple[tuple[str, str], ...]


class SqlStoredPrices:
    """See the module.

    Args:
        shard_of: partition of the topic for a symbol.
    """

    def __init__(self, database: Database, shard_of: Callable[[str], int]) -> None:
        self._database = database
        self._shard_of = shard_of

    async def last_recorded(self, symbol: str) -> RecordedPrice | None:
        row = await self._database.read(
            lambda connection: connection.execute(_LAST, {"symbol": symbol}).first()
        )
        return None if row is None else self._recorded(row)

    def _recorded(self, row: Any) -> RecordedPrice:
        headers = msgspec.json.decode(row.headers, type=_Headers) if row.headers else ()
        draft = Draft(
            quote=_quote(row),
            raw_response_id=row.raw_response_id,
            position=row.position,
            provider=row.provider,
            shard=self._shard_of(row.symbol),
            value=row.value,
            headers=headers,
            fetched_at=row.fetched_at,
            recorded_at=row.recorded_at,
        )
        return RecordedPrice(EventId(row.symbol, row.sequence), draft)


def _quote(row: Any) -> Quote:
    return Quote(
        symbol=row.symbol,
        price=row.price,
        timestamp=row.timestamp,
        precision=Precision(row.precision),
        currency=row.currency,
        kind=PriceKind(row.kind),
        delayed=bool(row.delayed),
        adjusted=row.adjusted,
        exchange=row.exchange,
    )
