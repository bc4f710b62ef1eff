"""The port by which services ask a provider; every adapter in `providers/` fulfils it."""

from __future__ import annotations

from typing import Protocol

from pricewire.domain.quote import Fetched


class Provider(Protocol):
    """One vendor. `name` is the event's `source`."""

    @property
    def name(self) -> str: ...

    async def fetch(self, symbol: str) -> Fetched:
        """Ask for the latest price of `symbol`, already checked by `parse_symbol`.

        Raises:
            ProviderError: the answer is not a price for that symbol, or there was none.
        """
        ...

    async def aclose(self) -> None: ...
