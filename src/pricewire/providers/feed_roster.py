"""Who asked for what on one connection: the vendor's forms of symbols, and the callers' of each.

Every feed's conversation has one. Invariant: a symbol in two callers' forms is one subscription,
and it ends with the last of them; nothing is kept of what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Caller(NamedTuple):
    """A caller's form of a symbol, and what a price of it is counted in by its looks."""

    symbol: str
    currency: str | None


class Roster:
    """The subscriptions.

    Args:
        own: the vendor's form of a symbol, and of its own forms.
        counted_in: the currency of a caller's form.
    """

    def __init__(self, own: Callable[[str], str], counted_in: Callable[[str], str | None]) -> None:
        self._own = own
        self._counted_in = counted_in
        self._callers: dict[str, tuple[Caller, ...]] = {}

    def add(self, symbols: Iterable[str]) -> list[str]:
        """Return the vendor's forms that were not subscribed yet."""
        fresh = []
        for symbol in symbols:
            own = self._own(symbol)
            callers = self._callers.get(own, ())
            if not callers:
                fresh.append(own)
            if all(caller.symbol != symbol for caller in callers):
                self._callers[own] = (*callers, Caller(symbol, self._counted_in(symbol)))
        return fresh

    def remove(self, symbols: Iterable[str]) -> list[str]:
        """Return the vendor's forms that nobody wants any more."""
        over = []
        for symbol in symbols:
            own = self._own(symbol)
            callers = self._callers.get(own, ())
            left = tuple(caller for caller in callers if caller.symbol != symbol)
            if left:
                self._callers[own] = left
            elif callers:
                del self._callers[own]
                over.append(own)
        return over

    def strike(self, named: str) -> tuple[str, ...]:
        """Take out a symbol that the vendor refuses; returns its callers' forms."""
        own = named if named in self._callers else self._own(named)
        return tuple(caller.symbol for caller in self._callers.pop(own, ()))

    def find(self, named: str) -> tuple[Caller, ...]:
        """Return who wants a symbol of a frame."""
        return self._callers.get(named) or self._callers.get(self._own(named), ())

    def symbols(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the callers' forms of several symbols of a frame, each once."""
        found = (caller.symbol for named in names for caller in self.find(named))
        return tuple(dict.fromkeys(found))
