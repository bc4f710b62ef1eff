"""Makes what tests record and publish, and opens the databases they do it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Executable, func, select
from sqlalchemy.sql import FromClause
from uuid_utils.compat import uuid7

from pricewire.domain.event import Draft, EventId, Publication
from pricewire.domain.frames import FrameBatch, frame_id, new_batch_id
from pricewire.domain.quote import Fetched, Precision, Quote, RawResponse
from pricewire.kafka.codec import encode_price_event
from pricewire.services.feeds.kept import FeedFence, FeedSymbolState
from pricewire.services.recording import Entry, Fence, Overtaken, Written
from pricewire.storage.database import Database, Rank
from tests.conftest import open_database

MARKET_TIME = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)
FETCHED_AT = datetime(2024, 3, 20, 10, 30, 1, 123456, tzinfo=UTC)
RECORDED_AT = datetime(2024, 3, 20, 10, 30, 2, 654321, tzinfo=UTC)
PUBLISHED_AT = datetime(2024, 3, 20, 10, 30, 3, 7, tzinfo=UTC)

on_postgres = pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
"""For tests of what only PostgreSQL has: several processes."""


def make_raw(body: bytes = b"{}", **changes: Any) -> RawResponse:
    given: dict[str, Any] = {
        "id": uuid7(),
        "provider": "alpha_vantage",
        "url": "https://vendor.test/query?symbol=AAPL",
        "status": 200,
        "headers": (("content-type", "application/json"),),
        "body": body,
        "fetched_at": FETCHED_AT,
    }
    return RawResponse(**given | changes)


def make_quote(symbol: str = "AAPL", price: str = "150.25", **changes: Any) -> Quote:
    given: dict[str, Any] = {"timestamp": MARKET_TIME, "precision": Precision.SECOND}
    return Quote(symbol=symbol, price=Decimal(price), **given | changes)


def make_fetched(*quotes: Quote | str) -> Fetched:
    """An answer with these quotes; a plain symbol stands for some price of it."""
    return Fetched(make_raw(), tuple(_quote(quote) for quote in quotes))


def make_entry(
    *quotes: Quote | str,
    raw: RawResponse | None = None,
    shard: int = 0,
    recorded_at: datetime = RECORDED_AT,
    fence: Fence | FeedFence | None = None,
) -> Entry:
    raw = raw or make_raw()
    drafts = [
        make_draft(_quote(quote), raw, position, shard, recorded_at)
        for position, quote in enumerate(quotes)
    ]
    return Entry(raw, tuple(drafts), fence)


def make_frames(
    *bodies: bytes, received_at: datetime = FETCHED_AT, provider: str = "coinbase"
) -> FrameBatch:
    """Frames that came a second apart."""
    return FrameBatch(
        id=new_batch_id(uuid7()),
        provider=provider,
        url="wss://vendor.test/feed",
        frames=[(received_at + timedelta(seconds=n), body) for n, body in enumerate(bodies)],
    )


def make_ticks(
    fence: FeedFence,
    *quotes: Quote | str,
    frames: FrameBatch | None = None,
    states: tuple[FeedSymbolState, ...] = (),
    shard: int = 0,
) -> Entry:
    """One frame a tick, each the first of its frame."""
    made = frames or make_frames(*(b'{"n":%d}' % n for n in range(len(quotes) or 1)))
    drafts = [
        make_draft(_quote(quote), _raw_of(made, index), 0, shard, RECORDED_AT)
        for index, quote in enumerate(quotes)
    ]
    return Entry(made, tuple(drafts), fence, states)


def _raw_of(frames: FrameBatch, index: int) -> RawResponse:
    return make_raw(
        id=frame_id(frames.id, index),
        provider=frames.provider,
        fetched_at=frames.frames[index][0],
    )


def make_draft(
    quote: Quote, raw: RawResponse, position: int, shard: int, recorded_at: datetime
) -> Draft:
    value, headers = encode_price_event(quote, provider=raw.provider, raw_response_id=raw.id)
    return Draft(
        quote=quote,
        raw_response_id=raw.id,
        position=position,
        provider=raw.provider,
        shard=shard,
        value=value,
        headers=headers,
        fetched_at=raw.fetched_at,
        recorded_at=recorded_at,
    )


def make_publication(event_id: EventId, offset: int | None = 0, **changes: Any) -> Publication:
    given: dict[str, Any] = {
        "generation": 1,
        "topic": "price-events",
        "partition": 0,
        "published_at": PUBLISHED_AT,
    }
    return Publication(event_id, offset=offset, **given | changes)


def _quote(quote: Quote | str) -> Quote:
    return make_quote(quote) if isinstance(quote, str) else quote


def ids_of(results: Iterable[Written]) -> list[list[str]]:
    """The ids of what was recorded; none of it was overtaken."""
    found = []
    for written in results:
        assert not isinstance(written, Overtaken), written
        found.append([str(price.event_id) for price in written])
    return found


async def fetch_all(database: Database, statement: Executable) -> list[Any]:
    return await database.read(lambda connection: list(connection.execute(statement).all()))


async def execute(database: Database, statement: Executable) -> None:
    await database.write(Rank.OTHER, lambda connection: connection.execute(statement))


async def count(database: Database, table: FromClause) -> int:
    [[rows]] = await fetch_all(database, select(func.count()).select_from(table))
    return int(rows)


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Database]:
    """The database as one more process would open it."""
    database = open_database(database_url)
    try:
        yield database
    finally:
        await database.aclose()
