"""Past prices in the database: each once, numbered apart, waiting for a relay of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import select

from pricewire.domain.event import EventId, EventState
from pricewire.domain.past import PastPrice
from pricewire.domain.quote import Precision, Quote
from pricewire.errors import RecordRefused, StartupError, StoreBusy
from pricewire.kafka.codec import encode_price_event
from pricewire.services.history import HistoryDoor, PastDraft, Recorded
from pricewire.storage.database import Database
from pricewire.storage.event_tables import HISTORY, LIVE
from pricewire.storage.history import SqlHistoryStore
from pricewire.storage.outbox import SqlShards
from pricewire.storage.reads import OutboxDepth, SqlReads
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import (
    events,
    history_outbox,
    history_prices,
    history_publications,
    outbox,
    raw_responses,
)
from tests.builders import (
    MARKET_TIME,
    RECORDED_AT,
    count,
    fetch_all,
    make_entry,
    make_publication,
    make_quote,
    make_raw,
    on_postgres,
    opened,
)


def door(database: Database, woken: list[set[int]] | None = None) -> HistoryDoor:
    return HistoryDoor(
        SqlHistoryStore(database),
        encode=encode_price_event,
        shard_of=lambda symbol: len(symbol) % 2,
        clock=lambda: RECORDED_AT,
        committed=(woken if woken is not None else []).append,
    )


async def record(database: Database, *prices: PastPrice | Quote, **changes: Any) -> Recorded:
    past = [one if isinstance(one, PastPrice) else PastPrice(one) for one in prices]
    return await door(database).record(make_raw(**changes), past)


def trade(price: str = "1640.25", size: str = "1", *, symbol: str = "ES", **changes: Any) -> Quote:
    return make_quote(symbol, price, size=Decimal(size), **changes)


async def test_a_past_price_is_kept_with_all_that_is_known_of_it(database: Database) -> None:
    quote = trade(
        "0.000000012300",
        "8.50",
        nanosecond=7,
        precision=Precision.NANOSECOND,
        currency="GBp",
        trade_id="t-1",
    )
    raw = make_raw(b"time,price\n...", provider="vendor file")
    recorded = await door(database).record(raw, [PastPrice(quote)])
    assert recorded == Recorded(1, 0, raw.id, *[EventId("ES", 1, backfilled=True)] * 2)
    [row] = await fetch_all(database, select(history_prices))
    assert (row.symbol, row.sequence, row.position, row.provider) == ("ES", 1, 0, "vendor file")
    assert (str(row.price), str(row.size)) == ("1.2300E-8", "8.50")
    assert (row.timestamp, row.nanosecond) == (MARKET_TIME, 7)
    assert (row.precision, row.currency, row.trade_id) == ("nanosecond", "GBp", "t-1")
    assert (row.raw_response_id, row.recorded_at) == (raw.id, RECORDED_AT)
    assert b'"price":0.000000012300,' in row.value
    kept = await SqlReads(database).raw_response(raw.id)
    assert kept == raw


async def test_past_prices_are_numbered_apart_and_wait_in_an_outbox_of_their_own(
    database: Database,
) -> None:
    await SqlRecordingStore(database).record([make_entry("ES", "ES")])
    woken: list[set[int]] = []
    prices = [PastPrice(trade(price)) for price in ("1", "2", "3")]
    recorded = await door(database, woken).record(make_raw(), prices)
    assert (str(recorded.first), str(recorded.last)) == ("ES~h1", "ES~h3")
    assert woken == [{0}]
    async with SqlShards(database).hold(0) as live, SqlShards(database, HISTORY).hold(0) as past:
        assert live is not None
        assert past is not None
        assert [str(event.event_id) for event in await live.waiting(9)] == ["ES~1", "ES~2"]
        waiting = await past.waiting(9)
        assert [str(event.event_id) for event in waiting] == ["ES~h1", "ES~h2", "ES~h3"]
        assert {event.type for event in waiting} == {"price.backfilled"}
        # An id of the other series is not known here: it would be another price.
        asked = [EventId("ES", 1), EventId("ES", 2, backfilled=True)]
        assert list(await live.lookup(asked)) == [asked[0]]
        assert list(await past.lookup(asked)) == [asked[1]]
        published = make_publication(waiting[0].event_id, 5, topic="price-history")
        await past.mark({waiting[0].outbox_id: published}, None)
        assert len(await live.waiting(9)) == 2
    assert [await count(database, table) for table in (history_outbox, outbox)] == [2, 2]
    reads = SqlReads(database)
    assert await reads.outbox_depth(HISTORY) == OutboxDepth(2, RECORDED_AT)
    [first, second] = [await reads.receipt(EventId("ES", n, backfilled=True)) for n in (1, 2)]
    assert first is not None
    assert second is not None
    assert first.receipt.publication == published
    assert first.receipt.type == "price.backfilled"
    assert (first.receipt.state, second.receipt.state) == (EventState.PUBLISHED, EventState.QUEUED)
    assert await reads.receipt(EventId("ES", 4, backfilled=True)) is None


async def test_the_same_again_is_nothing_new_and_leaves_no_raw_response(
    database: Database,
) -> None:
    prices = [PastPrice(trade(str(n))) for n in range(1, 6)]
    assert (await door(database).record(make_raw(), prices)).recorded == 5
    assert await door(database).record(make_raw(), prices) == Recorded(0, 5)
    overlapping = [*prices[3:], PastPrice(trade("6"))]
    again = await door(database).record(make_raw(), overlapping)
    assert (again.recorded, again.repeated, str(again.first)) == (1, 2, "ES~h6")
    assert [await count(database, table) for table in (history_prices, raw_responses)] == [6, 2]
    [row] = await fetch_all(database, select(history_prices).where(history_prices.c.sequence == 6))
    assert row.position == 2


async def test_equal_trades_are_all_kept_and_a_row_that_is_given_twice_is_one(
    database: Database,
) -> None:
    one, other = PastPrice(trade(), 0), PastPrice(trade(), 1)
    assert (await record(database, one, other, one)).recorded == 2
    assert (await record(database, other, PastPrice(trade(), 2))).recorded == 1
    assert await count(database, history_prices) == 3


@pytest.mark.parametrize(
    "other",
    [
        trade("1640.50"),
        trade(size="2"),
        trade(symbol="NQ"),
        trade(trade_id="1"),
        trade(nanosecond=1),
        trade(timestamp=MARKET_TIME + timedelta(microseconds=1)),
    ],
)
async def test_what_differs_in_a_member_is_another_price(database: Database, other: Quote) -> None:
    assert (await record(database, trade(), other)).recorded == 2


async def test_another_source_is_another_price_and_zeros_at_the_end_are_none(
    database: Database,
) -> None:
    assert (await record(database, trade("1640.250", "1.0"))).recorded == 1
    assert (await record(database, trade("1640.25", "1"))).recorded == 0
    assert (await record(database, trade(), provider="other")).recorded == 1
    [first, _] = await fetch_all(
        database, select(history_prices).order_by(history_prices.c.sequence)
    )
    assert str(first.price) == "1640.250"


async def test_importers_of_the_same_at_once_record_it_once_without_gaps(
    database: Database, database_url: str
) -> None:
    prices = [PastPrice(trade(str(n), symbol=("ES", "NQ")[n % 2])) for n in range(1, 301)]
    chunks = [prices[start : start + 100] for start in range(0, 300, 50)]

    async def bring(at: Database, order: Sequence[int]) -> None:
        for place in order:
            await door(at).record(make_raw(), chunks[place])

    if database.is_sqlite:
        await asyncio.gather(bring(database, range(6)), bring(database, range(5, -1, -1)))
    else:
        async with opened(database_url) as second:
            await asyncio.gather(bring(database, range(6)), bring(second, range(5, -1, -1)))
    rows = await fetch_all(database, select(history_prices.c.symbol, history_prices.c.sequence))
    assert sorted(map(tuple, rows)) == [
        (symbol, n) for symbol in ("ES", "NQ") for n in range(1, 151)
    ]
    waiting = await fetch_all(
        database,
        select(history_outbox.c.sequence)
        .where(history_outbox.c.symbol == "ES")
        .order_by(history_outbox.c.id),
    )
    assert [row[0] for row in waiting] == list(range(1, 151))


async def test_what_fails_in_the_middle_leaves_nothing_behind(database: Database) -> None:
    store = SqlHistoryStore(database)
    await record(database, trade("1"))
    raw = make_raw()
    [good] = make_entry(trade("2"), raw=raw).drafts
    # The outbox is written last.
    bad = [PastDraft(replace(good, shard=cast("int", None)), b"i" * 16)]
    with pytest.raises(RecordRefused):
        await store.record(raw, bad)
    tables = (history_prices, history_outbox, raw_responses)
    assert [await count(database, table) for table in tables] == [1, 1, 1]
    assert (await record(database, trade("3"))).last == EventId("ES", 2, backfilled=True)
    assert await store.record(make_raw(), []) == []


@on_postgres
async def test_a_symbol_that_somebody_imports_for_long_is_busy(
    database: Database, database_url: str
) -> None:
    await record(database, trade())
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM history_symbols WHERE symbol = 'ES' FOR UPDATE")
            with pytest.raises(StoreBusy):
                await record(database, trade("2"))
            # Live prices of the symbol have another lock.
            await SqlRecordingStore(database).record([make_entry("ES")])
    finally:
        await other.close()


async def test_waiting_past_prices_hold_the_number_of_partitions(database: Database) -> None:
    reads = SqlReads(database)
    await reads.adopt_partitions(6)
    await record(database, trade())
    with pytest.raises(StartupError, match="1 events wait"):
        await reads.adopt_partitions(12)


@on_postgres
async def test_the_shards_of_the_two_topics_have_owners_of_their_own(
    database: Database, database_url: str
) -> None:
    assert LIVE.lock_class != HISTORY.lock_class
    async with opened(database_url) as second, SqlShards(database, HISTORY).hold(3) as owner:
        assert owner is not None
        async with SqlShards(second).hold(3) as live, SqlShards(second, HISTORY).hold(3) as past:
            assert live is not None
            assert past is None


async def test_live_prices_are_not_touched(database: Database) -> None:
    await SqlRecordingStore(database).record([make_entry("ES")])
    before = await fetch_all(database, select(events))
    await record(database, *(replace(trade(), symbol=f"S{n}") for n in range(50)))
    assert await fetch_all(database, select(events)) == before
    assert await count(database, history_publications) == 0


async def test_a_large_answer_comes_in_several_calls_and_is_kept_once(database: Database) -> None:
    raw = make_raw()
    for first in (0, 2):
        prices = [PastPrice(trade(str(first + n))) for n in (1, 2)]
        assert (await door(database).record(raw, prices, first=first)).recorded == 2
    rows = await fetch_all(database, select(history_prices.c.position, history_prices.c.price))
    assert sorted((row.position, str(row.price)) for row in rows) == [
        *[(0, "1"), (1, "2"), (2, "3"), (3, "4")]
    ]
    assert await count(database, raw_responses) == 1
