"""The one guard around every call to a provider: cool-off, breaker, budget, time-out, retries.

The composition root puts one around each provider that has a network; `asking` asks through it.
Invariant: a call is counted before it is made, ends in time, and the raw answer of a refusal is
kept; a call that was cancelled decides nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pricewire.domain.budget import Budget, Remaining
from pricewire.domain.quote import Fetched, RawResponse, Span
from pricewire.errors import (
    InvalidParameter,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    ProviderTimedOut,
    Throttle,
    Throttled,
)
from pricewire.services.breaker import Breaker, BreakerState
from pricewire.services.fetching import BatchProvider, HistoryProvider, Provider
from pricewire.services.retrying import wait_before_retry
from pricewire.services.spending import Spending

REFUSED_SECONDS = 600.0
"""How long a provider is left alone that refuses the key or the region, or a symbol that the plan
does not have: waiting does not help, and asking costs the budget."""
MAX_REFUSED = 1_000
_WHOLE_PROVIDER = frozenset({"invalid_key", "region_refused"})

Keep = Callable[[RawResponse], Awaitable[None]]
Result = TypeVar("Result")
_Call = Callable[[Sequence[str], float], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class CoolingOff:
    """Until when, by the loop's clock, a provider is not asked, and because of which error."""

    until: float
    error: ProviderError


@dataclass(frozen=True, slots=True)
class GuardState:
    """What there is to know of a provider in use.

    Args:
        breaker: of this process, as is the cool-off.
        last_error: of the last call that was made; None where it gave an answer.
    """

    breaker: BreakerState
    cooling_seconds: float
    last_error: str | None
    remaining: tuple[Remaining, ...]


class Guard:
    """Fulfils `fetching.Source` for one provider.

    Args:
        keep: stores a raw answer that holds no price.
        timeout_seconds: for one call.
        credit_per_symbol: a call for several symbols counts as several.
        cools_off: a refusal is remembered, and nobody is sent before its time is over. Without a
            budget there is no plan to keep to, and each call finds out for itself.
    """

    upstream = True

    def __init__(
        self,
        provider: Provider,
        *,
        spending: Spending,
        keep: Keep,
        timeout_seconds: float,
        credit_per_symbol: bool = False,
        cools_off: bool = True,
    ) -> None:
        self._provider = provider
        self._many = provider if isinstance(provider, BatchProvider) else None
        self._spending = spending
        self._keep = keep
        self._timeout = timeout_seconds
        self._credit_per_symbol = credit_per_symbol
        self._cools_off = cools_off
        self._breaker = Breaker()
        self._cooling: CoolingOff | None = None
        self._refused: dict[str, CoolingOff] = {}
        """By symbol, the oldest first."""
        self._last_error: str | None = None

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def batch(self) -> int:
        most = self._spending.budget.most_at_once if self._credit_per_symbol else None
        batch = self._many.batch if self._many else 1
        return batch if most is None else min(batch, most)

    @property
    def budget(self) -> Budget:
        return self._spending.budget

    @property
    def credit_per_symbol(self) -> bool:
        return self._credit_per_symbol

    async def room(self) -> int:
        if not self._credit_per_symbol or self.batch == 1:
            return self.batch
        left = min((one.calls for one in await self._spending.remaining()), default=self.batch)
        return max(1, min(self.batch, left))

    async def ask(self, symbols: Sequence[str], *, seconds: float, patient: bool) -> Fetched:
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        calls = 0
        while True:
            try:
                return await self._ask_once(symbols, end, self._call)
            except ProviderError as error:
                calls += 1
                wait = wait_before_retry(
                    error,
                    calls=calls,
                    left=end - clock(),
                    call_seconds=self._timeout,
                    jitter=random.random(),  # noqa: S311
                )
                if not patient or wait is None or self._barred(clock() + wait):
                    raise
            await asyncio.sleep(wait)

    async def history(self, span: Span, *, seconds: float) -> Fetched:
        """Ask for the bars of a span; a refusal is told at once.

        Raises:
            InvalidParameter: the provider has no history.
            ProviderError: there are no bars.
            StoreError: the call could not be counted, and was not made.
        """
        provider = self._provider
        if not isinstance(provider, HistoryProvider):
            raise InvalidParameter(f"{self.name} has no history")

        async def call(_symbols: Sequence[str], left: float) -> Fetched:
            return await self._in_time(provider.history(span), left)

        end = asyncio.get_running_loop().time() + seconds
        return await self._ask_once((span.symbol,), end, call)

    async def other(
        self, symbol: str, call: Callable[[], Awaitable[Result]], *, seconds: float
    ) -> Result:
        """Make another call than for a price, counted and watched as they are; a refusal is told
        at once.

        Raises:
            ProviderError: as `call`, or it was not made.
            StoreError: it could not be counted, and was not made.
        """

        async def made(_symbols: Sequence[str], left: float) -> Result:
            return await self._in_time(call(), left)

        end = asyncio.get_running_loop().time() + seconds
        return await self._ask_once((symbol,), end, made)

    async def state(self) -> GuardState:
        now = asyncio.get_running_loop().time()
        cooling = self._cooling.until - now if self._cooling else 0.0
        return GuardState(
            self._breaker.state(now),
            max(0.0, cooling),
            self._last_error,
            await self._spending.remaining(),
        )

    async def aclose(self) -> None:
        await self._spending.aclose()

    async def _ask_once(self, symbols: Sequence[str], end: float, call: _Call[Result]) -> Result:
        clock = asyncio.get_running_loop().time
        if barred := self._barred(clock()) or self._refusal(symbols, clock()):
            raise barred
        await self._spend(len(symbols) if self._credit_per_symbol else 1, end)
        # Counting took its time: meanwhile others may have learnt something.
        if barred := self._barred(clock()):
            raise barred
        ticket = self._breaker.admit()
        try:
            fetched = await call(symbols, end - clock())
        except ProviderError as error:
            self._learn(ticket, error, clock())
            if isinstance(error, ProviderRefused):
                self._remember(symbols, CoolingOff(clock() + REFUSED_SECONDS, error))
            if isinstance(error.raw, RawResponse):
                await self._keep(error.raw)
            raise
        finally:
            self._breaker.given_up(ticket)
        self._breaker.succeeded(ticket)
        self._last_error = None
        return fetched

    async def _spend(self, calls: int, end: float) -> None:
        """Count the calls; wait for the next second where only this one is full."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._spending.spend(calls)
            except Throttled as error:
                wait = error.retry_after or 1
                if error.throttle is not Throttle.BURST or clock() + wait >= end:
                    raise
            else:
                return
            await asyncio.sleep(wait)

    async def _call(self, symbols: Sequence[str], left: float) -> Fetched:
        if len(symbols) == 1 or self._many is None:
            return await self._in_time(self._provider.fetch(symbols[0]), left)
        return await self._in_time(self._many.fetch_many(symbols), left)

    async def _in_time(self, answer: Awaitable[Result], left: float) -> Result:
        seconds = min(self._timeout, left)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await answer
        except TimeoutError:
            raise ProviderTimedOut(
                f"{self.name} did not answer within {seconds:.3g} s", retry_after=1
            ) from None

    def _learn(self, ticket: object, error: ProviderError, now: float) -> None:
        """Draw from a call's error what later calls have to know."""
        self._last_error = error.detail
        if isinstance(error, ProviderDown | ProviderTimedOut):
            self._breaker.failed(ticket, now)
            return
        self._breaker.succeeded(ticket)
        if not self._cools_off:
            return
        if isinstance(error, Throttled):
            self._cool_off(CoolingOff(now + (error.retry_after or 1), error))
        elif error.code in _WHOLE_PROVIDER:
            self._cool_off(CoolingOff(now + REFUSED_SECONDS, error))

    def _cool_off(self, cooling: CoolingOff) -> None:
        if self._cooling is None or self._cooling.until < cooling.until:
            self._cooling = cooling

    def _remember(self, symbols: Sequence[str], refusal: CoolingOff) -> None:
        """Note a refusal of one symbol; of several it is not known which was meant."""
        if len(symbols) == 1 and self._cools_off:
            self._refused.pop(symbols[0], None)
            self._refused[symbols[0]] = refusal
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _refusal(self, symbols: Sequence[str], now: float) -> ProviderError | None:
        refused = self._refused.get(symbols[0]) if len(symbols) == 1 else None
        if refused is None or now >= refused.until:
            return None
        return _again(refused.error, refused.until - now)

    def _barred(self, now: float) -> ProviderError | None:
        """Return why nobody may be sent now."""
        if self._cooling is not None and (left := self._cooling.until - now) > 0:
            return _again(self._cooling.error, left)
        if (wait := self._breaker.wait(now)) > 0:
            return ProviderDown(
                f"{self.name} failed several times in a row and is left alone for {wait:.3g} s; "
                f"the last time: {self._last_error}",
                retry_after=wait,
            )
        return None


def _again(error: ProviderError, left: float) -> ProviderError:
    """Return an earlier call's error as it is for a call that is not made."""
    if isinstance(error, Throttled):
        return Throttled(error.detail, throttle=error.throttle, retry_after=left)
    return ProviderRefused(error.detail, code=error.code)
