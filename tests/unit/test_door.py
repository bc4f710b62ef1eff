"""The door: groups, second tries, and nobody who waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from pricewire.domain.event import MAX_VALUE_BYTES, EventId, RecordedPrice
from pricewire.domain.quote import Fetched, Quote
from pricewire.errors import RecordRefused, ShuttingDown, StoreBusy, StoreUnavailable
from pricewire.kafka.codec import encode_price_event
from pricewire.services import recording
from pricewire.services.recording import Door, Encode, Entry
from tests.builders import RECORDED_AT, make_fetched, make_quote

Recorded = list[RecordedPrice]


class FakeStore:
    """Keeps what it records in memory; the gate holds it up, the other attributes make trouble."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []
        """The size of each group, and whether it was a second try."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.recorded: dict[UUID, Recorded] = {}
        self.last: Counter[str] = Counter()
        self.refused: dict[UUID, Exception] = {}
        self.away = False
        self.lose_next_answer = False

    async def record(self, group: Sequence[Entry], *, again: bool = False) -> list[Recorded]:
        self.calls.append((len(group), again))
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable("no connection")
        for entry in group:
            if entry.raw.id in self.refused:
                raise self.refused[entry.raw.id]
            assert again or entry.raw.id not in self.recorded, "recorded twice"
        results = [self.recorded.get(entry.raw.id) or self._number(entry) for entry in group]
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise StoreUnavailable("connection lost during COMMIT")
        return results

    def _number(self, entry: Entry) -> Recorded:
        prices = []
        for draft in entry.drafts:
            self.last[draft.quote.symbol] += 1
            event_id = EventId(draft.quote.symbol, self.last[draft.quote.symbol])
            prices.append(RecordedPrice(event_id, draft))
        self.recorded[entry.raw.id] = prices
        return prices


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def make_door(
    store: FakeStore,
    committed: Callable[[set[int]], None] = lambda _shards: None,
    encode: Encode = encode_price_event,
) -> Door:
    return Door(
        store,
        encode=encode,
        shard_of=len,
        clock=lambda: RECORDED_AT,
        committed=committed,
    )


@asynccontextmanager
async def running(door: Door) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(door.run())
    yield run
    door.close()
    await asyncio.wait_for(run, 5)


def start(*calls: Coroutine[Any, Any, Recorded]) -> list[asyncio.Task[Recorded]]:
    return [asyncio.create_task(call) for call in calls]


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def outcomes(tasks: Sequence[asyncio.Task[Recorded]]) -> list[object]:
    """Return what each call came to: its ids, or its error."""
    gathered = asyncio.gather(*tasks, return_exceptions=True)
    return [
        one if isinstance(one, BaseException) else [str(price.event_id) for price in one]
        for one in await asyncio.wait_for(gathered, 5)
    ]


async def test_whoever_arrives_during_a_commit_goes_into_the_next_group(store: FakeStore) -> None:
    door = make_door(store)
    async with running(door):
        store.gate.clear()
        calls = start(door.record(make_fetched("AAPL")))
        await settle()
        calls += start(*(door.record(make_fetched("AAPL")) for _ in range(5)))
        await settle()
        store.gate.set()
        assert await outcomes(calls) == [[f"AAPL~{n}"] for n in range(1, 7)]
    assert store.calls == [(1, False), (5, False)]


async def test_a_group_is_bounded(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_GROUP", 2)
    door = make_door(store)
    calls = start(*(door.record(make_fetched("AAPL")) for _ in range(5)))
    async with running(door):
        await outcomes(calls)
    assert [size for size, _ in store.calls] == [2, 2, 1]


async def test_a_group_is_bounded_by_its_prices_too(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_GROUP_PRICES", 3)
    door = make_door(store)
    calls = start(*(door.record(make_fetched("AAPL", "MSFT")) for _ in range(5)))
    async with running(door):
        await outcomes(calls)
    assert [size for size, _ in store.calls] == [2, 2, 1]


async def test_a_bad_member_fails_alone(store: FakeStore) -> None:
    door = make_door(store)
    bad, frozen = make_fetched("AAPL"), make_fetched("IBM")
    store.refused = {bad.raw.id: RecordRefused("bad"), frozen.raw.id: StoreBusy("locked")}
    calls = start(*(door.record(one) for one in (make_fetched("MSFT"), bad, frozen)))
    calls += start(door.record(make_fetched("AAPL")))
    async with running(door):
        first, second, third, fourth = await outcomes(calls)
    assert (first, fourth) == (["MSFT~1"], ["AAPL~1"])
    assert isinstance(second, RecordRefused)
    assert isinstance(third, StoreBusy)
    assert store.calls == [(4, False)] + 4 * [(1, True)]


async def test_the_rest_of_a_group_is_not_tried_while_the_database_is_away(
    store: FakeStore,
) -> None:
    door = make_door(store)
    store.away = True
    calls = start(*(door.record(make_fetched("AAPL")) for _ in range(3)))
    async with running(door):
        assert {type(one) for one in await outcomes(calls)} == {StoreUnavailable}
        assert store.calls == [(3, False), (1, True)]
        store.away = False
        assert await outcomes(start(door.record(make_fetched("AAPL")))) == [["AAPL~1"]]


async def test_what_was_recorded_although_the_answer_was_lost_is_found(store: FakeStore) -> None:
    door = make_door(store)
    store.lose_next_answer = True
    calls = start(door.record(make_fetched("AAPL", "MSFT")), door.record(make_fetched("AAPL")))
    async with running(door):
        assert await outcomes(calls) == [["AAPL~1", "MSFT~1"], ["AAPL~2"]]
    assert len(store.recorded) == 2
    assert (door.recorded, str(door.latest["AAPL"].event_id)) == (3, "AAPL~2")


async def test_closing_writes_who_is_inside_and_turns_later_ones_away(store: FakeStore) -> None:
    door = make_door(store)
    store.gate.clear()
    run = asyncio.create_task(door.run())
    inside = start(door.record(make_fetched("AAPL")))
    await settle()
    inside += start(door.record(make_fetched("AAPL")))
    await settle()
    door.close()
    door.close()
    with pytest.raises(ShuttingDown):
        await door.record(make_fetched("AAPL"))
    store.gate.set()
    assert await outcomes(inside) == [["AAPL~1"], ["AAPL~2"]]
    await asyncio.wait_for(run, 5)
    with pytest.raises(ShuttingDown):
        await door.record(make_fetched("AAPL"))


async def test_closing_a_full_door_lets_nobody_wait_for_ever(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING", 2)
    door = make_door(store)
    store.gate.clear()
    run = asyncio.create_task(door.run())
    calls = start(door.record(make_fetched("AAPL")))
    await settle()
    calls += start(*(door.record(make_fetched("AAPL")) for _ in range(4)))
    await settle()
    try:
        door.close()
        store.gate.set()
        await asyncio.wait_for(run, 5)
        done = await outcomes(calls)
        assert done[:3] == [["AAPL~1"], ["AAPL~2"], ["AAPL~3"]]
        assert {type(one) for one in done[3:]} == {StoreBusy}
    finally:
        run.cancel()
        await asyncio.wait([run])


async def test_a_bug_ends_the_door_loudly_and_nobody_waits_for_ever(store: FakeStore) -> None:
    door = make_door(store)
    store.gate.clear()
    buggy = make_fetched("AAPL")
    store.refused = {buggy.raw.id: RuntimeError("bug")}
    run = asyncio.create_task(door.run())
    calls = start(door.record(buggy))
    await settle()
    calls += start(door.record(make_fetched("AAPL")))
    await settle()
    store.gate.set()
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(run, 5)
    assert {type(one) for one in await outcomes(calls)} == {ShuttingDown}
    with pytest.raises(ShuttingDown):
        await door.record(make_fetched("AAPL"))
    door.close()


async def test_a_bug_with_a_full_door_lets_nobody_wait_for_ever(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING", 2)
    door = make_door(store)
    store.gate.clear()
    buggy = make_fetched("AAPL")
    store.refused = {buggy.raw.id: RuntimeError("bug")}
    run = asyncio.create_task(door.run())
    calls = start(door.record(buggy))
    await settle()
    calls += start(*(door.record(make_fetched("AAPL")) for _ in range(4)))
    await settle()
    store.gate.set()
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(run, 5)
    assert {type(one) for one in await outcomes(calls)} == {ShuttingDown, StoreBusy}


async def test_cancelled_callers_disturb_nobody(store: FakeStore) -> None:
    door = make_door(store)
    async with running(door):
        store.gate.clear()
        inside = start(door.record(make_fetched("AAPL")))
        await settle()
        waiting = start(*(door.record(make_fetched("AAPL")) for _ in range(3)))
        await settle()
        inside[0].cancel()
        waiting[1].cancel()
        await settle()
        store.gate.set()
        first, second, third = await outcomes(waiting)
        assert (first, third) == (["AAPL~2"], ["AAPL~4"])
        assert isinstance(second, asyncio.CancelledError)
    assert door.recorded == 4


async def test_a_value_above_the_bound_is_refused_before_it_is_recorded(store: FakeStore) -> None:
    def encode(
        quote: Quote, *, provider: str, raw_response_id: UUID
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        return b"x" * (MAX_VALUE_BYTES + (quote.symbol == "BIG")), ()

    door = make_door(store, encode=encode)
    async with running(door):
        with pytest.raises(RecordRefused, match="BIG"):
            await door.record(make_fetched("BIG"))
        await door.record(make_fetched("FITS"))
    assert store.calls == [(1, False)]


async def test_the_last_price_of_each_symbol_and_their_number_are_kept(store: FakeStore) -> None:
    door = make_door(store)
    quotes = [make_quote("AAPL", price) for price in ("1", "2", "3")]
    async with running(door):
        await door.record(make_fetched(quotes[0], "MSFT", quotes[1]))
        [price] = await door.record(make_fetched(quotes[2]))
    assert door.latest["AAPL"] == price
    assert {symbol: str(one.event_id) for symbol, one in door.latest.items()} == {
        "AAPL": "AAPL~3",
        "MSFT": "MSFT~1",
    }
    assert door.recorded == 4


async def test_each_commit_tells_the_shards_that_have_news(store: FakeStore) -> None:
    told: list[set[int]] = []
    door = make_door(store, told.append)
    bad = make_fetched("IBM")
    store.refused = {bad.raw.id: RecordRefused("bad")}
    async with running(door):
        await outcomes(start(*(door.record(make_fetched(one)) for one in ("AAPL", "T", "MSFT"))))
        await outcomes(start(door.record(make_fetched("T")), door.record(bad)))
    assert told == [{4, 1}, {1}]


async def test_an_answer_becomes_drafts_with_all_that_the_event_needs(store: FakeStore) -> None:
    door = make_door(store)
    fetched: Fetched = make_fetched("AAPL", "MSFT")
    async with running(door):
        first, second = await door.record(fetched)
    assert [first.draft.position, second.draft.position] == [0, 1]
    assert first.draft.quote is fetched.quotes[0]
    assert first.draft.raw_response_id == fetched.raw.id
    assert first.draft.provider == fetched.raw.provider
    assert (first.draft.fetched_at, first.draft.recorded_at) == (
        fetched.raw.fetched_at,
        RECORDED_AT,
    )
