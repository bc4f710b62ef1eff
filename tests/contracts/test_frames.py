"""Ticks through the door: with their frames, once, in order, by the right of the feed's owner."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import delete, select, text

from pricewire.bootstrap import Services
from pricewire.bootstrap_frames import frames_kept_for
from pricewire.domain.event import EventId, RecordedPrice
from pricewire.domain.frames import FrameBatch, frame_id, new_batch_id
from pricewire.errors import FeedOvertaken, NotFound, RecordRefused, StoreUnavailable
from pricewire.kafka.codec import encode_price_event
from pricewire.services.feeds.kept import FeedFence, FeedSymbolState
from pricewire.services.receipts import Receipts
from pricewire.services.recording import Door, Entry, Overtaken, RecordingStore, Written
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.feeds import SqlFeeds
from pricewire.storage.frames import SqlFrames
from pricewire.storage.reads import SqlReads
from pricewire.storage.recording import COPY_FROM, SqlRecordingStore
from pricewire.storage.stored_prices import SqlStoredPrices
from pricewire.storage.tables import (
    events,
    feeds,
    outbox,
    prices,
    raw_frames,
    raw_responses,
)
from pricewire.web.app import create_app
from tests.builders import (
    FETCHED_AT,
    RECORDED_AT,
    count,
    execute,
    fetch_all,
    ids_of,
    make_entry,
    make_fetched,
    make_frames,
    make_quote,
    make_ticks,
    on_postgres,
    opened,
)
from tests.conftest import now
from tests.contracts.test_recording import locked_elsewhere

LEASE = timedelta(seconds=10)
WRITTEN = (raw_frames, prices, events, outbox)


async def fence_of(database: Database, owner: str = "one", seconds: float = 0) -> FeedFence:
    now = RECORDED_AT + timedelta(seconds=seconds)
    claim = await SqlFeeds(database).claim("coinbase", owner, now, LEASE)
    assert claim is not None
    return claim.fence


async def counts(database: Database) -> list[int]:
    return [await count(database, table) for table in WRITTEN]


def receipts_of(database: Database) -> Receipts:
    return Receipts(SqlReads(database), attempt=LEASE, attempts=3, clock=lambda: RECORDED_AT)


@asynccontextmanager
async def open_door(store: RecordingStore) -> AsyncIterator[Door]:
    door = Door(
        store,
        encode=encode_price_event,
        shard_of=len,
        clock=lambda: RECORDED_AT,
        committed=lambda _: None,
    )
    running = asyncio.create_task(door.run())
    yield door
    door.close()
    await running


def told(recorded: Sequence[RecordedPrice]) -> list[str]:
    return [str(price.event_id) for price in recorded]


def overtaken(written: Sequence[Written]) -> list[bool]:
    return [isinstance(one, Overtaken) for one in written]


class LosesOneAnswer(SqlRecordingStore):
    """The first commit succeeds, and nobody hears of it."""

    lost = False

    async def record(self, group: Sequence[Entry], *, again: bool = False) -> list[Written]:
        written = await super().record(group, again=again)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("connection lost during COMMIT")
        return written


async def test_ticks_are_numbered_in_their_order_and_name_the_frame_that_they_came_in(
    database: Database,
) -> None:
    frames = make_frames(b"[1,2,3]", b"heartbeat", b"[4]")
    quotes = [make_quote(name, str(n)) for n, name in enumerate(("BTC", "ETH", "BTC", "BTC"), 1)]
    ticks = [(0, quotes[0]), (0, quotes[1]), (0, quotes[2]), (2, quotes[3])]
    state = FeedSymbolState(symbol="BTC", last_number=4, ticks=3)
    fence = await fence_of(database)
    async with open_door(SqlRecordingStore(database)) as door:
        recorded = await door.record_frames(frames, ticks, fence, [state])
        assert door.recorded == 4
        assert door.latest["BTC"] == recorded[3]
    assert told(recorded) == ["BTC~1", "ETH~1", "BTC~2", "BTC~3"]
    rows = await fetch_all(
        database,
        select(prices)
        .join(
            outbox, (prices.c.symbol == outbox.c.symbol) & (prices.c.sequence == outbox.c.sequence)
        )
        .order_by(outbox.c.id),
    )
    first, last = frames.id, frame_id(frames.id, 2)
    assert [(row.raw_response_id, row.position, row.price, row.fetched_at) for row in rows] == [
        (first, 0, 1, FETCHED_AT),
        (first, 1, 2, FETCHED_AT),
        (first, 2, 3, FETCHED_AT),
        (last, 0, 4, FETCHED_AT + timedelta(seconds=2)),
    ]
    assert str(last).encode() in recorded[3].draft.value
    receipt = await receipts_of(database).receipt(EventId("BTC", 3))
    assert receipt.raw_response_id == last
    assert await SqlFeeds(database).symbols("coinbase") == [state]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"type":"match","price":"1.10"}\n', "application/json"),
        (b' [{"T":"t"}]', "application/json"),
        (b"ping", "text/plain"),
        (b"\xff\x00\xfe", "application/octet-stream"),
        (b"", "text/plain"),
    ],
)
async def test_a_frame_is_found_by_its_id_as_it_came(
    database: Database, body: bytes, content_type: str
) -> None:
    frames = make_frames(b"{}", body, b"{}" * 500)
    fence = await fence_of(database)
    async with open_door(SqlRecordingStore(database)) as door:
        assert await door.record_frames(frames, [], fence) == []
    raw = await receipts_of(database).raw_response(frame_id(frames.id, 1))
    assert (raw.body, raw.provider, raw.url) == (body, "coinbase", "wss://vendor.test/feed")
    assert raw.fetched_at == FETCHED_AT + timedelta(seconds=1)
    assert dict(raw.headers) == {"content-type": content_type}
    with pytest.raises(NotFound, match="there is no raw response"):
        await receipts_of(database).raw_response(frame_id(frames.id, 3))
    assert await counts(database) == [1, 0, 0, 0]


async def test_a_frame_is_answered_with_what_is_known_of_it(database: Database) -> None:
    entry = make_ticks(await fence_of(database), "BTC")
    await SqlRecordingStore(database).record([entry])
    services = SimpleNamespace(receipts=receipts_of(database), topic="price-events", source=None)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    path = f"/v1/raw-responses/{entry.raw.id}"
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b""}
    await create_app(cast("Services", services))(scope | {"headers": []}, receive, send)
    assert (sent[0]["status"], sent[1]["body"]) == (200, b'{"n":0}')
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers["content-type"] == "application/json"
    assert {name: value for name, value in headers.items() if name.startswith("pw-")} == {
        "pw-provider": "coinbase",
        "pw-url": "wss://vendor.test/feed",
        "pw-status": "101",
        "pw-fetched-at": "2024-03-20T10:30:01.123456Z",
    }


async def test_after_an_unknown_commit_frames_and_polled_prices_are_recorded_once(
    database: Database,
) -> None:
    fence = await fence_of(database)
    frames = make_frames(b"a", b"b")
    ticks = [(0, make_quote("BTC")), (1, make_quote("AAPL")), (1, make_quote("BTC"))]
    state = FeedSymbolState(symbol="BTC", ticks=2)
    async with open_door(LosesOneAnswer(database)) as door:
        outcomes = await asyncio.gather(
            door.record(make_fetched("AAPL")),
            door.record_frames(frames, ticks, fence, [state]),
            door.record_frames(make_frames(b"c"), [], fence),
            door.record(make_fetched("AAPL")),
        )
        # Whoever never got an answer at all may bring the same batch again.
        assert told(await door.record_frames(frames, ticks, fence, [state])) == told(outcomes[1])
    assert [told(one) for one in outcomes] == [
        ["AAPL~1"],
        ["BTC~1", "AAPL~2", "BTC~2"],
        [],
        ["AAPL~3"],
    ]
    assert await counts(database) == [2, 5, 5, 5]
    assert await count(database, raw_responses) == 2
    assert await SqlFeeds(database).symbols("coinbase") == [state]


async def test_who_was_succeeded_records_no_tick_but_its_frames_are_kept(
    database: Database,
) -> None:
    frozen = await fence_of(database)
    successor = await fence_of(database, "two", 10)
    store = SqlRecordingStore(database)
    mine = FeedSymbolState(symbol="BTC", ticks=1)
    late = make_ticks(frozen, "BTC", states=(replace(mine, ticks=99),))
    group = [
        make_entry("AAPL"),
        late,
        make_ticks(successor, "BTC", states=(mine,)),
        make_ticks(frozen),
    ]
    written = await store.record(group)
    assert overtaken(written) == [False, True, False, True]
    assert ids_of([written[0], written[2]]) == [["AAPL~1"], ["BTC~1"]]
    assert await counts(database) == [3, 2, 2, 2]
    # Tried again it is kept once.
    assert overtaken(await store.record([late], again=True)) == [True]
    assert (await counts(database))[0] == 3
    assert await SqlFeeds(database).symbols("coinbase") == [mine]
    raw = await receipts_of(database).raw_response(late.raw.id)
    assert raw.body == b'{"n":0}'


async def test_the_door_tells_an_owner_that_was_succeeded_and_records_strangers(
    database: Database,
) -> None:
    frozen = await fence_of(database)
    await fence_of(database, "two", 10)
    async with open_door(SqlRecordingStore(database)) as door:
        outcomes = await asyncio.gather(
            door.record_frames(make_frames(b"a"), [(0, make_quote("BTC"))], frozen),
            door.record(make_fetched("BTC")),
            door.record(make_fetched("BTC"), frozen, [FeedSymbolState(symbol="BTC")]),
            return_exceptions=True,
        )
    assert [type(one) for one in outcomes] == [FeedOvertaken, list, FeedOvertaken]
    assert await counts(database) == [1, 1, 1, 1]
    assert await SqlFeeds(database).symbols("coinbase") == []


@pytest.mark.parametrize("how", ["claimed", "gone"])
async def test_what_an_unknown_commit_recorded_is_found_although_the_fence_fell_since(
    database: Database, how: str
) -> None:
    store = SqlRecordingStore(database)
    entry = make_ticks(await fence_of(database), "BTC", "ETH")
    first = await store.record([entry])
    if how == "claimed":
        await fence_of(database, "two", 10)
    else:
        await execute(database, delete(feeds))
    assert await store.record([entry], again=True) == first
    assert overtaken(await store.record([make_ticks(FeedFence("coinbase", 1), "BTC")])) == [True]
    assert (await counts(database))[1:] == [2, 2, 2]


async def test_prices_that_fill_a_gap_are_recorded_by_the_same_right_with_the_states(
    database: Database,
) -> None:
    fence = await fence_of(database)
    state = FeedSymbolState(symbol="BTC", filled=2)
    async with open_door(SqlRecordingStore(database)) as door:
        recorded = await door.record(make_fetched("BTC", "BTC"), fence, [state])
    assert told(recorded) == ["BTC~1", "BTC~2"]
    assert await SqlFeeds(database).symbols("coinbase") == [state]


@pytest.mark.parametrize("ticks", [3, COPY_FROM + 1])
async def test_however_many_ticks_a_batch_has_each_is_kept_as_it_was_and_once(
    database: Database, ticks: int
) -> None:
    store = SqlRecordingStore(database)
    quotes = [
        make_quote(
            f"S{n % 3}",
            f"{n + 1}.50",
            timestamp=RECORDED_AT + timedelta(microseconds=n),
            currency="USD" if n % 2 else None,
            adjusted=(None, True, False)[n % 3],
            exchange="é" if n % 5 else None,
        )
        for n in range(ticks)
    ]
    entry = make_ticks(await fence_of(database), *quotes, shard=4)
    first = await store.record([entry, make_entry("S0")])
    with pytest.raises(RecordRefused):
        await store.record([entry])
    assert await store.record([entry], again=True) == first[:1]
    assert await counts(database) == [1, ticks + 1, ticks + 1, ticks + 1]
    rows = await fetch_all(database, select(outbox).order_by(outbox.c.id))
    ids = [f"{row.symbol}~{row.sequence}" for row in rows]
    assert ids == [one for some in ids_of(first) for one in some]
    assert {row.shard for row in rows} == {0, 4}
    stored = SqlStoredPrices(database, lambda _: 4)
    assert not isinstance(first[0], Overtaken)
    for name in ("S1", "S2"):
        last = [one for one in first[0] if one.event_id.symbol == name][-1]
        assert await stored.last_recorded(name) == last


@on_postgres
async def test_feeds_and_polls_of_two_processes_neither_wait_in_a_circle_nor_mix_up(
    database: Database, database_url: str
) -> None:
    shuffled = random.Random(5)
    names = ["BTC", "ETH", "SOL", "XRP"]

    async def writer(store: SqlRecordingStore, fence: FeedFence) -> None:
        for _ in range(4):
            quotes = [make_quote(shuffled.choice(names)) for _ in range(40)]
            await store.record([make_ticks(fence, *quotes), make_entry(*shuffled.sample(names, 3))])

    fences = [await fence_of(database)]
    kraken = await SqlFeeds(database).claim("kraken", "two", RECORDED_AT, LEASE)
    assert kraken is not None
    fences.append(kraken.fence)
    async with opened(database_url) as second:
        stores = [SqlRecordingStore(one) for one in (database, second)]
        await asyncio.gather(*(writer(store, fence) for store in stores for fence in fences))
    found: dict[str, list[int]] = defaultdict(list)
    ordered = select(outbox.c.symbol, outbox.c.sequence).order_by(outbox.c.id)
    for symbol, sequence in await fetch_all(database, ordered):
        found[symbol].append(sequence)
    assert sum(map(len, found.values())) == 4 * 4 * 43
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in found.values())


async def sessions_that_wait(database: Database, count: int) -> None:
    """Return once so many sessions wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(5):
        while await fetch_all(database, waiting) != [(count,)]:  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.01)


@on_postgres
async def test_a_claim_waits_for_ticks_that_are_being_recorded_and_fences_those_after(
    database: Database, database_url: str
) -> None:
    fence = await fence_of(database)
    store = SqlRecordingStore(database)
    await store.record([make_entry("BTC")])
    async with opened(database_url) as second:
        async with locked_elsewhere(database_url, "BTC"):
            recording = asyncio.create_task(store.record([make_ticks(fence, "BTC")]))
            await sessions_that_wait(database, 1)
            claiming = asyncio.create_task(fence_of(second, "two", 10))
            await sessions_that_wait(database, 2)
        assert ids_of(await recording) == [["BTC~2"]]
        assert (await claiming).epoch == 2
    assert overtaken(await store.record([make_ticks(fence, "BTC")])) == [True]


def made_before(days: int) -> FrameBatch:
    """A batch as it would have been made so many days before now."""
    frames = make_frames(b"{}")
    made = UUID(int=frames.id.int - (days * 86_400_000 << 80))
    return replace(frames, id=new_batch_id(made))


async def test_old_frames_go_young_ones_and_all_prices_stay(database: Database) -> None:
    fence = await fence_of(database)
    young = make_ticks(fence, "BTC", frames=made_before(29))
    old = [make_ticks(fence, "BTC", frames=made_before(31)) for _ in range(3)]
    await SqlRecordingStore(database).record([*old, young])
    before = now() - timedelta(days=30)
    store = SqlFrames(database)
    assert [await store.delete_before(before, 2) for _ in range(3)] == [2, 1, 0]
    assert await counts(database) == [1, 4, 4, 4]
    receipts = receipts_of(database)
    assert (await receipts.raw_response(young.raw.id)).body == b"{}"
    with pytest.raises(NotFound, match=r"not kept any more.*RAW_FRAMES_DAYS"):
        await receipts.raw_response(old[0].raw.id)
    assert (await receipts.receipt(EventId("BTC", 1))).raw_response_id == old[0].raw.id


async def test_the_service_deletes_old_frames_unless_they_are_kept_for_ever(
    database: Database,
) -> None:
    fence = await fence_of(database)
    old = make_ticks(fence, "BTC", frames=made_before(3))
    await SqlRecordingStore(database).record([old, make_ticks(fence, frames=made_before(1))])
    async with frames_kept_for(Settings(raw_frames_days=0), database, now):
        await asyncio.sleep(0)
    assert await count(database, raw_frames) == 2
    async with frames_kept_for(Settings(raw_frames_days=2), database, now):
        async with asyncio.timeout(5):
            while await count(database, raw_frames) == 2:  # noqa: ASYNC110 - not ours
                await asyncio.sleep(0.01)
    assert await count(database, raw_frames) == 1
