"""Feeds: what a vendor's websocket says, and how ticks are told apart; values, no I/O.

Feeds' protocols in `providers` make these values, `services.feeds.driver` acts on them. Invariant:
a tick has the exact digits and the market's time of its frame, as every quote has, and `number`
only where the vendor counts a symbol's trades one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pricewire.domain.quote import Quote
from pricewire.errors import ProviderError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One trade, or one quote where the feed has only quotes.

    Args:
        quote: its symbol is the caller's form, its `trade_id` the vendor's, by which a repetition
            within the symbol is known: together with `exchange` and `timestamp`, as shares' ids
            are counted by exchange and begin anew each day. Without one nothing can be told to
            be a repetition.
        number: the vendor's count of the symbol's trades, each one more than the last: what is
            missing between two is a gap; None where the vendor has no such count.
        old: told at subscribing: a trade from before, which may have been recorded or not.
    """

    quote: Quote
    number: int | None = None
    old: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The vendor takes subscriptions now: it is connected, and knows who we are if it asks."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The vendor says that these are subscribed; callers' forms."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor does not give this symbol; the others go on."""

    symbol: str
    error: ProviderError


@dataclass(frozen=True, slots=True)
class Alive:
    """A frame that only says that the connection lives, or nothing that we need."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the vendor expects to be sent back; it may hold a key, and shows it nowhere."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame, or one trade in it, is not what the vendor sends; nothing was made of it.

    Args:
        detail: one sentence for a person, without a secret.
    """

    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The vendor ends the connection or will not serve it.

    Args:
        error: says why; whether connecting again can help is `error.retryable`, and how long to
            wait `error.retry_after`.
    """

    error: ProviderError


Said = Tick | Ready | Subscribed | Refused | Alive | Reply | Unreadable | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLimits:
    """What a vendor allows on one connection, and what its silence means.

    Args:
        symbols: subscribed at the same time; None: as many as you like.
        per_message: symbols in one subscribing message.
        messages_per_second: that we may send.
        silence_seconds: without any frame (websocket pings count): the connection is dead.
        heartbeat_seconds: how often `heartbeat` is to be sent; None: never.
        lifetime_seconds: after which the vendor ends the connection by itself; None: never.
    """

    symbols: int | None = None
    per_message: int = 100
    messages_per_second: float = 5
    silence_seconds: float = 30
    heartbeat_seconds: float | None = None
    heartbeat: str = ""
    lifetime_seconds: float | None = None
