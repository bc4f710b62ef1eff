"""One vendor's feed with its keys: what to dial, how to speak, how to fill gaps by REST.

The composition root makes one for each feed that can be connected; fulfils
`services.feeds.ports.VendorFeed`. Invariant: keys reach the wire and nothing else; the URL that is
told holds none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pricewire.domain.feed import FeedLimits
from pricewire.domain.quote import RawResponse
from pricewire.errors import InvalidParameter, ProviderError
from pricewire.providers.anatomy import Answer
from pricewire.providers.feed_anatomy import Feed, FeedProtocol, Fill, Gap, ending, refusal
from pricewire.providers.rest import RestProvider, cleaned, without_secrets
from pricewire.providers.socket import WebSocket, opened
from pricewire.services.feeds.ports import Filling

FILL_SECONDS = 15.0


class Guarding(Protocol):
    """Counts calls against the provider's budget and watches them; `services.guard` has it."""

    def other(
        self, symbol: str, call: Callable[[], Awaitable[Filling]], *, seconds: float
    ) -> Awaitable[Filling]: ...


@dataclass(frozen=True, slots=True)
class Rest:
    """How the same vendor is asked over REST."""

    provider: RestProvider
    guard: Guarding


class LiveFeed:
    """See the module.

    Args:
        keys: by the names in `Feed.needs`.
        url: of the websocket, without secrets.
    """

    def __init__(self, feed: Feed, keys: Mapping[str, str], url: str, rest: Rest) -> None:
        self._feed = feed
        self._keys = keys
        self._rest = rest
        self.url = url

    @property
    def name(self) -> str:
        return self._feed.name

    @property
    def limits(self) -> FeedLimits:
        return self._feed.limits

    @property
    def greets(self) -> bool:
        return self._feed.greets

    @property
    def fills(self) -> bool:
        return self._feed.fill is not None

    def converse(self) -> FeedProtocol:
        return self._feed.protocol(self.url, self._keys)

    def kept(self, frame: bytes) -> bytes:
        return cleaned(frame, self._secrets)

    async def open(self) -> WebSocket:
        dialled = self._feed.dial(self.url, self._keys)
        return await opened(self.name, dialled.url, dialled.headers, self._refused)

    async def fill(self, symbol: str, first: int, last: int, since: datetime | None) -> Filling:
        fill = self._feed.fill
        if fill is None:
            raise InvalidParameter(f"{self.name} cannot be asked for missing trades")
        gap = Gap(symbol=symbol, first=first, last=last, since=since)

        async def call() -> Filling:
            return await self._filled(fill, gap)

        return await self._rest.guard.other(symbol, call, seconds=FILL_SECONDS)

    async def _filled(self, fill: Fill, gap: Gap) -> Filling:
        raw = await self._rest.provider.ask(fill.request(gap))
        kept = without_secrets(raw, self._secrets)
        try:
            return Filling(kept, tuple(fill.read(self._answer(raw, gap), gap)))
        except ProviderError as error:
            error.raw = kept
            raise

    def _answer(self, raw: RawResponse, gap: Gap) -> Answer:
        return Answer(
            body=raw.body,
            status=raw.status,
            fetched_at=raw.fetched_at,
            symbols=(gap.symbol,),
            url=raw.url,
            headers=dict(raw.headers),
            secrets=self._secrets,
        )

    @property
    def _secrets(self) -> tuple[str, ...]:
        return tuple(self._keys.values())

    def _refused(self, status: int) -> ProviderError:
        """Return what an HTTP answer instead of a websocket amounts to."""
        answer = Answer(
            body=b"", status=status, fetched_at=datetime.now(UTC), secrets=self._secrets
        )
        error = ending(refusal(self._feed.vendor, answer))
        error.detail = f"HTTP {status} instead of a websocket: {error.detail}"
        return error
