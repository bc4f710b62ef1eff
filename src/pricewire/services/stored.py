"""The last stored price of a symbol: from the memory of the door, else from the database.

`latest` and `asking` read it. Invariant: what is returned was committed.
"""

from __future__ import annotations

from typing import Protocol

from pricewire.domain.event import RecordedPrice
from pricewire.errors import StoreError
from pricewire.services.recording import Door


class StoredPrices(Protocol):
    async def last_recorded(self, symbol: str) -> RecordedPrice | None:
        """Return the price of a symbol that was recorded last, by whatever process.

        Raises:
            StoreError: the database cannot be read.
        """
        ...


class Stored:
    """See the module."""

    def __init__(self, door: Door, prices: StoredPrices) -> None:
        self._door = door
        self._prices = prices

    def here(self, symbol: str) -> RecordedPrice | None:
        """Return the price that this process recorded last; asks nobody."""
        return self._door.latest.get(symbol)

    async def last(self, symbol: str) -> RecordedPrice | None:
        """Return the price that was recorded last by any process; this one's if that is unknown."""
        try:
            there = await self._prices.last_recorded(symbol)
        except StoreError:
            return self.here(symbol)
        return there or self.here(symbol)

    async def currency(self, symbol: str) -> str | None:
        """Return the currency of a symbol's last price, None where that is not known."""
        price = self.here(symbol) or await self.last(symbol)
        return None if price is None else price.draft.quote.currency
