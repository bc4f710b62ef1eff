"""Writes past prices: raw response, price with its event, outbox, in one transaction.

`services.history` calls it. Invariant: the symbols' rows are locked, in the one order, before it is
looked up what is there already and before sequences are taken; so a past price is recorded once,
whoever brings it at the same time, and commit order is sequence order is outbox order.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, select

from pricewire.domain.event import EventId
from pricewire.domain.quote import RawResponse
from pricewire.errors import StoreBusy
from pricewire.services.history import PastDraft
from pricewire.storage.bulk import copy_rows, known_keys, update_by_key
from pricewire.storage.database import Database, Rank
from pricewire.storage.recording import check_partitions, raw_row
from pricewire.storage.tables import (
    history_outbox,
    history_prices,
    history_symbols,
    raw_responses,
    store,
)

_LOCK_SYMBOLS = (
    select(
        history_symbols.c.symbol,
        history_symbols.c.last_sequence,
        select(store.c.partitions).scalar_subquery(),
    )
    .where(history_symbols.c.symbol.in_(bindparam("names", expanding=True)))
    .order_by(history_symbols.c.symbol)
    .with_for_update()
)
_IDENTITY = ("symbol", "timestamp", "nanosecond", "identity")


class SqlHistoryStore:
    """Fulfils `services.history.HistoryStore` on PostgreSQL and SQLite.

    Args:
        partitions: for how many of them the drafts' shards were computed.
    """

    def __init__(self, database: Database, partitions: int | None = None) -> None:
        self._database = database
        self._partitions = partitions
        self._known: set[str] = set()
        # SQLite has one writer: whoever comes with a live price waits for the end of this one.
        self.transaction_rows = 200 if database.is_sqlite else 1_000

    async def record(self, raw: RawResponse, drafts: Sequence[PastDraft]) -> list[EventId]:
        names = sorted({past.draft.quote.symbol for past in drafts})
        await self._make_known(names)
        return await self._database.write(
            Rank.BULK, lambda connection: self._record(connection, raw, drafts, names)
        )

    async def _make_known(self, names: Sequence[str]) -> None:
        """Make the rows of new symbols in a transaction of their own, as the door does."""
        new = [name for name in names if name not in self._known]
        if not new:
            return
        statement = self._database.insert(history_symbols).on_conflict_do_nothing()
        rows = [{"symbol": name, "last_sequence": 0} for name in new]
        await self._database.write(
            Rank.BULK, lambda connection: connection.execute(statement, rows)
        )
        self._known.update(new)

    def _record(
        self,
        connection: Connection,
        raw: RawResponse,
        drafts: Sequence[PastDraft],
        names: Sequence[str],
    ) -> list[EventId]:
        if not drafts:
            return []
        rows = connection.execute(_LOCK_SYMBOLS, {"names": names}).all()
        check_partitions(rows[0][2] if rows else None, self._partitions)
        last: dict[str, int] = {row[0]: row[1] for row in rows}
        if len(last) < len(names):
            self._known.clear()
            raise StoreBusy("the database has lost symbols that it had; trying again")
        fresh = _fresh(connection, drafts)
        if not fresh:
            return []
        ids = _number(fresh, last)
        # A large answer comes in several calls, each with its bytes.
        connection.execute(
            self._database.insert(raw_responses).on_conflict_do_nothing(), [raw_row(raw)]
        )
        numbered = list(zip(fresh, ids, strict=True))
        copy_rows(connection, history_prices, [_price_row(*each) for each in numbered])
        copy_rows(connection, history_outbox, [_outbox_row(*each) for each in numbered])
        changed = {event_id.symbol: last[event_id.symbol] for event_id in ids}
        update_by_key(
            connection, history_symbols.c.symbol, history_symbols.c.last_sequence, changed
        )
        return ids


def _fresh(connection: Connection, drafts: Sequence[PastDraft]) -> list[PastDraft]:
    """Return those that are not there yet, each once."""
    once = {past.identity: past for past in drafts}
    there = known_keys(connection, history_prices, [_key_row(past) for past in once.values()])
    return [past for identity, past in once.items() if identity not in there]


def _number(drafts: Sequence[PastDraft], last: dict[str, int]) -> list[EventId]:
    """Give each its symbol's next sequence; `last` moves along."""
    ids = []
    for past in drafts:
        symbol = past.draft.quote.symbol
        last[symbol] += 1
        ids.append(EventId(symbol, last[symbol], backfilled=True))
    return ids


def _key_row(past: PastDraft) -> dict[str, object]:
    quote = past.draft.quote
    values = (quote.symbol, quote.timestamp, quote.nanosecond, past.identity)
    return dict(zip(_IDENTITY, values, strict=True))


def _price_row(past: PastDraft, event_id: EventId) -> dict[str, object]:
    draft, quote = past.draft, past.draft.quote
    return {
        "symbol": event_id.symbol,
        "sequence": event_id.sequence,
        "identity": past.identity,
        "raw_response_id": draft.raw_response_id,
        "position": draft.position,
        "provider": draft.provider,
        "price": quote.price,
        "timestamp": quote.timestamp,
        "nanosecond": quote.nanosecond,
        "precision": quote.precision.value,
        "kind": quote.kind.value,
        "currency": quote.currency,
        "adjusted": quote.adjusted,
        "size": quote.size,
        "trade_id": quote.trade_id,
        "fetched_at": draft.fetched_at,
        "recorded_at": draft.recorded_at,
        "value": draft.value,
        "headers": msgspec.json.encode(draft.headers).decode() if draft.headers else "",
    }


def _outbox_row(past: PastDraft, event_id: EventId) -> dict[str, object]:
    return {
        "shard": past.draft.shard,
        "symbol": event_id.symbol,
        "sequence": event_id.sequence,
    }
