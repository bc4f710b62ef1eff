"""Writes what passes the door: raw responses or frames, prices, events, outbox, symbols' states.

`services.recording` calls it; a group is one transaction. Invariant: jobs' rows, then feeds' and
then the symbols' rows are locked, in the one order, before their sequences are taken and before an
outbox id is drawn, so that for each symbol commit order is sequence order is outbox order, with any
number of processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, or_, select, text, union_all

from pricewire.domain.event import PRICE_RECORDED, Draft, EventId, RecordedPrice
from pricewire.domain.frames import MAX_FRAMES, FrameBatch, frame_id
from pricewire.domain.quote import RawResponse
from pricewire.errors import StoreBusy, StoreUnavailable
from pricewire.services.recording import Entry, Written
from pricewire.storage.bulk import (
    Batch,
    Columns,
    as_columns,
    copy_columns,
    write_columns,
)
from pricewire.storage.database import Database, Rank
from pricewire.storage.feeds import state_rows
from pricewire.storage.fences import Fences, poll_rows
from pricewire.storage.frames import Packs, frames_row, packs_of
from pricewire.storage.tables import (
    events,
    feed_symbols,
    outbox,
    polls,
    prices,
    raw_frames,
    raw_responses,
    store,
    symbols,
)

_LOCK_SYMBOLS = (
    select(symbols.c.symbol, symbols.c.last_sequence, select(store.c.partitions).scalar_subquery())
    .where(symbols.c.symbol.in_(bindparam("names", expanding=True)))
    .order_by(symbols.c.symbol)
    .with_for_update()
)
_RECORDED = select(prices.c.raw_response_id, prices.c.symbol, prices.c.position, prices.c.sequence)

COPY_FROM = 200
"""So many prices go by COPY, where there is one: a trip more for each table, but cheaper rows."""

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
        batches = [entry.raw for entry in group if isinstance(entry.raw, FrameBatch)]
        # Before any lock is held, and beside the event loop: zlib needs no interpreter.
        packs = await asyncio.to_thread(packs_of, batches) if batches else {}

        def work(connection: Connection) -> list[Written]:
            return _record(
                connection, group, names, packs, again=again, partitions=self._partitions
            )

        try:
            return await self._database.write(Rank.DOOR, work)
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
    packs: Packs,
    *,
    again: bool,
    partitions: int | None,
) -> list[Written]:
    if again and connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
    fences = Fences.locked(connection, group)
    last = _lock(connection, names, partitions) if names else {}
    found = _find(connection, group) if again else {}
    overtaken = fences.fallen(entry for entry in group if entry.raw.id not in found)
    allowed = [
        replace(one, drafts=(), states=()) if one.raw.id in overtaken else one for one in group
    ]
    kept = found.keys() | (_find_kept(connection, allowed) if again else set())
    fresh = [entry for entry in allowed if entry.raw.id not in kept]
    made = [_number(entry, last) for entry in fresh]
    _insert(connection, fresh, [price for prices in made for price in prices], packs)
    new = {entry.raw.id: recorded for entry, recorded in zip(fresh, made, strict=True)}
    written: dict[UUID, Written] = {**new, **found, **overtaken}
    return [written.get(entry.raw.id, []) for entry in group]


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


def _find(connection: Connection, group: Sequence[Entry]) -> dict[UUID, list[RecordedPrice]]:
    """Return what was recorded of a group already, by what it was made from."""
    answers = [entry.raw.id for entry in group if not isinstance(entry.raw, FrameBatch)]
    # All ids of its frames, in one range of the index.
    ranges = [
        prices.c.raw_response_id.between(entry.raw.id, frame_id(entry.raw.id, MAX_FRAMES - 1))
        for entry in group
        if isinstance(entry.raw, FrameBatch) and entry.drafts
    ]
    statement = _RECORDED.where(or_(prices.c.raw_response_id.in_(answers), *ranges))
    ids = {(row[0], row[1], row[2]): row[3] for row in connection.execute(statement)}
    return {
        entry.raw.id: [_found(draft, ids) for draft in entry.drafts]
        for entry in group
        if any(_identity(draft) in ids for draft in entry.drafts)
    }


def _found(draft: Draft, ids: dict[_Identity, int]) -> RecordedPrice:
    return RecordedPrice(EventId(draft.quote.symbol, ids[_identity(draft)]), draft)


def _identity(draft: Draft) -> _Identity:
    return draft.raw_response_id, draft.quote.symbol, draft.position


def _find_kept(connection: Connection, group: Sequence[Entry]) -> set[UUID]:
    """Return the answers and frames without a price that are kept already."""
    ids = [entry.raw.id for entry in group if not entry.drafts]
    if not ids:
        return set()
    kept = (select(table.c.id).where(table.c.id.in_(ids)) for table in (raw_responses, raw_frames))
    return set(connection.scalars(union_all(*kept)))


def _number(entry: Entry, last: dict[str, int]) -> list[RecordedPrice]:
    """Give each draft its symbol's next sequence; `last` moves along."""
    made = []
    for draft in entry.drafts:
        symbol = draft.quote.symbol
        last[symbol] = sequence = last[symbol] + 1
        made.append(RecordedPrice(EventId(symbol, sequence), draft))
    return made


def _insert(
    connection: Connection, entries: Sequence[Entry], made: Sequence[RecordedPrice], packs: Packs
) -> None:
    answers = [raw_row(one.raw) for one in entries if not isinstance(one.raw, FrameBatch)]
    frames = [
        frames_row(one.raw, packs[one.raw.id]) for one in entries if isinstance(one.raw, FrameBatch)
    ]
    rows = ((raw_responses, answers), (raw_frames, frames), (polls, poll_rows(entries)))
    inserts = [(table, as_columns(some)) for table, some in rows if some]
    many = len(made) >= COPY_FROM
    if made and not many:
        inserts += _price_batches(made)
    write_columns(connection, inserts, _upserts(entries, made))
    if many:
        for table, columns in _price_batches(made):
            copy_columns(connection, table, columns)


def _upserts(entries: Sequence[Entry], made: Sequence[RecordedPrice]) -> list[Batch]:
    """Return what the transaction has locked already and replaces."""
    states = state_rows(entries)
    upserts = [(feed_symbols, as_columns(states))] if states else []
    if made:
        last = {price.event_id.symbol: price.event_id.sequence for price in made}
        columns: Columns = {"symbol": list(last), "last_sequence": list(last.values())}
        upserts.append((symbols, columns))
    return upserts


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


def _price_batches(made: Sequence[RecordedPrice]) -> list[Batch]:
    """Return prices, their events and their outbox, column by column."""
    ids = [price.event_id for price in made]
    drafts = [price.draft for price in made]
    key: Columns = {
        "symbol": [one.symbol for one in ids],
        "sequence": [one.sequence for one in ids],
    }
    own: Columns = {**key, "raw_response_id": [draft.raw_response_id for draft in drafts]}
    return [
        (prices, {**own, **_price_columns(drafts)}),
        (events, {**own, **_event_columns(drafts)}),
        (outbox, {"shard": [draft.shard for draft in drafts], **key}),
    ]


def _price_columns(drafts: Sequence[Draft]) -> Columns:
    quotes = [draft.quote for draft in drafts]
    return {
        "position": [draft.position for draft in drafts],
        "provider": [draft.provider for draft in drafts],
        "price": [quote.price for quote in quotes],
        "timestamp": [quote.timestamp for quote in quotes],
        "precision": [quote.precision.value for quote in quotes],
        "kind": [quote.kind.value for quote in quotes],
        "currency": [quote.currency for quote in quotes],
        "fetched_at": [draft.fetched_at for draft in drafts],
        "delayed": [quote.delayed for quote in quotes],
        "adjusted": [quote.adjusted for quote in quotes],
        "exchange": [quote.exchange for quote in quotes],
    }


def _event_columns(drafts: Sequence[Draft]) -> Columns:
    return {
        "type": [PRICE_RECORDED] * len(drafts),
        "recorded_at": [draft.recorded_at for draft in drafts],
        "value": [draft.value for draft in drafts],
        "headers": [_headers_text(draft.headers) for draft in drafts],
    }


def _headers_text(headers: tuple[tuple[str, str], ...]) -> str:
    return msgspec.json.encode(headers).decode() if headers else ""
