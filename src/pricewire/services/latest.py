"""The main job: ask a provider for a symbol's latest price, record it, say what became of it.

The API calls it. Invariant: what is answered was recorded first; nothing is cached or made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pricewire.domain.event import EventState, Publication, RecordedPrice
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter, StoreError
from pricewire.services.fetching import Provider
from pricewire.services.receipts import Receipts
from pricewire.services.recording import Door


@dataclass(frozen=True, slots=True)
class LatestAnswer:
    """A recorded price and what is known of its event's publication."""

    price: RecordedPrice
    state: EventState
    publication: Publication | None


class LatestPrice:
    """See the module.

    Args:
        providers: by name.
        default: name of the one that is asked unless the caller names another.
    """

    def __init__(
        self, providers: Mapping[str, Provider], default: str, *, door: Door, receipts: Receipts
    ) -> None:
        self._providers = providers
        self._default = default
        self._door = door
        self._receipts = receipts

    async def __call__(
        self, symbol: str, *, provider: str | None = None, wait_seconds: float = 0
    ) -> LatestAnswer:
        """Fetch, record, and wait at most `wait_seconds` for the delivery report.

        Raises:
            InvalidRequest: no such provider, or no symbol.
            ProviderError: the provider's answer is not a price for that symbol.
            StoreError: the price could not be recorded, and is not published.
        """
        chosen = self._provider(provider or self._default)
        fetched = await chosen.fetch(parse_symbol(symbol))
        price = (await self._door.record(fetched))[0]
        if wait_seconds <= 0:
            return LatestAnswer(price, EventState.QUEUED, None)
        try:
            receipt = await self._receipts.wait(price.event_id, wait_seconds)
        except StoreError:
            # It is recorded; only what became of its event cannot be read just now.
            return LatestAnswer(price, EventState.QUEUED, None)
        return LatestAnswer(price, receipt.state, receipt.publication)

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise InvalidParameter(f"there is no provider {name[:64]!r} here; there is {known}")
        return provider
