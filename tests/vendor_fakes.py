"""Providers, budgets and a main job for tests in virtual time: every answer is said beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from pricewire.domain.budget import Budget, Counters, Exhausted, Granted, Remaining, parse_budget
from pricewire.domain.event import RecordedPrice
from pricewire.domain.quote import Fetched, RawResponse
from pricewire.errors import ProviderError
from pricewire.kafka.codec import encode_price_event
from pricewire.services.asking import Asking
from pricewire.services.guard import Guard
from pricewire.services.latest import LatestPrice
from pricewire.services.recording import Door, Entry
from pricewire.services.spending import Spending
from pricewire.services.stored import Stored
from tests.builders import RECORDED_AT, make_quote, make_raw
from tests.unit.test_door import FakeStore
from tests.unit.test_receipts_and_latest import FakeReceipts, NoSessions, make_receipts

Said = ProviderError | str | None
"""What a vendor answers: an error, a currency, or no answer at all."""


def now() -> datetime:
    """The loop's time as a time of the calendar."""
    return RECORDED_AT + timedelta(seconds=asyncio.get_running_loop().time())


class Vendor:
    """Answers what `says`, after `seconds`, and counts; fulfils `Provider` and `BatchProvider`."""

    def __init__(self, name: str, says: Said = "USD", *, seconds: float = 0.1) -> None:
        self.name = name
        self.says = says
        self.seconds = seconds
        self.batch = 1
        self.refuses: dict[str, ProviderError] = {}
        self.calls: list[tuple[str, ...]] = []
        self.at: list[float] = []
        self.running = 0

    async def fetch(self, symbol: str) -> Fetched:
        return await self.fetch_many((symbol,))

    async def fetch_many(self, symbols: Sequence[str]) -> Fetched:
        assert len(symbols) <= self.batch or self.batch == 1
        self.calls.append(tuple(symbols))
        self.at.append(asyncio.get_running_loop().time())
        self.running += 1
        try:
            await asyncio.sleep(self.seconds if self.says is not None else 3600)
        finally:
            self.running -= 1
        raw = make_raw(provider=self.name, fetched_at=now())
        if isinstance(self.says, ProviderError):
            self.says.raw = raw
            raise self.says
        good = [one for one in symbols if one not in self.refuses]
        quotes = tuple(make_quote(one, currency=self.says) for one in good)
        if not quotes:
            raise self.refuses[symbols[0]]
        return Fetched(raw, quotes, refused=self.refuses)

    async def aclose(self) -> None:
        pass


class FakeBudgets:
    """Counts in memory, after the time that a transaction takes; fulfils `BudgetStore`."""

    def __init__(self) -> None:
        self.counters: dict[str, Counters] = {}
        self.transactions = 0

    async def spend(
        self, provider: str, budget: Budget, calls: int, now: datetime, *, least: int
    ) -> Granted | Exhausted:
        self.transactions += 1
        await asyncio.sleep(0.001)
        outcome = budget.spend(self.counters.get(provider, {}), now, calls, least=least)
        if isinstance(outcome, Granted):
            self.counters[provider] = outcome.counters
        return outcome

    async def remaining(
        self, provider: str, budget: Budget, now: datetime
    ) -> tuple[Remaining, ...]:
        return budget.remaining(self.counters.get(provider, {}), now)


class KeepingStore(FakeStore):
    """Also remembers every raw response that passed the door, and the last prices."""

    def __init__(self) -> None:
        super().__init__()
        self.raws: dict[UUID, RawResponse] = {}
        self.newest: dict[str, RecordedPrice] = {}

    async def record(
        self, group: Sequence[Entry], *, again: bool = False
    ) -> list[list[RecordedPrice]]:
        results = await super().record(group, again=again)
        for entry, prices in zip(group, results, strict=True):
            assert isinstance(entry.raw, RawResponse)
            assert entry.raw.id not in self.raws, "one answer was kept twice"
            self.raws[entry.raw.id] = entry.raw
            self.newest.update({price.draft.quote.symbol: price for price in prices})
        return results

    async def last_recorded(self, symbol: str) -> RecordedPrice | None:
        return self.newest.get(symbol)


class Market:
    """The main job over vendors behind their guards; the first is the default one."""

    TIMEOUT = 10.0
    SECONDS = 15.0

    def __init__(self, *vendors: Vendor, budgets: dict[str, str] | None = None) -> None:
        self.budgets = FakeBudgets()
        self.store = KeepingStore()
        self.receipts = FakeReceipts()
        self.door = Door(
            self.store, encode=encode_price_event, shard_of=len, clock=now, committed=lambda _: None
        )
        self.guards = {
            one.name: self._guard(one, (budgets or {}).get(one.name, "off")) for one in vendors
        }
        stored = Stored(self.door, self.store)
        asking = Asking(
            self.guards,
            [one.name for one in vendors],
            door=self.door,
            currency=stored.currency,
            seconds=self.SECONDS,
        )
        told = make_receipts(self.receipts)
        self.latest = LatestPrice(
            asking, stored=stored, receipts=told, sessions=NoSessions(), clock=now
        )

    def _guard(self, vendor: Vendor, budget: str) -> Guard:
        async def keep(raw: RawResponse) -> None:
            await self.door.record(Fetched(raw, ()))

        spending = Spending(vendor.name, parse_budget(budget), store=self.budgets, clock=now)
        return Guard(vendor, spending=spending, keep=keep, timeout_seconds=self.TIMEOUT)


@asynccontextmanager
async def market(*vendors: Vendor, **budgets: str) -> AsyncIterator[Market]:
    """Run the door while inside; leaving checks that nothing is left running."""
    made = Market(*vendors, budgets=budgets)
    door = asyncio.create_task(made.door.run())
    yield made
    await made.latest.aclose()
    for guard in made.guards.values():
        await guard.aclose()
    made.door.close()
    await door
    assert [vendor.running for vendor in vendors] == [0] * len(vendors)
    assert asyncio.all_tasks() == {asyncio.current_task()}
