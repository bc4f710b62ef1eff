"""One vendor's feed with its keys: what to dial, how to speak, how to fill gaps by REST.

The composition root makes one for each feed that can be connected; fulfils
`services.feed_ports.VendorFeed`. Invariant: keys reach the wire and nothing else; the URL that is
told holds none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from pricewire.domain.feed import FeedLimits, Tick
from pricewire.domain.quote import RawResponse
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Request
from pricewire.providers.feed_anatomy import Feed, FeedProtocol, Gap, ending, refusal
from pricewire.providers.rest import cleaned, without_secrets
from pricewire.providers.socket import WebSocket, opened
from pricewire.services.feed_ports import Filling

Ask = Callable[[Request], Awaitable[RawResponse]]


class LiveFeed:
    """See the module.

    Args:
        keys: by the names in `Feed.needs`.
        url: of the websocket, without secrets.
        ask: makes one call over REST, counted against the provider's budget.
    """

    def __init__(self, feed: Feed, keys: Mapping[str, str], url: str, ask: Ask | None) -> None:
        self._feed = feed
        self._keys = keys
        self._ask = ask if feed.fill else None
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
        return self._ask is not None

    def converse(self) -> FeedProtocol:
        return self._feed.protocol(self.url, self._keys)

    def kept(self, frame: bytes) -> bytes:
        return cleaned(frame, self._secrets)

    async def open(self) -> WebSocket:
        dialled = self._feed.dial(self.url, self._keys)
        return await opened(self.name, dialled.url, dialled.headers, self._refused)

    async def fill(self, symbol: str, first: int, last: int, since: datetime | None) -> Filling:
        assert self._ask is not None, "asked only where it fills"
        assert self._feed.fill is not None, "asked only where it fills"
        gap = Gap(symbol=symbol, first=first, last=last, since=since)
        raw = await self._ask(self._feed.fill.request(gap))
        kept = without_secrets(raw, self._secrets)
        try:
            return Filling(kept, tuple(self._read(raw, gap)))
        except ProviderError as error:
            error.raw = kept
            raise

    def _read(self, raw: RawResponse, gap: Gap) -> list[Tick]:
        assert self._feed.fill is not None, "asked only where it fills"
        answer = Answer(
            body=raw.body,
            status=raw.status,
            fetched_at=raw.fetched_at,
            symbols=(gap.symbol,),
            url=raw.url,
            headers=dict(raw.headers),
            secrets=self._secrets,
        )
        return self._feed.fill.read(answer, gap)

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
