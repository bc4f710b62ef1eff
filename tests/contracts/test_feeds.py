"""Owners of feeds: one at a time, each with an epoch of its own, and what they leave behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from pricewire.services.feeds.kept import FeedClaim, FeedFence, FeedStatus, FeedSymbolState
from pricewire.storage.database import Database
from pricewire.storage.feeds import SqlFeeds
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import feed_symbols, feeds
from tests.builders import RECORDED_AT, execute, fetch_all, make_ticks, on_postgres, opened

NOW = RECORDED_AT
LEASE = timedelta(seconds=10)

STATE = FeedSymbolState(
    symbol="BTC-USD",
    last_number=2**62,
    trade_ids=("a", "é"),
    missing=((3, 5), (9, 9)),
    ticks=7,
    repeats=1,
    conflated=2,
    gaps=2,
    lost=4,
    filled=3,
    last_timestamp=RECORDED_AT,
)


async def claimed(store: SqlFeeds, owner: str = "one", seconds: float = 0) -> FeedClaim:
    claim = await store.claim("coinbase", owner, NOW + timedelta(seconds=seconds), LEASE)
    assert claim is not None
    return claim


async def test_a_feed_has_one_owner_until_its_lease_is_over_or_given_back(
    database: Database,
) -> None:
    store = SqlFeeds(database)
    first = await claimed(store)
    assert (first.fence, first.symbols) == (FeedFence("coinbase", 1), ())
    assert await store.claim("coinbase", "two", NOW + timedelta(seconds=9), LEASE) is None
    assert await store.claim("kraken", "two", NOW, LEASE) is not None
    second = await claimed(store, "two", 10)
    assert second.fence.epoch == 2
    assert not await store.renew("coinbase", 1, NOW + 9 * LEASE, first.status)
    await store.release("coinbase", 1, first.status)
    assert await store.claim("coinbase", "three", NOW + timedelta(seconds=11), LEASE) is None
    assert await store.renew("coinbase", 2, NOW + 9 * LEASE, second.status)
    assert await store.claim("coinbase", "three", NOW + timedelta(seconds=60), LEASE) is None
    await store.release("coinbase", 2, second.status)
    assert (await claimed(store, "three", 61)).fence.epoch == 3


async def test_an_owner_that_lost_its_answer_takes_the_feed_again_with_a_new_epoch(
    database: Database,
) -> None:
    store = SqlFeeds(database)
    await claimed(store, "one")
    assert (await claimed(store, "one", 1)).fence.epoch == 2


@on_postgres
async def test_of_processes_that_claim_at_once_one_has_the_feed(
    database: Database, database_url: str
) -> None:
    async with opened(database_url) as second:
        stores = [SqlFeeds(one) for one in (database, second)] * 4
        for epoch in range(1, 5):
            claims = await asyncio.gather(
                *(store.claim("coinbase", str(n), NOW, LEASE) for n, store in enumerate(stores))
            )
            [mine] = [one for one in claims if one is not None]
            assert mine.fence.epoch == epoch
            await stores[0].release("coinbase", epoch, mine.status)


async def test_a_status_comes_back_as_it_was_told_with_its_owner(
    database: Database, database_url: str
) -> None:
    store = SqlFeeds(database)
    fresh = await claimed(store)
    told = replace(
        fresh.status, state="streaming", connected_since=NOW, rate=12.5, ticks=8, last_error="no"
    )
    assert await store.renew("coinbase", 1, NOW + 2 * LEASE, told)
    async with opened(database_url) as again:
        [status] = await SqlFeeds(again).statuses()
    assert status == replace(told, owner="one", epoch=1, leased_until=NOW + 2 * LEASE)
    await store.release("coinbase", 1, replace(told, state="stopped"))
    [after] = await store.statuses()
    assert (after.owner, after.leased_until, after.state) == (None, None, "stopped")
    assert (await claimed(store, "two")).status.ticks == 8


async def test_states_of_symbols_go_from_one_owner_to_the_next(database: Database) -> None:
    store = SqlFeeds(database)
    fence = (await claimed(store)).fence
    other = FeedSymbolState(symbol="ETH-USD")
    door = SqlRecordingStore(database)
    await door.record([make_ticks(fence, states=(STATE, other))])
    await door.record([make_ticks(fence, states=(replace(other, ticks=1),))])
    symbols = [STATE, replace(other, ticks=1)]
    assert await store.symbols("coinbase") == symbols
    assert await store.symbols("kraken") == []
    assert (await claimed(store, "two", 10)).symbols == tuple(symbols)


@pytest.mark.parametrize("text", ['{"provider":"coinbase"}', '{"provider":"coinbase","new":1}'])
async def test_statuses_and_states_of_other_versions_are_read(
    database: Database, text: str
) -> None:
    await execute(database, insert(feeds).values(provider="coinbase", epoch=4, status=text))
    state = text.replace("provider", "symbol").encode()
    values = {"provider": "coinbase", "symbol": "coinbase", "state": state}
    await execute(database, insert(feed_symbols).values(values))
    claim = await claimed(SqlFeeds(database))
    assert replace(claim.status, owner=None, epoch=0, leased_until=None) == FeedStatus(
        provider="coinbase"
    )
    assert claim.symbols == (FeedSymbolState(symbol="coinbase"),)
    assert await fetch_all(database, select(feeds.c.epoch)) == [(5,)]
