"""The anatomy that all feeds share: where to dial, what to say, what a frame says, how to fill.

A vendor's feed file makes one `Feed`; `feed_catalogue` lists them, and the driver of feeds speaks
with the vendor through a fresh `FeedProtocol` for each connection. Invariant: all of it is pure
(texts in, values out, no clock and no socket), and no error holds a secret; what holds one is
`Dialled`, `Reply` and what `opened` returns, which therefore are never logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from pricewire.domain.feed import FeedLimits, Said, Tick
from pricewire.errors import NotAPrice, ProviderDown, ProviderError
from pricewire.providers.anatomy import Answer, Request, Vendor, read


class FeedProtocol(Protocol):
    """One connection's conversation; symbols are callers' forms."""

    def opened(self) -> list[str]:
        """Return what to send as soon as the socket is open."""
        ...

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        """Return the messages that ask for ticks of `symbols`; none if all are subscribed."""
        ...

    def unsubscribe(self, symbols: Sequence[str]) -> list[str]:
        """Return the messages that end them, but for what another caller's form still needs."""
        ...

    def read(self, frame: bytes, received_at: datetime) -> list[Said]:
        """Return what a frame says, in its order, never nothing; raises nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """What to connect to, with the secrets in it."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Trades that did not come: their numbers, both included.

    Args:
        since: the market's time of the last trade known before them; None where there is none.
    """

    symbol: str
    first: int
    last: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """REST for gaps, one page a call: an answer may hold some of a gap's trades, and then what
    is left of it is asked for again; one that holds none of them is the end of it.

    Args:
        request: the trades of a gap.
        read: an answer to it → those of its trades that lie in the gap, in their order; raises
            `ProviderError`, and nothing else ever.
    """

    request: Callable[[Gap], Request]
    read: Callable[[Answer, Gap], list[Tick]]


def _as_it_is(url: str, _keys: Mapping[str, str]) -> Dialled:
    return Dialled(url=url)


def _everything(_url: str, _symbol: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What there is to know of one vendor's websocket; made once, in its file.

    Args:
        url: default of `<NAME>_WS_URL`: the whole URL, with its path, without a query.
        limits: of one connection.
        protocol: URL and keys → a fresh conversation.
        dial: URL and keys → what to connect to.
        covers: URL and a caller's symbol → whether that socket can have it at all.
        greets: the vendor says when it takes subscriptions (`Ready`); otherwise it takes them as
            soon as the socket is open and `opened` is sent.
        fill: None where the vendor has no REST endpoint by which a gap can be named.
    """

    vendor: Vendor
    url: str
    limits: FeedLimits
    protocol: Callable[[str, Mapping[str, str]], FeedProtocol]
    dial: Callable[[str, Mapping[str, str]], Dialled] = _as_it_is
    covers: Callable[[str, str], bool] = _everything
    greets: bool = False
    fill: Fill | None = None

    @property
    def name(self) -> str:
        return self.vendor.name

    @property
    def title(self) -> str:
        return self.vendor.title

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of its keys, as in `Vendor.needs`."""
        return self.vendor.needs


def with_parameter(url: str, name: str, value: str) -> str:
    """Return a URL with one more parameter in its query."""
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(value, safe='')}"


def refusal(vendor: Vendor, answer: Answer) -> ProviderError:
    """Return what a refusing frame amounts to, or the answer to a handshake that failed."""
    try:
        read(vendor, answer)
    except ProviderError as error:
        return error
    return NotAPrice(f"{vendor.title} refuses the feed with a price")


def ending(error: ProviderError) -> ProviderError:
    """Return what a refusal means for the connection as a whole.

    One that the vendor's parser has no better word for (`NotAPrice`) means to try again.
    """
    return ProviderDown(error.detail) if isinstance(error, NotAPrice) else error
