"""Who asked for what on one connection: the vendor's forms of symbols, and the callers' of each.

Every feed's conversation has one. Invariant: a symbol in two callers' forms is one subscription,
and it ends with the last of them; nothing is kept of what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Listed(NamedTuple):
    """A subscription: the callers' forms, in the order of their coming, and what counts it."""

    callers: tuple[str, ...]
    currency: str | None


class Roster:
    """The subscriptions.

    Args:
        own: the vendor's form of a symbol, and of its own forms.
        counted_in: the currency of a price of the vendor's form.
    """

    def __init__(self, own: Callable[[str], str], counted_in: Callable[[str], str | None]) -> None:
        self._own = own
        self._counted_in = counted_in
        self._listed: dict[str, Listed] = {}

    def add(self, symbols: Iterable[str]) -> list[str]:
        """Return the vendor's forms that were not subscribed yet."""
        fresh = []
        for symbol in symbols:
            own = self._own(symbol)
            if own not in self._listed:
                fresh.append(own)
                self._listed[own] = Listed((symbol,), self._counted_in(own))
            elif symbol not in (listed := self._listed[own]).callers:
                self._listed[own] = listed._replace(callers=(*listed.callers, symbol))
        return fresh

    def remove(self, symbols: Iterable[str]) -> list[str]:
        """Return the vendor's forms that nobody wants any more."""
        over = []
        for symbol in symbols:
            own = self._own(symbol)
            listed = self._listed.get(own)
            if listed is None or symbol not in listed.callers:
                continue
            left = tuple(caller for caller in listed.callers if caller != symbol)
            if left:
                self._listed[own] = listed._replace(callers=left)
            else:
                del self._listed[own]
                over.append(own)
        return over

    def strike(self, named: str) -> tuple[str, ...]:
        """Take out a symbol that the vendor refuses; returns its callers' forms."""
        own = named if named in self._listed else self._own(named)
        listed = self._listed.pop(own, None)
        return listed.callers if listed else ()

    def find(self, named: str) -> Listed | None:
        """Return the subscription of a symbol in a frame; None if nobody wants it."""
        return self._listed.get(named) or self._listed.get(self._own(named))

    def callers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the callers' forms of several symbols in a frame."""
        found = (self.find(named) for named in names)
        return tuple(caller for listed in found if listed for caller in listed.callers)
