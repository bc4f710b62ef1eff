"""Stored prices come back as they were recorded; answers without a price are kept as well."""

from __future__ import annotations

from sqlalchemy import select

from pricewire.domain.quote import PriceKind
from pricewire.services.recording import Entry, Overtaken
from pricewire.storage.database import Database
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.stored_prices import SqlStoredPrices
from pricewire.storage.tables import events, prices, raw_responses
from tests.builders import count, fetch_all, ids_of, make_entry, make_quote, make_raw


async def test_the_last_price_of_a_symbol_comes_back_as_it_went_in(database: Database) -> None:
    quote = make_quote(
        "VOD.L",
        "72.8400",
        currency="GBp",
        kind=PriceKind.CLOSE,
        delayed=True,
        adjusted=False,
        exchange="LSE",
    )
    entries = [make_entry("VOD.L"), make_entry(quote, shard=3), make_entry("AAPL")]
    [_, written, _] = await SqlRecordingStore(database).record(entries)
    assert not isinstance(written, Overtaken)
    [recorded] = written
    stored = SqlStoredPrices(database, lambda _: 3)
    assert await stored.last_recorded("VOD.L") == recorded
    assert await stored.last_recorded("MSFT") is None


async def test_an_answer_without_a_price_is_kept_once_beside_others(database: Database) -> None:
    store = SqlRecordingStore(database)
    refusal = Entry(make_raw(b'{"Note":"wait"}', status=429), ())
    assert await store.record([refusal]) == [[]]
    others = [make_entry("AAPL"), Entry(make_raw(b"<html>"), ()), refusal]
    assert ids_of(await store.record(others, again=True)) == [["AAPL~1"], [], []]
    assert await count(database, raw_responses) == 3
    assert (await count(database, prices), await count(database, events)) == (1, 1)
    [[body]] = await fetch_all(
        database, select(raw_responses.c.body).where(raw_responses.c.id == refusal.raw.id)
    )
    assert body == b'{"Note":"wait"}'
