"""Counts calls against a provider's budget before they are made; `services.guard` asks here first.

Whoever arrives while a transaction counts is counted by the next one, so that many callers cost
few transactions. Invariant: a call is counted before it is made, in one place for all processes;
a crash in between loses that call and never makes one twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pricewire.domain.budget import Budget, Exhausted, Granted, Period, Remaining
from pricewire.errors import StoreError, Throttle, Throttled

_THROTTLES = {
    Period.SECOND: Throttle.BURST,
    Period.MINUTE: Throttle.MINUTE,
    Period.HOUR: Throttle.HOUR,
    Period.DAY: Throttle.DAY,
    Period.MONTH: Throttle.MONTH,
}


class BudgetStore(Protocol):
    async def spend(
        self, provider: str, budget: Budget, calls: int, now: datetime, *, least: int
    ) -> Granted | Exhausted:
        """Count as many of `calls` as fit (`Budget.spend`), one transaction after the other.

        Raises:
            StoreError: nothing is known to be counted.
        """
        ...

    async def remaining(
        self, provider: str, budget: Budget, now: datetime
    ) -> tuple[Remaining, ...]: ...


@dataclass(slots=True)
class _Caller:
    calls: int
    granted: asyncio.Future[None]

    def refuse(self, error: Throttled | StoreError) -> None:
        if not self.granted.done():
            self.granted.set_exception(error)


class Spending:
    """One provider's budget.

    Args:
        store: shared by all processes.
        clock: now, aware UTC.
    """

    def __init__(
        self, provider: str, budget: Budget, *, store: BudgetStore, clock: Callable[[], datetime]
    ) -> None:
        self.budget = budget
        self._provider = provider
        self._store = store
        self._clock = clock
        self._waiting: deque[_Caller] = deque()
        self._counting: asyncio.Task[None] | None = None

    async def spend(self, calls: int = 1) -> None:
        """Count `calls`, which then may be made.

        Raises:
            Throttled: they do not fit; says until when.
            StoreError: the database could not count them.
        """
        if self.budget.unlimited:
            return
        caller = _Caller(calls, asyncio.get_running_loop().create_future())
        self._waiting.append(caller)
        if self._counting is None:
            self._counting = asyncio.create_task(self._count())
        await caller.granted

    async def remaining(self) -> tuple[Remaining, ...]:
        return await self._store.remaining(self._provider, self.budget, self._clock())

    async def aclose(self) -> None:
        """Wait for the transaction that counts."""
        if self._counting is not None:
            await asyncio.wait([self._counting])

    async def _count(self) -> None:
        """Count for all who wait, group by group, until nobody does."""
        try:
            while group := self._next_group():
                await self._count_group(group)
        finally:
            self._counting = None

    def _next_group(self) -> list[_Caller]:
        """Return who still waits: all who want one call each, or one who wants several."""
        group: list[_Caller] = []
        while self._waiting and (not group or self._waiting[0].calls == group[0].calls == 1):
            caller = self._waiting.popleft()
            if not caller.granted.done():
                group.append(caller)
        return group

    async def _count_group(self, group: list[_Caller]) -> None:
        now = self._clock()
        try:
            outcome = await self._store.spend(
                self._provider,
                self.budget,
                sum(caller.calls for caller in group),
                now,
                least=group[0].calls,
            )
        except StoreError as error:
            for caller in group:
                caller.refuse(error)
        except BaseException:
            for caller in group:
                caller.granted.cancel()
            raise
        else:
            self._tell(group, outcome, now)

    def _tell(self, group: list[_Caller], outcome: Granted | Exhausted, now: datetime) -> None:
        if isinstance(outcome, Exhausted):
            for caller in group:
                caller.refuse(self._throttled(outcome, now))
            return
        served = outcome.calls // group[0].calls
        for caller in group[:served]:
            if not caller.granted.done():
                caller.granted.set_result(None)
        # Those who did not fit are told by a count of their own until when.
        self._waiting.extendleft(reversed(group[served:]))

    def _throttled(self, outcome: Exhausted, now: datetime) -> Throttled:
        allowance = outcome.allowance
        until = outcome.until.isoformat(timespec="seconds").replace("+00:00", "Z")
        return Throttled(
            f"the budget of {self._provider}, {allowance.calls} calls a {allowance.period}, "
            f"is used up until {until}",
            throttle=_THROTTLES[allowance.period],
            retry_after=max(0.001, (outcome.until - now).total_seconds()),
        )
