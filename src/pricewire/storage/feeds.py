"""Feeds in the database; fulfils `services.feeds.FeedStore`.

Invariant: whoever changes a feed's row has it locked and holds its epoch, or raises it. The door
locks it too (`fences`), so that no ticks of an owner are recorded after the claim of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update

from pricewire.services.feeds.kept import FeedClaim, FeedFence, FeedStatus, FeedSymbolState
from pricewire.services.recording import Entry
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import feed_symbols, feeds

_FEED = select(feeds).where(feeds.c.provider == bindparam("named"))
_OURS = update(feeds).where(
    feeds.c.provider == bindparam("named"), feeds.c.epoch == bindparam("ours")
)
_SYMBOLS = (
    select(feed_symbols.c.state)
    .where(feed_symbols.c.provider == bindparam("named"))
    .order_by(feed_symbols.c.symbol)
)

_encoder = msgspec.json.Encoder()
_statuses = msgspec.json.Decoder(FeedStatus)
_states = msgspec.json.Decoder(FeedSymbolState)


class SqlFeeds:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, provider: str, owner: str, now: datetime, lease: timedelta
    ) -> FeedClaim | None:
        new = self._database.insert(feeds).on_conflict_do_nothing()
        row = {"provider": provider, "epoch": 0, "status": _text(FeedStatus(provider=provider))}

        def work(connection: Connection) -> FeedClaim | None:
            connection.execute(new, row)
            found = connection.execute(_FEED.with_for_update(), {"named": provider}).one()
            if not _is_free(found, owner, now):
                return None
            return _taken(connection, found, owner, now + lease)

        return await self._database.write(Rank.OTHER, work)

    async def renew(self, provider: str, epoch: int, until: datetime, status: FeedStatus) -> bool:
        return await self._tell(provider, epoch, status, leased_until=until)

    async def release(self, provider: str, epoch: int, status: FeedStatus) -> None:
        await self._tell(provider, epoch, status, owner=None, leased_until=None)

    async def _tell(self, provider: str, epoch: int, status: FeedStatus, **changes: Any) -> bool:
        statement = _OURS.values(status=_text(status), **changes)
        given = {"named": provider, "ours": epoch}
        return await self._database.write(
            Rank.OTHER, lambda connection: connection.execute(statement, given).rowcount > 0
        )

    async def statuses(self) -> list[FeedStatus]:
        every = select(feeds).order_by(feeds.c.provider)
        rows = await self._database.read(lambda connection: connection.execute(every).all())
        return [_status(row) for row in rows]

    async def symbols(self, provider: str) -> list[FeedSymbolState]:
        return await self._database.read(lambda connection: _symbols(connection, provider))


def state_rows(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return the rows of `feed_symbols` for what is recorded; of several the last one."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for entry in entries:
        if not isinstance(entry.fence, FeedFence):
            continue
        provider = entry.fence.provider
        for state in entry.states:
            rows[provider, state.symbol] = {
                "provider": provider,
                "symbol": state.symbol,
                "state": _encoder.encode(state),
            }
    return list(rows.values())


def _is_free(row: Row[Any], owner: str, now: datetime) -> bool:
    return row.owner in (None, owner) or row.leased_until is None or row.leased_until <= now


def _taken(connection: Connection, row: Row[Any], owner: str, until: datetime) -> FeedClaim:
    epoch = row.epoch + 1
    statement = _OURS.values(owner=owner, epoch=epoch, leased_until=until)
    connection.execute(statement, {"named": row.provider, "ours": row.epoch})
    status = replace(_status(row), owner=owner, epoch=epoch, leased_until=until)
    states = tuple(_symbols(connection, row.provider))
    return FeedClaim(FeedFence(row.provider, epoch), status, states)


def _symbols(connection: Connection, provider: str) -> list[FeedSymbolState]:
    return [_states.decode(state) for state in connection.scalars(_SYMBOLS, {"named": provider})]


def _status(row: Row[Any]) -> FeedStatus:
    return replace(
        _statuses.decode(row.status),
        owner=row.owner,
        epoch=row.epoch,
        leased_until=row.leased_until,
    )


def _text(status: FeedStatus) -> str:
    return _encoder.encode(status).decode()
