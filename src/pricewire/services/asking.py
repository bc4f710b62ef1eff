"""Asks providers in order until one gives a price that will do, and records it.

`latest` calls it, and `polling`, whose calls are its own. Those who want the same at the same time
share one call and one event. The order is the default provider and then the fallbacks; a provider
that the caller named has none: nobody who asks for one wants another's price
(docs/decisions/0013). Invariant: each answer of a provider is kept once, with the prices that were
taken from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pricewire.domain.event import RecordedPrice
from pricewire.domain.quote import Fetched, PriceKind, Quote
from pricewire.errors import (
    Attempt,
    InvalidParameter,
    NotAPrice,
    OtherCurrency,
    OtherKind,
    ProviderError,
    UnknownSymbol,
)
from pricewire.services.fetching import Source
from pricewire.services.flights import Flights
from pricewire.services.recording import Door, Fence

Outcome = RecordedPrice | ProviderError


@dataclass(frozen=True, slots=True)
class Asked:
    """A price, just recorded, and who could not give one before."""

    price: RecordedPrice
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of whom a price is wanted, in this order, and which kind; hashable, as what is shared."""

    sources: tuple[Source, ...]
    kind: PriceKind | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources)


class Asking:
    """See the module.

    Args:
        sources: by name.
        order: the default provider, then the fallbacks.
        currency: of the last stored price of a symbol, None where that is not known.
        seconds: for all that is done for one price.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        order: Sequence[str],
        *,
        door: Door,
        currency: Callable[[str], Awaitable[str | None]],
        seconds: float,
    ) -> None:
        self._sources = sources
        self._order = tuple(dict.fromkeys(order))
        self._door = door
        self._currency = currency
        self._seconds = seconds
        self._flights: Flights[Asked] = Flights()
        self._calls: Flights[dict[str, Outcome]] = Flights()
        self._wanted: dict[tuple[str | None, PriceKind | None], Wanted] = {}

    def wanted(self, provider: str | None, kind: PriceKind | None) -> Wanted:
        """Return who is to be asked.

        Raises:
            InvalidParameter: there is no such provider.
        """
        known = self._wanted.get((provider, kind))
        if known is None:
            names = self._order if provider is None else (provider,)
            known = Wanted(tuple(self._source(name) for name in names), kind)
            self._wanted[(provider, kind)] = known
        return known

    async def price(self, symbol: str, wanted: Wanted) -> Asked:
        """Ask for one symbol.

        Raises:
            ProviderError: the first provider's; the others' are its `attempts`.
            StoreError: the price could not be recorded, and is not published.
        """
        if not wanted.sources[0].upstream:
            return await self._in_order(symbol, wanted)
        return await self._flights.join((symbol, wanted), lambda: self._in_order(symbol, wanted))

    def ask_together(self, symbols: Sequence[str], wanted: Wanted) -> None:
        """Begin asking for several symbols by as few calls as the provider allows.

        Whoever asks for the price of one of them before it is there joins in.
        """
        size = wanted.sources[0].batch
        fresh = [symbol for symbol in symbols if (symbol, wanted) not in self._flights]
        if size < 2 or len(fresh) < 2:
            return
        for start in range(0, len(fresh), size):
            some = tuple(fresh[start : start + size])
            call = self._calls.begin((some, wanted), self._first(some, wanted))
            for symbol in some:
                self._flights.begin((symbol, wanted), self._in_order(symbol, wanted, call))

    async def poll(
        self, symbols: Sequence[str], wanted: Wanted, fence: Fence
    ) -> dict[str, Outcome]:
        """Ask for at most as many symbols as one call may name, for a polling job.

        Nobody joins in: what is recorded is recorded by the right of the job.

        Raises:
            StoreError: not all could be recorded; `PollOvertaken`: the fence does not hold.
        """
        call = None
        if len(symbols) > 1:
            call = asyncio.create_task(self._first(tuple(symbols), wanted, fence))
        try:
            return dict(
                await asyncio.gather(*(self._polled(one, wanted, call, fence) for one in symbols))
            )
        finally:
            if call is not None:
                call.cancel()
                await asyncio.wait([call])

    async def _polled(
        self,
        symbol: str,
        wanted: Wanted,
        call: asyncio.Task[dict[str, Outcome]] | None,
        fence: Fence,
    ) -> tuple[str, Outcome]:
        try:
            return symbol, (await self._in_order(symbol, wanted, call, fence)).price
        except ProviderError as error:
            return symbol, error

    async def aclose(self) -> None:
        """Stop what is under way."""
        await self._flights.aclose()
        await self._calls.aclose()

    def _source(self, name: str) -> Source:
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(sorted(self._sources))
            raise InvalidParameter(f"there is no provider {name[:64]!r} here; there is {known}")
        return source

    async def _first(
        self, symbols: Sequence[str], wanted: Wanted, fence: Fence | None = None
    ) -> dict[str, Outcome]:
        seconds = self._seconds / len(wanted.sources)
        return await self._ask(wanted, 0, symbols, seconds, fence)

    async def _in_order(
        self,
        symbol: str,
        wanted: Wanted,
        first: asyncio.Task[dict[str, Outcome]] | None = None,
        fence: Fence | None = None,
    ) -> Asked:
        end = asyncio.get_running_loop().time() + self._seconds
        errors: list[tuple[str, ProviderError]] = []
        for turn, source in enumerate(wanted.sources):
            # Whoever comes later in the order gets a share of the time too.
            share = (end - asyncio.get_running_loop().time()) / (len(wanted.sources) - turn)
            try:
                if turn == 0 and first is not None:
                    outcomes = await self._of_many(symbol, wanted, first, share, fence)
                else:
                    outcomes = await self._ask(wanted, turn, (symbol,), share, fence)
                outcome = outcomes.get(symbol) or NotAPrice(f"{source.name} gave no price")
                if isinstance(outcome, ProviderError):
                    raise outcome
                return Asked(outcome, _attempts(errors) if errors else ())
            except ProviderError as error:
                errors.append((source.name, error))
        raise _told(errors)

    async def _of_many(
        self,
        symbol: str,
        wanted: Wanted,
        call: asyncio.Task[dict[str, Outcome]],
        seconds: float,
        fence: Fence | None,
    ) -> dict[str, Outcome]:
        """Return what a call for several symbols gave; ask alone where one spoilt it for all."""
        try:
            return await asyncio.shield(call)
        except UnknownSymbol:
            return await self._ask(wanted, 0, (symbol,), seconds, fence)

    async def _ask(
        self,
        wanted: Wanted,
        turn: int,
        symbols: Sequence[str],
        seconds: float,
        fence: Fence | None,
    ) -> dict[str, Outcome]:
        """Ask one provider by one call; record what will do, and the answer in any case.

        Raises:
            ProviderError: there is no answer with a price.
        """
        source = wanted.sources[turn]
        fetched = await source.ask(
            symbols, seconds=seconds, patient=turn == len(wanted.sources) - 1
        )
        outcomes: dict[str, Outcome] = {}
        if len(wanted.sources) > 1 or wanted.kind is not None or len(symbols) > 1:
            fetched, refused = await self._chosen(fetched, symbols, wanted)
            outcomes.update(refused)
        for price in await self._door.record(fetched, fence):
            outcomes[price.draft.quote.symbol] = price
        return outcomes

    async def _chosen(
        self, fetched: Fetched, symbols: Sequence[str], wanted: Wanted
    ) -> tuple[Fetched, dict[str, ProviderError]]:
        """Part the quotes that will do from those that will not."""
        refused = {
            symbol: fetched.refused.get(symbol) or NotAPrice(f"no price of {symbol} in the answer")
            for symbol in symbols
        }
        good: list[Quote] = []
        for quote in fetched.quotes:
            known = await self._currency(quote.symbol) if len(wanted.sources) > 1 else None
            if reason := _unfit(quote, wanted.kind, known):
                refused[quote.symbol] = reason
            else:
                good.append(quote)
                refused.pop(quote.symbol, None)
        return Fetched(fetched.raw, tuple(good)), refused


def _unfit(quote: Quote, kind: PriceKind | None, currency: str | None) -> ProviderError | None:
    if kind is not None and quote.kind is not kind:
        return OtherKind(f"the price of {quote.symbol} is {quote.kind}, not {kind}")
    if currency is not None and quote.currency not in (None, currency):
        return OtherCurrency(
            f"the price of {quote.symbol} is in {quote.currency}, the stored one in {currency}; "
            "name the provider to have it all the same"
        )
    return None


def _attempts(errors: Sequence[tuple[str, ProviderError]]) -> tuple[Attempt, ...]:
    return tuple(Attempt(name, error.code, error.detail) for name, error in errors)


def _told(errors: Sequence[tuple[str, ProviderError]]) -> ProviderError:
    """Return the first provider's error with everybody's attempts.

    It is a copy: others may have been told the same error, with other attempts.
    """
    error = errors[0][1]
    if len(errors) == 1:
        return error
    told: ProviderError = error.__class__.__new__(error.__class__, *error.args)
    told.__dict__.update(error.__dict__)
    told.attempts = _attempts(errors)
    if error.retryable:
        waits = [one.retry_after for _, one in errors if one.retry_after and one.retryable]
        told.retry_after = min(waits, default=None)
    return told
