"""Backfills that are broken off anywhere: each close once, no call that is not needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.budget import parse_budget
from pricewire.domain.event import EventId
from pricewire.domain.quote import Bar, Fetched, Precision, RawResponse, Span
from pricewire.errors import (
    PricewireError,
    ProviderDown,
    ProviderError,
    StoreBusy,
    StoreUnavailable,
    Throttled,
    UnknownSymbol,
)
from pricewire.kafka.codec import encode_price_event
from pricewire.services.backfilling import BARS_A_STEP, Backfilling, Step
from pricewire.services.guard import Guard
from pricewire.services.history import HistoryDoor, PastDraft
from pricewire.services.spending import Spending
from tests.builders import make_raw
from tests.fakes import VirtualLoop, in_virtual_time
from tests.vendor_fakes import FakeBudgets, now

FIRST = datetime(2024, 3, 18, tzinfo=UTC)
MINUTES = 5 * BARS_A_STEP
SPAN = Span("AAPL", "1m", FIRST, FIRST + timedelta(minutes=MINUTES))


def close_of(minute: int) -> Decimal:
    return Decimal(1_000 + minute % 37).scaleb(-1)


class Vendor:
    """Has a bar of every minute; fulfils `Provider` and `HistoryProvider`.

    `trouble` is what the next calls end in, None for bars.
    """

    name = "vendor"

    def __init__(self) -> None:
        self.spans: list[tuple[datetime, datetime]] = []
        self.trouble: list[ProviderError | None] = []

    async def fetch(self, symbol: str) -> Fetched:
        raise UnknownSymbol(symbol)

    async def aclose(self) -> None: ...

    async def history(self, span: Span) -> Fetched:
        self.spans.append((span.start, span.end))
        await asyncio.sleep(0.1)
        if self.trouble and (error := self.trouble.pop(0)) is not None:
            raise error
        return Fetched(make_raw(provider=self.name), (), bars=tuple(_bars(span)))


def _bars(span: Span) -> list[Bar]:
    first = -(-(span.start - FIRST) // timedelta(minutes=1))
    last = (span.end - FIRST) // timedelta(minutes=1)
    return [
        Bar(
            symbol=span.symbol,
            timestamp=FIRST + timedelta(minutes=minute),
            precision=Precision.SECOND,
            open=close_of(minute),
            high=Decimal(9_999),
            low=Decimal(1),
            close=close_of(minute),
        )
        for minute in range(first, last + 1)
    ]


class Store:
    """Past prices in memory, each identity once; fulfils `HistoryStore`.

    `trouble`: what the next transactions end in; of those whose answer is lost the rows are there.
    """

    transaction_rows = 100

    def __init__(self) -> None:
        self.there: dict[bytes, tuple[datetime, Decimal]] = {}
        self.trouble: list[PricewireError | None] = []

    async def record(
        self,
        raw: RawResponse,  # noqa: ARG002
        drafts: Sequence[PastDraft],
    ) -> list[EventId]:
        error = self.trouble.pop(0) if self.trouble else None
        if isinstance(error, StoreBusy):
            raise error
        ids = []
        for one in drafts:
            quote = one.draft.quote
            if one.identity not in self.there:
                self.there[one.identity] = (quote.timestamp, quote.price)
                ids.append(EventId(quote.symbol, len(self.there), backfilled=True))
        if error is not None:
            raise error
        return ids


@dataclass
class Work:
    """Backfills with a budget, and what they ask and fill."""

    budget: str = "off"

    def __post_init__(self) -> None:
        self.vendor = Vendor()
        self.store = Store()

        async def keep(raw: RawResponse) -> None: ...

        budget = parse_budget(self.budget)
        spending = Spending("vendor", budget, store=FakeBudgets(), clock=now)
        guard = Guard(self.vendor, spending=spending, keep=keep, timeout_seconds=10)
        door = HistoryDoor(
            self.store,
            encode=encode_price_event,
            shard_of=len,
            clock=now,
            committed=lambda _: None,
        )
        self.backfilling = Backfilling(
            {"vendor": guard}, default="vendor", door=door, seconds=15, clock=now
        )

    async def step(self, begin: datetime) -> Step:
        return await self.backfilling.step(Span("AAPL", "1m", begin, SPAN.end), None)

    @property
    def prices(self) -> list[tuple[datetime, Decimal]]:
        return [*self.store.there.values()]


def expected(minutes: int = MINUTES) -> list[tuple[datetime, Decimal]]:
    """Each bar's close, at the time at which the bar was over."""
    return [(FIRST + timedelta(minutes=n + 1), close_of(n)) for n in range(minutes)]


@in_virtual_time
async def test_a_budget_that_is_used_up_in_the_middle_is_said_and_costs_no_call() -> None:
    work = Work("3/hour")
    begin: datetime | None = FIRST
    for _ in range(3):
        assert begin is not None
        begin = (await work.step(begin)).next
    assert begin == FIRST + timedelta(minutes=3 * BARS_A_STEP)
    for _ in range(5):
        with pytest.raises(Throttled) as refused:
            await work.step(begin)
        assert refused.value.code == "rate_limited_hourly"
    assert len(work.vendor.spans) == 3
    assert work.prices == expected(3 * BARS_A_STEP)
    # It says for how long to wait; then it goes on where it was.
    await asyncio.sleep(refused.value.retry_after or 0)
    while begin is not None:
        begin = (await work.step(begin)).next
    assert work.prices == expected()
    assert len(work.vendor.spans) == len(set(work.vendor.spans)) == 5


@in_virtual_time
async def test_a_budget_for_each_second_is_waited_for() -> None:
    work = Work("1/second")
    begin: datetime | None = FIRST
    began = asyncio.get_running_loop().time()
    while begin is not None:
        begin = (await work.step(begin)).next
    assert work.prices == expected()
    assert asyncio.get_running_loop().time() - began > 3


@in_virtual_time
async def test_a_step_that_is_made_again_is_told_to_have_been_there() -> None:
    work = Work()
    first, again = await work.step(FIRST), await work.step(FIRST)
    assert (first.recorded, first.repeated) == (BARS_A_STEP, 0)
    assert (again.recorded, again.repeated) == (0, BARS_A_STEP)
    assert first.next == again.next == FIRST + timedelta(minutes=BARS_A_STEP)


@in_virtual_time
async def test_a_bar_that_is_not_over_is_left_for_later() -> None:
    work = Work()
    today = now().replace(second=0, microsecond=0)
    span = Span("AAPL", "1m", today - timedelta(minutes=5), today + timedelta(minutes=5))
    step = await work.backfilling.step(span, None)
    assert (step.bars, work.prices[-1][0]) == (5, today)


troubles = st.lists(
    st.sampled_from(
        [
            None,
            ProviderDown("no connection"),
            StoreBusy("locked"),
            StoreUnavailable("connection lost during COMMIT"),
            "crash",
            "lost answer",
        ]
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(troubles, st.integers(0, 3))
def test_whatever_breaks_it_off_each_close_is_there_once(
    breaks: list[ProviderError | StoreBusy | StoreUnavailable | str | None], place: int
) -> None:
    async def run() -> None:
        work = Work()
        begin: datetime | None = FIRST
        while begin is not None:
            one = breaks.pop() if breaks else None
            if isinstance(one, ProviderError):
                work.vendor.trouble = [one]
            elif isinstance(one, StoreBusy | StoreUnavailable):
                work.store.trouble = [None] * place + [one]
            begin = await go_on(work, begin, one)
            # What is left over is not for another step.
            work.vendor.trouble, work.store.trouble = [], []
        assert work.prices == expected()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def go_on(work: Work, begin: datetime, trouble: object) -> datetime | None:
    """Make a step, as `pricewire backfill` does and is broken off; return from where to go on."""
    task = asyncio.create_task(work.step(begin))
    if trouble == "crash":
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        return begin
    try:
        step = await task
    except PricewireError as error:
        # A provider that failed several times is left alone for a while.
        await asyncio.sleep(error.retry_after or 1)
        return begin
    return begin if trouble == "lost answer" else step.next
