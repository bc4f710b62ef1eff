"""Writes what passes the door: raw responses, prices, events, outbox, in one transaction.

`services.recording` calls it. Invariant: jobs' rows and then the symbols' rows are locked, in the
one order, before their sequences are taken and before an outbox id is drawn, so that for each
symbol commit order is sequence order is outbox order, with any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, select, text

from pricewire.domain.event import PRICE_RECORDED, Draft, EventId, RecordedPrice
from pricewire.domain.quote import RawResponse
from pricewire.errors import StoreBusy, StoreUnavailable
from pricewire.services.recording import Entry, Written
from pricewire.storage.bulk import insert_rows, update_by_key
from pricewire.storage.database import Database, Rank
from pricewire.storage.fences import Fences, poll_rows
from pricewire.storage.tables import events, outbox, polls, prices, raw_responses, store, symbols

_LOCK_SYMBOLS = (
    select(symbols.c.symbol, symbols.c.last_sequence, select(store.c.partitions).scalar_subquery())
    .where(symbols.c.symbol.in_(bindparam("names", expanding=True)))
    .order_by(symbols.c.symbol)
    .with_for_update()
)
_RECORDED = select(
    prices.c.raw_response_id, prices.c.symbol, prices.c.position, prices.c.sequence
).where(prices.c.raw_response_id.in_(bindparam("raw_ids", expanding=True)))

_Identity = tuple[UUID, str, int]


class SqlRecordingStore:
    """Fulfils `services.recording.RecordingStore` on PostgreSQL and SQLite.

    Args:
        partitions: for how many of them the drafts' shards were computed.
    """

    def __init__(self, database: Database, partitions: int | None = None) -> None:
        self._database = database
        self._partitions = partitions
        self._known: set[str] = set()

    async def record(self, group: Sequence[Entry], *, again: bool = False) -> list[Written]:
        names = sorted({draft.quote.symbol for entry in group for draft in entry.drafts})
        await self._make_known(names)
        try:
            return await self._database.write(
                Rank.DOOR,
                lambda connection: _record(
                    connection, group, names, again=again, partitions=self._partitions
                ),
            )
        except LostSymbols:
            # The database went back to a time before these symbols: the next try makes them anew.
            self._known.clear()
            raise

    async def _make_known(self, names: Sequence[str]) -> None:
        """Make the rows of new symbols in a transaction of their own.

        Within the group's transaction they would be locked after known ones, out of the one order,
        and two groups could wait for each other.
        """
        new = [name for name in names if name not in self._known]
        if not new:
            return
        statement = self._database.insert(symbols).on_conflict_do_nothing()
        rows = [{"symbol": name, "last_sequence": 0} for name in new]
        await self._database.write(
            Rank.DOOR, lambda connection: connection.execute(statement, rows)
        )
        self._known.update(new)


class LostSymbols(StoreBusy):
    """Rows of symbols are gone that were there."""


class PartitionsChanged(StoreUnavailable):
    """Events are recorded for another number of partitions by now."""


def check_partitions(now: int | None, partitions: int | None) -> None:
    """Raise PartitionsChanged where the store has another number than the caller."""
    if partitions is not None and now is not None and now != partitions:
        raise PartitionsChanged(
            f"events are recorded for {now} partitions by now: start this process again with "
            f"KAFKA_TOPIC_PARTITIONS={now}"
        )


def _record(
    connection: Connection,
    group: Sequence[Entry],
    names: Sequence[str],
    *,
    again: bool,
    partitions: int | None,
) -> list[Written]:
    if again and connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
    fences = Fences.locked(connection, group)
    last = _lock(connection, names, partitions) if names else {}
    found = _find(connection, group) if again else {}
    there = {entry.raw.id for entry in group if _is_found(entry, found)}
    overtaken = fences.fallen(entry for entry in group if entry.raw.id not in there)
    allowed = [replace(one, drafts=()) if one.raw.id in overtaken else one for one in group]
    kept = there | (_find_refusals(connection, allowed) if again else set())
    fresh = [entry for entry in allowed if entry.raw.id not in kept]
    numbered = list(_number(fresh, last))
    _insert(connection, fresh, numbered, last)
    ids = found | dict(numbered)
    return [overtaken.get(entry.raw.id) or _result(entry, ids) for entry in group]


def _lock(connection: Connection, names: Sequence[str], partitions: int | None) -> dict[str, int]:
    """Lock the symbols' rows; return their last sequences.

    Whoever changes the number of partitions locks the table against this very statement.
    """
    rows = connection.execute(_LOCK_SYMBOLS, {"names": names}).all()
    last: dict[str, int] = {row[0]: row[1] for row in rows}
    check_partitions(rows[0][2] if rows else None, partitions)
    if len(last) < len(names):
        raise LostSymbols("the database has lost symbols that it had; trying again")
    return last


def _find(connection: Connection, group: Sequence[Entry]) -> dict[_Identity, EventId]:
    rows = connection.execute(_RECORDED, {"raw_ids": [entry.raw.id for entry in group]})
    return {
        (row.raw_response_id, row.symbol, row.position): EventId(row.symbol, row.sequence)
        for row in rows
    }


def _find_refusals(connection: Connection, group: Sequence[Entry]) -> set[UUID]:
    """Return the answers without a price that are kept already."""
    ids = [entry.raw.id for entry in group if not entry.drafts]
    if not ids:
        return set()
    statement = select(raw_responses.c.id).where(raw_responses.c.id.in_(ids))
    return set(connection.scalars(statement))


def _identity(draft: Draft) -> _Identity:
    return draft.raw_response_id, draft.quote.symbol, draft.position


def _is_found(entry: Entry, found: dict[_Identity, EventId]) -> bool:
    return any(_identity(draft) in found for draft in entry.drafts)


def _number(entries: Sequence[Entry], last: dict[str, int]) -> Iterator[tuple[_Identity, EventId]]:
    """Give each draft its symbol's next sequence; `last` moves along."""
    for entry in entries:
        for draft in entry.drafts:
            symbol = draft.quote.symbol
            last[symbol] += 1
            yield _identity(draft), EventId(symbol, last[symbol])


def _insert(
    connection: Connection,
    entries: Sequence[Entry],
    numbered: Sequence[tuple[_Identity, EventId]],
    last: dict[str, int],
) -> None:
    drafts = [draft for entry in entries for draft in entry.drafts]
    if not drafts:
        if entries:
            insert_rows(connection, (raw_responses, [raw_row(entry.raw) for entry in entries]))
        return
    rows = list(zip(drafts, (event_id for _, event_id in numbered), strict=True))
    insert_rows(
        connection,
        (raw_responses, [raw_row(entry.raw) for entry in entries]),
        (prices, [_price_row(*row) for row in rows]),
        (events, [_event_row(*row) for row in rows]),
        (outbox, [_outbox_row(*row) for row in rows]),
        *([(polls, polled)] if (polled := poll_rows(entries)) else []),
    )
    changed = {event_id.symbol: last[event_id.symbol] for _, event_id in numbered}
    update_by_key(connection, symbols.c.symbol, symbols.c.last_sequence, changed)


def raw_row(raw: RawResponse) -> dict[str, object]:
    return {
        "id": raw.id,
        "provider": raw.provider,
        "url": raw.url,
        "status": raw.status,
        "headers": msgspec.json.encode(dict(raw.headers)).decode(),
        "body": raw.body,
        "fetched_at": raw.fetched_at,
    }


def _price_row(draft: Draft, event_id: EventId) -> dict[str, object]:
    quote = draft.quote
    return {
        "symbol": event_id.symbol,
        "sequence": event_id.sequence,
        "raw_response_id": draft.raw_response_id,
        "position": draft.position,
        "provider": draft.provider,
        "price": quote.price,
        "timestamp": quote.timestamp,
        "precision": quote.precision.value,
        "kind": quote.kind.value,
        "currency": quote.currency,
        "fetched_at": draft.fetched_at,
        "delayed": quote.delayed,
        "adjusted": quote.adjusted,
        "exchange": quote.exchange,
    }


def _event_row(draft: Draft, event_id: EventId) -> dict[str, object]:
    return {
        "symbol": event_id.symbol,
        "sequence": event_id.sequence,
        "type": PRICE_RECORDED,
        "raw_response_id": draft.raw_response_id,
        "recorded_at": draft.recorded_at,
        "value": draft.value,
        "headers": msgspec.json.encode(draft.headers).decode() if draft.headers else "",
    }


def _outbox_row(draft: Draft, event_id: EventId) -> dict[str, object]:
    return {"shard": draft.shard, "symbol": event_id.symbol, "sequence": event_id.sequence}


def _result(entry: Entry, ids: dict[_Identity, EventId]) -> list[RecordedPrice]:
    return [RecordedPrice(ids[_identity(draft)], draft) for draft in entry.drafts]
