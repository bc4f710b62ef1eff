"""Who is asked after whom, what is shared, and what a stored price may stand in for."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pricewire.domain.event import EventId, EventState
from pricewire.domain.quote import PriceKind
from pricewire.errors import (
    InvalidParameter,
    NotAPrice,
    OtherCurrency,
    OtherKind,
    ProviderDown,
    ProviderError,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from tests.builders import make_publication
from tests.fakes import in_virtual_time
from tests.vendor_fakes import Market, Said, Vendor, market


def seconds() -> float:
    return asyncio.get_running_loop().time()


def throttled(pause: float = 60) -> Throttled:
    return Throttled("enough for now", throttle=Throttle.MINUTE, retry_after=pause)


async def store_a_price(made: Market, vendor: Vendor) -> None:
    await made.latest("AAPL", provider=vendor.name)
    vendor.calls.clear()


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (throttled(), "rate_limited_minute"),
        (None, "provider_timed_out"),
        (NotAPrice("<html>"), "not_a_price"),
        (NotAPrice("MSFT, not AAPL"), "not_a_price"),
        (UnknownSymbol("no such symbol"), "unknown_symbol"),
        (ProviderDown("no connection"), "provider_down"),
        ("EUR", "other_currency"),
    ],
    ids=["throttle", "time-out", "garbage", "wrong symbol", "unknown", "down", "other currency"],
)
@in_virtual_time
async def test_when_the_first_has_no_price_the_second_answers_50_by_one_call(
    says: Said, code: str
) -> None:
    first, second = Vendor("first"), Vendor("second")
    async with market(first, second) as made:
        await store_a_price(made, first)
        first.says = says
        began = seconds()
        answers = await asyncio.gather(*(made.latest("AAPL") for _ in range(50)))
        assert seconds() - began < Market.SECONDS
        assert (first.calls, second.calls) == ([("AAPL",)], [("AAPL",)])
        assert {str(one.price.event_id) for one in answers} == {"AAPL~2"}
        [attempt] = answers[0].attempts
        assert (attempt.provider, attempt.code) == ("first", code)
        assert answers[0].price.draft.provider == "second"
        kept = [raw.provider for raw in made.store.raws.values()]
        assert kept == ["first", *(["first"] if says is not None else []), "second"]
        # After the cool-off the first one is asked again.
        await asyncio.sleep(61)
        first.says = "USD"
        answer = await made.latest("AAPL")
        assert (answer.price.draft.provider, answer.attempts) == ("first", ())


@in_virtual_time
async def test_a_fallback_in_another_currency_is_none() -> None:
    first, second, third = Vendor("first"), Vendor("second", "GBp"), Vendor("third", "USD")
    async with market(first, second, third) as made:
        await store_a_price(made, first)
        first.says = NotAPrice("garbage")
        answer = await made.latest("AAPL")
        assert answer.price.draft.provider == "third"
        assert [one.code for one in answer.attempts] == ["not_a_price", "other_currency"]
        third.says = throttled()
        with pytest.raises(NotAPrice) as refused:
            await made.latest("AAPL")
        codes = [one.code for one in refused.value.attempts]
        assert codes == ["not_a_price", "other_currency", "rate_limited_minute"]


@in_virtual_time
async def test_a_named_provider_has_no_fallback_and_may_change_the_currency() -> None:
    first, second = Vendor("first"), Vendor("second")
    async with market(first, second) as made:
        await store_a_price(made, first)
        first.says = "EUR"
        second.says = NotAPrice("garbage")
        with pytest.raises(OtherCurrency):
            await made.latest("AAPL")
        assert (await made.latest("AAPL", provider="first")).price.draft.quote.currency == "EUR"
        assert (await made.latest("AAPL")).price.draft.quote.currency == "EUR"
        first.says = throttled()
        with pytest.raises(Throttled) as refused:
            await made.latest("AAPL", provider="first")
        assert refused.value.attempts == ()
        with pytest.raises(InvalidParameter, match="there is first, second"):
            await made.latest("AAPL", provider="nobody")


@in_virtual_time
async def test_another_kind_than_was_asked_for_is_no_price() -> None:
    first = Vendor("first")
    async with market(first) as made:
        await made.latest("AAPL", kind=PriceKind.LAST)
        with pytest.raises(OtherKind, match="is last, not close"):
            await made.latest("AAPL", kind=PriceKind.CLOSE)
        assert len(made.store.raws) == 2
        assert made.door.recorded == 1


@in_virtual_time
async def test_out_of_budget_with_nobody_else_says_until_when() -> None:
    first = Vendor("first")
    async with market(first, first="2/day") as made:
        await made.latest("A")
        await made.latest("B")
        with pytest.raises(Throttled) as refused:
            await made.latest("C")
    assert refused.value.throttle is Throttle.DAY
    assert refused.value.status == 503
    assert 48_000 < (refused.value.retry_after or 0) < 49_000
    assert len(first.calls) == 2


@in_virtual_time
async def test_of_several_waits_the_shortest_is_told() -> None:
    first, second = Vendor("first", throttled(3600)), Vendor("second", throttled(20))
    async with market(first, second) as made:
        with pytest.raises(Throttled) as refused:
            await made.latest("AAPL")
    assert refused.value.retry_after == 20


@in_virtual_time
async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    first = Vendor("first", seconds=2)
    async with market(first) as made:
        impatient = asyncio.create_task(made.latest("AAPL"))
        await asyncio.sleep(0.5)
        patient = asyncio.create_task(made.latest("AAPL"))
        await asyncio.sleep(0.5)
        impatient.cancel()
        assert (await patient).price.event_id == EventId("AAPL", 1)
    assert len(first.calls) == 1


@in_virtual_time
async def test_what_nobody_waits_for_any_more_is_recorded_or_stopped() -> None:
    first = Vendor("first", seconds=2)
    async with market(first) as made:
        asking = asyncio.create_task(made.latest("AAPL"))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(2)
        assert made.door.recorded == 1
        asking = asyncio.create_task(made.latest("AAPL"))
        await asyncio.sleep(1)
        asking.cancel()
    assert made.door.recorded == 1


@in_virtual_time
async def test_one_after_the_other_each_has_a_call_and_an_event() -> None:
    first = Vendor("first")
    async with market(first) as made:
        events = [(await made.latest("AAPL")).price.event_id.sequence for _ in range(3)]
    assert (events, len(first.calls)) == ([1, 2, 3], 3)


@in_virtual_time
async def test_a_stored_price_that_is_young_enough_costs_no_call() -> None:
    first, second = Vendor("first"), Vendor("second")
    async with market(first, second) as made:
        fetched = await made.latest("AAPL", max_age=60)
        assert not fetched.cached
        await asyncio.sleep(59)
        made.receipts.queue(EventId("AAPL", 1))
        again = await made.latest("AAPL", max_age=60)
        assert (again.cached, again.stale_reason, again.price) == (True, None, fetched.price)
        assert again.state is EventState.QUEUED
        market_time = fetched.price.draft.quote.timestamp
        assert again.age_seconds == pytest.approx(
            (fetched.price.draft.fetched_at - market_time + timedelta(seconds=59)).total_seconds(),
            abs=0.1,
        )
        assert (await made.latest("AAPL", provider="second", max_age=60)).cached is False
        made.receipts.queue(EventId("AAPL", 2))
        assert (await made.latest("AAPL", kind=PriceKind.LAST, max_age=60)).cached
        await asyncio.sleep(61)
        assert not (await made.latest("AAPL", max_age=60)).cached
    assert (len(first.calls), len(second.calls)) == (2, 1)


@in_virtual_time
async def test_a_price_of_another_process_or_of_before_a_restart_will_do() -> None:
    first = Vendor("first")
    async with market(first) as made:
        await made.latest("AAPL")
        made.door.latest.clear()
        made.receipts.queue(EventId("AAPL", 1))
        assert (await made.latest("AAPL", max_age=60)).cached
    assert len(first.calls) == 1


@in_virtual_time
async def test_what_became_of_a_stored_prices_event_is_asked_once() -> None:
    first = Vendor("first")
    async with market(first) as made:
        await made.latest("AAPL")
        made.receipts.queue(EventId("AAPL", 1))
        made.receipts.mark(make_publication(EventId("AAPL", 1), 7))
        for _ in range(3):
            answer = await made.latest("AAPL", max_age=60)
            assert answer.publication is not None
            assert answer.publication.offset == 7
        assert made.receipts.asked == 1


@in_virtual_time
async def test_where_nobody_answers_the_last_stored_price_is_told_as_stale() -> None:
    first, second = Vendor("first"), Vendor("second")
    async with market(first, second) as made:
        await store_a_price(made, first)
        made.receipts.queue(EventId("AAPL", 1))
        await asyncio.sleep(86_400)
        first.says, second.says = throttled(), NotAPrice("garbage")
        answer = await made.latest("AAPL", allow_stale=True)
        assert (answer.cached, answer.price.event_id) == (True, EventId("AAPL", 1))
        assert answer.stale_reason == "rate_limited_minute: enough for now"
        assert [one.provider for one in answer.attempts] == ["first", "second"]
        with pytest.raises(Throttled):
            await made.latest("AAPL")
        with pytest.raises(ProviderError):
            await made.latest("MSFT", allow_stale=True)


@in_virtual_time
async def test_several_symbols_are_asked_by_as_few_calls_as_are_allowed() -> None:
    first, second = Vendor("first"), Vendor("second")
    first.batch = 3
    first.refuses = {"C": UnknownSymbol("no C")}
    async with market(first, second) as made:
        symbols = ["A", "B", "C", "D", "A"]
        await made.latest.together(symbols)
        answers = await asyncio.gather(*(made.latest(one) for one in symbols))
        assert (first.calls, second.calls) == ([("A", "B", "C"), ("D",)], [("C",)])
        sources = [one.price.draft.provider for one in answers]
        assert sources == ["first", "first", "second", "first", "first"]
        assert answers[0].price is answers[4].price
        assert len(made.store.raws) == 3
        assert [one.code for one in answers[2].attempts] == ["unknown_symbol"]


@in_virtual_time
async def test_one_symbol_that_spoils_a_call_is_asked_for_alone() -> None:
    first = Vendor("first", UnknownSymbol("one of them"))
    first.batch = 3
    async with market(first) as made:
        await made.latest.together(["A", "B"])
        waiting = [asyncio.create_task(made.latest(one)) for one in ("A", "B")]
        await asyncio.sleep(0.05)
        asked, first.says = first.says, "USD"
        assert isinstance(asked, UnknownSymbol)
        first.refuses = {"A": asked, "B": asked}
        await asyncio.sleep(0.1)
        first.refuses = {"B": asked}
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert first.calls == [("A", "B"), ("A",), ("B",)]
    assert not isinstance(outcomes[0], BaseException)
    assert isinstance(outcomes[1], UnknownSymbol)
