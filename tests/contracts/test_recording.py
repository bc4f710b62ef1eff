"""The door's store: one transaction, numbers without gaps, nobody waits for the frozen."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import asyncpg
import pytest
from sqlalchemy import delete, select, text

from pricewire.domain.quote import price_text
from pricewire.errors import RecordRefused, StoreBusy
from pricewire.services.recording import Entry
from pricewire.storage.database import Database
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import events, outbox, prices, raw_responses, symbols
from tests.builders import (
    count,
    execute,
    fetch_all,
    ids_of,
    make_entry,
    make_quote,
    make_raw,
    on_postgres,
    opened,
)

WRITTEN = (raw_responses, prices, events, outbox)


async def sequences_in_outbox_order(database: Database) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    ordered = select(outbox.c.symbol, outbox.c.sequence).order_by(outbox.c.id)
    for symbol, sequence in await fetch_all(database, ordered):
        found[symbol].append(sequence)
    return dict(found)


@asynccontextmanager
async def locked_elsewhere(database_url: str, symbol: str) -> AsyncIterator[None]:
    """Another transaction holds the symbol's row and goes on for ever."""
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT FROM symbols WHERE symbol = $1 FOR UPDATE", symbol)
    try:
        yield
    finally:
        await transaction.rollback()
        await connection.close()


async def test_each_symbol_is_counted_by_one_across_groups(database: Database) -> None:
    store = SqlRecordingStore(database)
    first = await store.record([make_entry("AAPL", "MSFT", "AAPL"), make_entry("AAPL")])
    second = await store.record([make_entry("MSFT", "AAPL")])
    assert ids_of(first) == [["AAPL~1", "MSFT~1", "AAPL~2"], ["AAPL~3"]]
    assert ids_of(second) == [["MSFT~2", "AAPL~4"]]


async def test_counting_goes_on_after_a_restart(database: Database) -> None:
    await SqlRecordingStore(database).record([make_entry("AAPL")])
    after = await SqlRecordingStore(database).record([make_entry("AAPL")])
    assert ids_of(after) == [["AAPL~2"]]


async def test_concurrent_groups_leave_no_gap(database: Database) -> None:
    stores = [SqlRecordingStore(database) for _ in range(3)]
    groups = [[make_entry("AAPL", "MSFT"), make_entry("AAPL")] for _ in range(12)]
    await asyncio.gather(*(stores[n % 3].record(group) for n, group in enumerate(groups)))
    assert await sequences_in_outbox_order(database) == {
        "AAPL": list(range(1, 25)),
        "MSFT": list(range(1, 13)),
    }


@on_postgres
async def test_two_processes_that_name_symbols_in_any_order_neither_wait_nor_mix_up(
    database: Database, database_url: str
) -> None:
    shuffled = random.Random(7)

    async def writer(store: SqlRecordingStore) -> None:
        for round_number in range(5):
            names = ["AAPL", "MSFT", "IBM", f"NEW{round_number}", f"ALSO{round_number}"]
            shuffled.shuffle(names)
            await store.record([make_entry(name) for name in names])

    async with opened(database_url) as second:
        stores = [SqlRecordingStore(one) for one in (database, second)]
        await asyncio.gather(*(writer(store) for store in stores * 4))
    found = await sequences_in_outbox_order(database)
    assert found["AAPL"] == found["MSFT"] == found["IBM"] == list(range(1, 41))
    assert {len(numbers) for name, numbers in found.items() if name[-1].isdigit()} == {8}
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in found.values())


@pytest.mark.parametrize(
    "digits",
    ["112.1300", "0.00000001", "109631.43060700", "12345678901234567.890123", "1E-8", "100"],
)
async def test_digits_come_back_as_they_went_in(database: Database, digits: str) -> None:
    quote = make_quote(price=digits)
    await SqlRecordingStore(database).record([make_entry(quote)])
    [[price]] = await fetch_all(database, select(prices.c.price))
    assert price_text(price) == price_text(quote.price)


async def test_times_come_back_with_their_microseconds_and_in_utc(database: Database) -> None:
    market = datetime(2024, 3, 20, 10, 30, 0, 1, tzinfo=UTC)
    fetched = datetime(2024, 3, 20, 10, 30, 1, 999_999, tzinfo=UTC)
    recorded = datetime(2024, 3, 20, 10, 30, 2, tzinfo=UTC)
    entry = make_entry(
        make_quote(timestamp=market), raw=make_raw(fetched_at=fetched), recorded_at=recorded
    )
    await SqlRecordingStore(database).record([entry])
    [price] = await fetch_all(database, select(prices))
    [event] = await fetch_all(database, select(events))
    found = (price.timestamp, price.fetched_at, event.recorded_at)
    assert found == (market, fetched, recorded)
    assert {one.tzinfo for one in found} == {UTC}


def with_the_same_raw_response() -> list[Entry]:
    raw = make_raw()
    return [make_entry("AAPL", raw=raw), make_entry("MSFT", raw=raw)]


def with_a_row_that_fails_last() -> list[Entry]:
    bad = make_entry("MSFT")
    no_shard = replace(bad.drafts[0], shard=cast("int", None))
    return [make_entry("AAPL"), replace(bad, drafts=(no_shard,))]


@pytest.mark.parametrize("bad_group", [with_the_same_raw_response, with_a_row_that_fails_last])
async def test_a_group_with_a_bad_row_leaves_nothing_behind(
    database: Database, bad_group: object
) -> None:
    assert callable(bad_group)
    store = SqlRecordingStore(database)
    with pytest.raises(RecordRefused):
        await store.record(bad_group())
    assert [await count(database, table) for table in WRITTEN] == [0, 0, 0, 0]
    assert ids_of(await store.record([make_entry("AAPL", "MSFT")])) == [["AAPL~1", "MSFT~1"]]


async def test_what_was_recorded_is_found_and_only_the_rest_is_recorded(
    database: Database,
) -> None:
    store = SqlRecordingStore(database)
    there, new = make_entry("AAPL", "MSFT"), make_entry("AAPL")
    first = await store.record([there])
    second = await SqlRecordingStore(database).record([there, new], again=True)
    assert second[0] == first[0]
    assert ids_of(second) == [["AAPL~1", "MSFT~1"], ["AAPL~2"]]
    assert [await count(database, table) for table in WRITTEN] == [2, 3, 3, 3]


async def test_without_again_the_same_raw_response_is_refused(database: Database) -> None:
    store = SqlRecordingStore(database)
    entry = make_entry("AAPL")
    await store.record([entry])
    with pytest.raises(RecordRefused):
        await store.record([entry])
    assert ids_of(await store.record([make_entry("AAPL")])) == [["AAPL~2"]]


async def test_symbols_that_the_database_lost_are_made_anew(database: Database) -> None:
    store = SqlRecordingStore(database)
    with pytest.raises(RecordRefused):
        await store.record(with_the_same_raw_response())
    await execute(database, delete(symbols))
    with pytest.raises(StoreBusy):
        await store.record([make_entry("AAPL")])
    assert ids_of(await store.record([make_entry("AAPL")], again=True)) == [["AAPL~1"]]


@on_postgres
@pytest.mark.parametrize(("again", "seconds"), [(False, 2.5), (True, 1)])
async def test_a_locked_symbol_is_busy_soon_and_holds_up_no_other(
    database: Database, database_url: str, again: bool, seconds: float
) -> None:
    store = SqlRecordingStore(database)
    await store.record([make_entry("AAPL")])
    async with locked_elsewhere(database_url, "AAPL"):
        start = time.monotonic()
        busy = asyncio.create_task(store.record([make_entry("AAPL")], again=again))
        assert ids_of(await store.record([make_entry("MSFT")])) == [["MSFT~1"]]
        assert not busy.done() or again
        with pytest.raises(StoreBusy):
            await busy
        assert time.monotonic() - start < seconds
    assert ids_of(await store.record([make_entry("AAPL")])) == [["AAPL~2"]]


@on_postgres
async def test_a_process_frozen_in_its_transaction_loses_its_locks_to_those_who_wait(
    database: Database, database_url: str
) -> None:
    store = SqlRecordingStore(database)
    await store.record([make_entry("AAPL")])
    async with opened(database_url) as frozen:
        assert isinstance(frozen, PostgresDatabase)
        connection = await frozen._writers.connect()
        await connection.execute(text("SELECT FROM symbols WHERE symbol = 'AAPL' FOR UPDATE"))
        start = time.monotonic()
        assert ids_of(await store.record([make_entry("AAPL")])) == [["AAPL~2"]]
        assert 1 < time.monotonic() - start < 2.5
        await connection.invalidate()
        await connection.close()
