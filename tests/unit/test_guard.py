"""The guard: what is counted, how long one waits, what is tried again, and what is kept."""

from __future__ import annotations

import asyncio

import pytest

from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    ProviderTimedOut,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.services.breaker import COOL_OFF_SECONDS, FAILURES, BreakerState
from pricewire.services.guard import MAX_REFUSED, REFUSED_SECONDS, Guard
from pricewire.services.retrying import MAX_CALLS, wait_before_retry
from tests.fakes import in_virtual_time
from tests.vendor_fakes import Market, Vendor, market


def seconds() -> float:
    return asyncio.get_running_loop().time()


async def asked(
    guard: Guard, symbol: str = "AAPL", within: float = 15, *, patient: bool = True
) -> str:
    """Ask once; return the error's code, or `price`."""
    try:
        await guard.ask((symbol,), seconds=within, patient=patient)
    except ProviderError as error:
        return error.code
    return "price"


def only(made: Market) -> Guard:
    [guard] = made.guards.values()
    return guard


@in_virtual_time
async def test_what_is_down_is_tried_again_a_few_times_each_counted() -> None:
    vendor = Vendor("first", ProviderDown("it is down"))
    async with market(vendor, first="100/day") as made:
        assert await asked(only(made)) == "provider_down"
        assert len(vendor.calls) == MAX_CALLS
        [left] = (await only(made).state()).remaining
        assert left.calls == 100 - MAX_CALLS
        assert len(made.store.raws) == MAX_CALLS
    first, second, third = vendor.at
    assert 0.1 + 0.125 <= second - first <= 0.1 + 0.4
    assert 0.1 + 0.25 <= third - second <= 0.1 + 0.8


@in_virtual_time
async def test_where_somebody_else_can_be_asked_nothing_is_tried_again() -> None:
    vendor = Vendor("first", ProviderDown("it is down"))
    async with market(vendor) as made:
        await asked(only(made), patient=False)
    assert len(vendor.calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        UnknownSymbol("no such symbol"),
        NotAPrice("garbage"),
        ProviderRefused("bad key", code="invalid_key"),
        Throttled("enough", throttle=Throttle.DAY, retry_after=3600),
        ProviderDown("maintenance", retry_after=600),
    ],
    ids=lambda error: error.code,
)
@in_virtual_time
async def test_what_waiting_does_not_help_is_not_tried_again(error: ProviderError) -> None:
    vendor = Vendor("first", error)
    async with market(vendor) as made:
        assert await asked(only(made)) == error.code
        assert len(made.store.raws) == 1
    assert len(vendor.calls) == 1


@in_virtual_time
async def test_a_call_ends_in_time_and_leaves_nothing_behind() -> None:
    vendor = Vendor("first", None)
    async with market(vendor) as made:
        began = seconds()
        assert await asked(only(made)) == "provider_timed_out"
        assert seconds() - began == pytest.approx(Market.TIMEOUT, abs=0.01)
        assert await asked(only(made), within=2) == "provider_timed_out"
        assert seconds() - began == pytest.approx(Market.TIMEOUT + 2, abs=0.01)
        assert vendor.running == 0


@in_virtual_time
async def test_a_burst_is_waited_for() -> None:
    burst = Throttled("too fast", throttle=Throttle.BURST, retry_after=1)
    vendor = Vendor("first", burst)
    async with market(vendor) as made:
        asking = asyncio.create_task(asked(only(made)))
        await asyncio.sleep(0.5)
        vendor.says = "USD"
        assert await asking == "price"
    assert 1.1 <= vendor.at[1] - vendor.at[0] <= 1.4


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (Throttled("enough", throttle=Throttle.MINUTE, retry_after=60), 60),
        (Throttled("enough", throttle=Throttle.DAY, retry_after=7200), 7200),
        (Throttled("go away", throttle=Throttle.BAN, retry_after=300), 300),
        (ProviderRefused("bad key", code="invalid_key"), REFUSED_SECONDS),
    ],
    ids=["minute", "day", "ban", "never"],
)
@in_virtual_time
async def test_whoever_throttles_is_left_alone_for_as_long(
    error: ProviderError, pause: float
) -> None:
    vendor = Vendor("first", error)
    async with market(vendor) as made:
        guard = only(made)
        assert await asked(guard) == error.code
        vendor.says = "USD"
        await asyncio.sleep(pause - 1)
        assert await asked(guard) == error.code
        assert len(vendor.calls) == 1
        assert (await guard.state()).cooling_seconds == pytest.approx(1, abs=0.2)
        await asyncio.sleep(1)
        assert await asked(guard) == "price"


@in_virtual_time
async def test_the_rest_of_a_throttle_is_told() -> None:
    vendor = Vendor("first", Throttled("enough", throttle=Throttle.MINUTE, retry_after=60))
    async with market(vendor) as made:
        await asked(only(made))
        await asyncio.sleep(45)
        with pytest.raises(Throttled) as refused:
            await only(made).ask(("MSFT",), seconds=15, patient=True)
    assert refused.value.retry_after == pytest.approx(15, abs=0.1)


@in_virtual_time
async def test_the_breaker_spares_who_is_down_and_lets_one_try_later() -> None:
    vendor = Vendor("first", ProviderDown("it is down"))
    async with market(vendor, first="1000/day") as made:
        guard = only(made)
        for _ in range(FAILURES):
            await asked(guard, patient=False)
        assert await asked(guard) == "provider_down"
        assert len(vendor.calls) == FAILURES
        assert (await guard.state()).breaker is BreakerState.OPEN
        [left] = (await guard.state()).remaining
        assert left.calls == 1000 - FAILURES, "a call that was not made was counted"
        await asyncio.sleep(COOL_OFF_SECONDS)
        vendor.says = "USD"
        codes = await asyncio.gather(*(asked(guard, f"S{n}", patient=False) for n in range(20)))
        assert sorted(codes) == ["price"] + ["provider_down"] * 19
        assert await asked(guard) == "price"


@in_virtual_time
async def test_a_call_that_was_given_up_decides_nothing() -> None:
    vendor = Vendor("first", None)
    async with market(vendor) as made:
        guard = only(made)
        for _ in range(FAILURES):
            asking = asyncio.create_task(asked(guard))
            await asyncio.sleep(1)
            asking.cancel()
        await asyncio.sleep(0)
        assert (await guard.state()).breaker is BreakerState.CLOSED


@in_virtual_time
async def test_a_second_that_is_full_is_waited_for_a_day_is_not() -> None:
    vendor = Vendor("first", seconds=0.01)
    async with market(vendor, first="1/second,4/day") as made:
        codes = await asyncio.gather(*(asked(only(made), f"S{n}") for n in range(6)))
    assert sorted(codes) == ["price"] * 4 + ["rate_limited_daily"] * 2
    assert len({int(at + 0.654321) for at in vendor.at}) == 4


@in_virtual_time
async def test_many_callers_are_counted_by_few_transactions() -> None:
    vendor = Vendor("first")
    async with market(vendor, first="1000/day") as made:
        await asyncio.gather(*(asked(only(made), f"S{n}") for n in range(200)))
        assert made.budgets.transactions <= 3
    assert len(vendor.calls) == 200


def test_a_retry_needs_room_for_a_whole_call() -> None:
    down = ProviderTimedOut("too slow", retry_after=1)
    wait = wait_before_retry(down, calls=1, left=20, call_seconds=10, jitter=0.5)
    assert wait == 0.25
    assert wait_before_retry(down, calls=1, left=10, call_seconds=10, jitter=0.5) is None
    assert wait_before_retry(down, calls=MAX_CALLS, left=99, call_seconds=1, jitter=0) is None


@in_virtual_time
async def test_a_symbol_that_the_plan_does_not_have_is_not_asked_for_again() -> None:
    vendor = Vendor("first", ProviderRefused("by a higher plan", code="premium_required"))
    async with market(vendor) as made:
        guard = only(made)
        assert await asked(guard, "AAPL") == "premium_required"
        vendor.says = "USD"
        assert await asked(guard, "AAPL") == "premium_required"
        assert await asked(guard, "MSFT") == "price"
        assert vendor.calls == [("AAPL",), ("MSFT",)]
        await asyncio.sleep(REFUSED_SECONDS)
        assert await asked(guard, "AAPL") == "price"
        vendor.says = ProviderRefused("by a higher plan", code="premium_required")
        for number in range(MAX_REFUSED + 5):
            await asked(guard, f"S{number}")
        assert len(guard._refused) == MAX_REFUSED


@pytest.mark.parametrize(
    "error",
    [
        Throttled("enough", throttle=Throttle.DAY, retry_after=3600),
        ProviderRefused("bad key", code="invalid_key"),
        ProviderRefused("not in your plan", code="premium_required"),
    ],
    ids=lambda error: error.code,
)
@in_virtual_time
async def test_without_a_plan_to_keep_to_each_call_finds_out_for_itself(
    error: ProviderError,
) -> None:
    vendor = Vendor("first", error)
    async with market(vendor) as made:
        only(made)._cools_off = False
        assert [await asked(only(made)), await asked(only(made))] == [error.code] * 2
    assert len(vendor.calls) == 2
