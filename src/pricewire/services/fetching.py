"""The ports by which services ask a provider; every adapter in `providers/` fulfils the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pricewire.domain.quote import Fetched, Span


class Provider(Protocol):
    """One vendor. `name` is the event's `source`."""

    @property
    def name(self) -> str: ...

    async def fetch(self, symbol: str) -> Fetched:
        """Ask for the latest price of `symbol`, already checked by `parse_symbol`.

        Raises:
            ProviderError: the answer is not a price for that symbol, or there was none; where
                there was one it is the error's `raw`.
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class BatchProvider(Protocol):
    """A provider that may be asked for several symbols by one call."""

    @property
    def batch(self) -> int: ...

    async def fetch_many(self, symbols: Sequence[str]) -> Fetched:
        """Ask for at most `batch` symbols; `Fetched.refused` says which have no price, and why.

        Raises:
            ProviderError: there is a price for none of them.
        """
        ...


@runtime_checkable
class HistoryProvider(Protocol):
    """A provider that gives bars."""

    async def history(self, span: Span) -> Fetched:
        """Ask for the bars of a span, as many as it gives in one answer.

        Raises:
            ProviderError: there are none.
        """
        ...


class Source(Protocol):
    """A provider as `asking` uses it: behind its guard, or as it is where it asks nobody."""

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int: ...

    @property
    def upstream(self) -> bool:
        """Tell whether somebody is asked over a network."""
        ...

    async def room(self) -> int:
        """Return how many symbols a call may name now: `batch`, or what the budget has left where
        it counts each symbol, at least one.

        Raises:
            StoreError: the budget cannot be read.
        """
        ...

    async def ask(self, symbols: Sequence[str], *, seconds: float, patient: bool) -> Fetched:
        """Ask for at most `batch` symbols.

        Args:
            seconds: how long it may take.
            patient: nobody else can be asked: try again where that may help.

        Raises:
            ProviderError: there is a price for none of them.
            StoreError: the call could not be counted, and was not made.
        """
        ...


class Unguarded:
    """A provider that asks nobody and costs nothing, as a source."""

    batch = 1
    upstream = False

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.name = provider.name

    async def room(self) -> int:
        return self.batch

    async def ask(self, symbols: Sequence[str], **_: object) -> Fetched:
        return await self._provider.fetch(symbols[0])
