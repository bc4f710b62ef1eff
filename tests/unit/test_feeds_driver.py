"""The driver of a feed against a vendor, a store and a door that fail in every way it knows of."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from pricewire.domain.stream_job import Want
from pricewire.errors import ProviderDown
from pricewire.services.feeds import intake as feed_intake
from pricewire.services.feeds.owner import LEASE, pause_after
from tests.fakes import in_virtual_time, until
from tests.feed_fakes import START, FakeVendor, Market, clock, running, want


async def begin(market: Market, *symbols: str, conflate: int = 0) -> None:
    market.run.want(want(*symbols, conflate=conflate))
    await until(lambda: market.subscribed)


@in_virtual_time
async def test_ticks_are_recorded_in_order_with_their_frames() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A", "B")
        for number in range(1, 51):
            market.vendor.tick("A", number)
            market.vendor.tick("B", 1000 + number)
        await until(lambda: len(market.door.quotes) == 100)
        status = market.run.status()
        assert status is not None
        assert (status.state, status.subscribed, status.gaps) == ("streaming", 2, 0)
    assert market.door.prices == {"A": list(range(1, 51)), "B": list(range(1001, 1051))}
    assert len(market.door.frames) == 101
    # They pass in batches: what comes while one is recorded is the next.
    assert len(market.door.batches) < 10
    assert market.feeds.owner is None
    assert market.feeds.status.ticks == 100
    assert market.feeds.status.state == "idle"


@in_virtual_time
async def test_a_frame_that_only_says_that_the_connection_lives_is_not_kept() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.socket.push({"heartbeat": 1})
        market.vendor.socket.push({"unreadable": 1})
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
    assert not any(b"heartbeat" in frame for frame in market.door.frames)
    assert any(b"unreadable" in frame for frame in market.door.frames)
    assert market.feeds.status.unreadable == 1


@in_virtual_time
async def test_after_a_cut_it_connects_again_and_names_what_is_missing() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1, 2)
        await until(lambda: len(market.door.quotes) == 2)
        market.vendor.socket.cut()
        await until(lambda: len(market.vendor.sockets) == 2 and market.subscribed)
        market.vendor.tick("A", 2, 5)
        await until(lambda: len(market.door.quotes) == 3)
    state = market.feeds.states["A"]
    assert market.door.prices == {"A": [1, 2, 5]}
    assert (state.missing, state.gaps, state.repeats) == (((3, 4),), 1, 1)
    status = market.feeds.status
    assert (status.connections, status.reconnects, status.missing) == (2, 1, 2)
    assert status.last_error == "provider_down: acme broke the connection"


@in_virtual_time
async def test_a_process_that_begins_again_knows_what_was_recorded() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
    second = market.process("two")
    second.want(want("A"))
    async with running(market, second):
        await until(lambda: len(market.vendor.sockets) == 2 and market.subscribed)
        market.vendor.tick("A", 1, 4)
        await until(lambda: len(market.door.quotes) == 2)
    assert market.door.prices == {"A": [1, 4]}
    assert market.feeds.states["A"].missing == ((2, 3),)


@in_virtual_time
async def test_what_passed_while_nobody_wanted_it_is_no_gap() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A", "B")
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
        market.run.want(want("B"))
        await until(lambda: "unsubscribe A" in market.vendor.texts)
        market.vendor.tick("A", 2)
        await asyncio.sleep(10)
        market.run.want(want("B") | {"A": Want(0, clock())})
        await until(lambda: "A" in market.vendor.socket.subscribed)
        market.vendor.tick("A", 1, 9)
        await until(lambda: len(market.door.quotes) == 2)
    assert len(market.vendor.sockets) == 1
    assert market.door.prices == {"A": [1, 9]}
    assert market.feeds.states["A"].gaps == 0


@in_virtual_time
async def test_jobs_are_followed_without_a_new_connection_and_within_the_vendors_pace() -> None:
    market = Market(messages_per_second=2)
    async with running(market):
        await begin(market, "A")
        market.run.want(want("A", "B"))
        market.run.want(want("B", "C"))
        await until(lambda: market.vendor.socket.subscribed == {"B", "C"})
    times = [at for at, _ in market.vendor.heard]
    assert all(after - before >= 0.5 for before, after in itertools.pairwise(times))
    assert len(market.vendor.sockets) == 1


@in_virtual_time
async def test_a_vendor_that_greets_is_waited_for() -> None:
    market = Market(FakeVendor(greets=True))
    async with running(market):
        market.run.want(want("A"))
        await until(lambda: market.vendor.texts == ["hello"])
        await asyncio.sleep(1)
        assert market.vendor.texts == ["hello"]
        market.vendor.socket.push({"ready": 1})
        await until(lambda: market.subscribed)


@in_virtual_time
async def test_a_vendor_that_confirms_nothing_is_taken_at_its_silence() -> None:
    market = Market(FakeVendor(confirms=False))
    async with running(market):
        await begin(market, "A")
        assert market.run.tally.state == "subscribing"
        await asyncio.sleep(2)
        assert market.run.tally.state == "streaming"


@in_virtual_time
async def test_silence_ends_the_connection_and_pings_are_no_silence() -> None:
    market = Market(silence_seconds=5)
    async with running(market):
        await begin(market, "A")
        for _ in range(10):
            await asyncio.sleep(2)
            market.vendor.socket.push(None)
        assert len(market.vendor.sockets) == 1
        await until(lambda: len(market.vendor.sockets) == 2, 10)
    assert market.feeds.status.last_error == "provider_down: acme was silent for 5 s"


@in_virtual_time
async def test_heartbeats_are_sent() -> None:
    market = Market(heartbeat_seconds=3, heartbeat="beat")
    async with running(market):
        await begin(market, "A")
        await asyncio.sleep(10)
    assert market.vendor.texts.count("beat") == 3


@in_virtual_time
async def test_a_connection_is_changed_before_the_vendor_ends_it() -> None:
    market = Market(lifetime_seconds=20)
    async with running(market):
        await begin(market, "A")
        await asyncio.sleep(50)
    assert len(market.vendor.sockets) == 3
    assert market.feeds.status.last_error is None


def test_pauses_grow_and_are_bounded() -> None:
    longest = [pause_after(failures, 1) for failures in range(30)]
    assert longest == sorted(longest)
    assert (longest[0], longest[-1]) == (0.25, 60)
    assert pause_after(3, 0) == pause_after(3, 1) / 2


@in_virtual_time
async def test_a_vendor_that_cannot_be_reached_is_asked_ever_less_often() -> None:
    market = Market()
    market.vendor.refuses.extend(ProviderDown("no", retry_after=0) for _ in range(12))
    async with running(market):
        market.run.want(want("A"))
        await asyncio.sleep(500)
        assert market.subscribed
    waits = [after - before for before, after in itertools.pairwise(market.vendor.opened_at)]
    assert waits[0] < 0.6
    assert 29 < waits[-1] < 61


@in_virtual_time
async def test_a_refused_key_is_not_tried_again_until_a_job_changes() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.socket.push({"bad key": 1})
        await asyncio.sleep(300)
        status = market.run.status()
        assert status is not None
        assert (len(market.vendor.sockets), status.state) == (1, "refused")
        assert status.last_error == "invalid_key: acme refuses the key"
        market.run.want(want("A", "B"))
        await until(lambda: len(market.vendor.sockets) == 2)


@in_virtual_time
async def test_a_refused_symbol_leaves_the_others() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A", "NOPE")
        market.vendor.socket.push({"refused": "NOPE"})
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
    assert market.feeds.status.last_error == "NOPE: unknown_symbol: acme knows no NOPE"


@in_virtual_time
async def test_a_database_that_is_away_loses_nothing_and_one_that_forgets_records_once() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.door.away = True
        market.vendor.tick("A", 1)
        await asyncio.sleep(3)
        market.vendor.tick("A", 2)
        market.door.away, market.door.forgets_answer = False, True
        await until(lambda: len(market.door.quotes) == 2)
        await asyncio.sleep(3)
    assert market.door.prices == {"A": [1, 2]}


@in_virtual_time
async def test_what_can_never_be_recorded_leaves_the_rest_of_its_batch() -> None:
    market = Market()
    market.door.refuses = {"BAD"}
    async with running(market):
        await begin(market, "A", "BAD")
        for number in range(1, 11):
            market.vendor.tick("A", number)
        market.vendor.tick("BAD", 1)
        market.vendor.tick("A", 11)
        await until(lambda: len(market.door.quotes) == 11)
    assert market.door.prices == {"A": list(range(1, 12))}
    assert len(market.door.frames) == 13
    assert market.feeds.states["A"].last_number == 11


@in_virtual_time
async def test_a_slow_database_pushes_back_and_past_a_bound_drops_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_intake, "MAX_WAITING_FRAMES", 100)
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
        market.door.away = True
        for number in range(2, 302):
            market.vendor.tick("A", number)
        await asyncio.sleep(5)
        assert market.run.waiting_frames == 100
        assert len(market.vendor.socket.frames) == 200
        status = market.run.status()
        assert status is not None
        assert status.state == "held up"
        first = market.vendor.socket
        await until(lambda: first.closed, 20)
        await asyncio.sleep(30)
        assert len(market.vendor.sockets) == 1
        market.door.away = False
        await until(lambda: len(market.vendor.sockets) == 2 and market.subscribed)
        market.vendor.tick("A", 302)
        await until(lambda: len(market.door.quotes) == 102)
    assert market.door.prices["A"] == [*range(1, 102), 302]
    assert market.feeds.states["A"].missing == ((102, 301),)
    assert market.feeds.status.dropped_connections == 1


@in_virtual_time
async def test_an_outbox_that_is_full_holds_the_feed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_intake, "MAX_WAITING_FRAMES", 50)
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
        market.outbox = 1_001
        await asyncio.sleep(1.5)
        for number in range(2, 100):
            market.vendor.tick("A", number)
        await asyncio.sleep(3)
        assert len(market.door.quotes) == 1
        market.outbox = 900
        await until(lambda: len(market.door.quotes) == 99)
    assert len(market.vendor.sockets) == 1
    assert market.feeds.states["A"].gaps == 0


@in_virtual_time
async def test_of_two_processes_one_has_the_feed_and_the_other_follows() -> None:
    market = Market()
    second = market.process("two")
    second.want(want("A"))
    async with running(market):
        await begin(market, "A")
        async with running(market, second):
            await asyncio.sleep(60)
            assert len(market.vendor.sockets) == 1
            market.run.want({})
            await until(lambda: len(market.vendor.sockets) == 2, 5)
            assert market.feeds.owner == "two"


@in_virtual_time
async def test_who_was_frozen_records_nothing_behind_its_successor() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1)
        await until(lambda: market.door.quotes)
        # As if the lease had passed meanwhile.
        claim = await market.feeds.claim("acme", "two", clock() + 2 * LEASE, LEASE)
        assert claim is not None
        market.vendor.tick("A", 2)
        await until(lambda: market.run.status() is None)
        assert market.vendor.socket.closed
    assert market.door.prices == {"A": [1]}
    assert market.feeds.owner == "two"


@in_virtual_time
async def test_a_lost_lease_is_noticed_though_no_tick_comes() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A")
        await until(lambda: market.door.frames)
        await market.feeds.claim("acme", "two", clock() + 2 * LEASE, LEASE)
        await until(lambda: market.run.status() is None, 10)


@in_virtual_time
async def test_a_stop_records_what_was_read() -> None:
    market = Market()
    market.door.seconds = 0.5
    async with running(market):
        await begin(market, "A")
        for number in range(1, 101):
            market.vendor.tick("A", number)
        await until(lambda: not market.vendor.socket.frames)
    assert market.door.prices == {"A": list(range(1, 101))}


@in_virtual_time
async def test_the_last_price_at_most_so_often_and_what_was_left_out_is_counted() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A", conflate=1000)
        for number in range(1, 36):
            market.vendor.tick("A", number)
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
    assert len(market.door.prices["A"]) == 5
    assert market.door.prices["A"][0] == 1
    assert market.door.prices["A"][-1] == 35
    state = market.feeds.states["A"]
    assert (state.ticks, state.conflated, state.gaps) == (5, 30, 0)
    # All frames are kept, and those of what was held once more beside it.
    assert len({frame for frame in market.door.frames if b"ticks" in frame}) == 35


@in_virtual_time
async def test_a_held_price_goes_out_at_a_stop_or_when_every_tick_is_wanted() -> None:
    market = Market()
    async with running(market):
        await begin(market, "A", conflate=60_000)
        market.vendor.tick("A", 1, 2)
        await until(lambda: not market.vendor.socket.frames)
        market.run.want(want("A"))
        market.vendor.tick("A", 3)
        await until(lambda: len(market.door.quotes) == 3)
        market.run.want(want("A", conflate=60_000))
        market.vendor.tick("A", 4, 5)
        await until(lambda: not market.vendor.socket.frames)
    assert market.door.prices == {"A": [1, 2, 3, 4, 5]}


@in_virtual_time
async def test_gaps_are_filled_and_what_nobody_has_is_given_up() -> None:
    market = Market(FakeVendor(fills=True, fillable={3, 4, 7}))
    async with running(market):
        await begin(market, "A")
        market.vendor.tick("A", 1, 2, 5, 9)
        await until(lambda: len(market.door.quotes) == 7, 30)
        await asyncio.sleep(10)
        market.vendor.tick("A", 10)
        await until(lambda: len(market.door.quotes) == 8)
    assert sorted(market.door.prices["A"]) == [1, 2, 3, 4, 5, 7, 9, 10]
    assert market.vendor.asked == [("A", 6, 8), ("A", 8, 8), ("A", 3, 4), ("A", 6, 6)]
    state = market.feeds.states["A"]
    assert (state.missing, state.filled, state.lost, state.gaps) == ((), 3, 2, 2)


def test_the_clock_of_these_tests_is_the_loops() -> None:
    assert timedelta(0) < LEASE
    assert START.tzinfo is not None
