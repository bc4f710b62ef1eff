"""The ports by which services speak with a vendor's feed; `providers.live_feed` fulfils them.

Invariant: no secret comes through them: what is sent back to the vendor is never looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pricewire.domain.feed import FeedLimits, Said, Tick
from pricewire.domain.quote import RawResponse


class Socket(Protocol):
    """One open connection. Whoever does not `receive` pushes back to the vendor: what is read
    ahead is bounded."""

    async def receive(self) -> bytes | None:
        """Return the next frame; None: a ping or a pong, which only says that it lives.

        Raises:
            ProviderDown: the connection is over; says how it ended.
        """
        ...

    async def send(self, text: str) -> None:
        """Send one message.

        Raises:
            ProviderDown: the connection is over.
        """
        ...

    async def aclose(self) -> None:
        """Close it, in a bounded time; whoever waits in `receive` is told that it is over."""
        ...


class Conversation(Protocol):
    """What is said over one connection; pure. Symbols are callers' forms."""

    def opened(self) -> list[str]:
        """Return what to send as soon as the connection is open."""
        ...

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        """Return the messages that ask for ticks of `symbols`."""
        ...

    def unsubscribe(self, symbols: Sequence[str]) -> list[str]:
        """Return the messages that end them."""
        ...

    def read(self, frame: bytes, received_at: datetime) -> list[Said]:
        """Return what a frame says, in its order; raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Filling:
    """An answer to a question for missing trades, and those of them that it holds."""

    raw: RawResponse
    ticks: tuple[Tick, ...]


class VendorFeed(Protocol):
    """One vendor's feed, with the keys to it.

    `url` is the connection's, without secrets; a feed that `greets` takes subscriptions once it
    said that it is `Ready`, others as soon as they are open; one that `fills` may be asked for
    missing trades.
    """

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def limits(self) -> FeedLimits: ...

    @property
    def greets(self) -> bool: ...

    @property
    def fills(self) -> bool: ...

    def converse(self) -> Conversation:
        """Return a fresh conversation, for one connection."""
        ...

    def kept(self, frame: bytes) -> bytes:
        """Return a frame without ticks as it may be kept: vendors like to repeat a key."""
        ...

    async def open(self) -> Socket:
        """Open a connection.

        Raises:
            ProviderError: it cannot be had; the class says why.
        """
        ...

    async def fill(self, symbol: str, first: int, last: int, since: datetime | None) -> Filling:
        """Ask for missing trades, as many as one answer holds.

        Args:
            since: the market's time of a trade before them, where one is known.

        Raises:
            ProviderError: there is no such answer.
            StoreError: the call could not be counted, and was not made.
        """
        ...
