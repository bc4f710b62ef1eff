"""Feeds as they are kept: who owns one, how it fares, and where each of its symbols is.

`services.feeds.driver` owns feeds over these ports, the door writes symbols' states with their
ticks, the API reads. Invariant: a feed has one owner at a time, whose epoch no other owner has;
what is recorded or told under an older epoch is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

Range = tuple[int, int]
"""First and last number, both missing."""


@dataclass(frozen=True, slots=True)
class FeedFence:
    """By what right a feed's ticks are recorded.

    Args:
        epoch: the feed's since it was claimed; any later one means that it is not ours any more.
    """

    provider: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSymbolState:
    """Where a symbol of a feed is; written with the ticks that led there, in one transaction.

    Every member has a default, so that states from before there was one are read.

    Args:
        symbol: the caller's form.
        last_number: the vendor's number of the last trade, where it counts them.
        trade_ids: of the last trades, the newest last, by which repetitions are known.
        missing: numbers that never came, as ranges in rising order.
        ticks: that were recorded; `repeats`: dropped; `conflated`: left out on purpose.
        gaps: how often numbers were missing; `lost`: numbers that are missing for good, since
            there are more ranges than are kept or nobody can fill them.
        filled: numbers that came late or were fetched.
        last_timestamp: the market's, of the last tick; `seen_at`: when we received one last.
    """

    symbol: str
    last_number: int | None = None
    trade_ids: tuple[str, ...] = ()
    missing: tuple[Range, ...] = ()
    ticks: int = 0
    repeats: int = 0
    conflated: int = 0
    gaps: int = 0
    lost: int = 0
    filled: int = 0
    last_timestamp: datetime | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """How a feed fares, as its owner tells it each time it renews its lease.

    Every member has a default, so that statuses from before there was one are read.

    Args:
        owner: who has it, `epoch` and `leased_until` with it, as the store knows them; what an
            owner tells of these three is not looked at.
        state: one word, the owner's.
        told_at: when this was told.
        connected_since: None while there is no connection.
        rate: ticks a second lately; `lag_ms`: from the market's time to ours, of the last ticks.
        subscribed: symbols.
        missing: numbers of trades that never came, of all symbols.
        unreadable: frames that were not what the vendor sends.
    """

    provider: str
    owner: str | None = None
    epoch: int = 0
    leased_until: datetime | None = None
    state: str = ""
    told_at: datetime | None = None
    connected_since: datetime | None = None
    last_frame_at: datetime | None = None
    last_tick_at: datetime | None = None
    last_error: str | None = None
    rate: float = 0
    lag_ms: int | None = None
    subscribed: int = 0
    connections: int = 0
    reconnects: int = 0
    frames: int = 0
    ticks: int = 0
    repeats: int = 0
    gaps: int = 0
    missing: int = 0
    filled: int = 0
    lost: int = 0
    unreadable: int = 0
    conflated: int = 0
    dropped_connections: int = 0


@dataclass(frozen=True, slots=True)
class FeedClaim:
    """A feed that is ours, with what its last owner left."""

    fence: FeedFence
    status: FeedStatus
    symbols: tuple[FeedSymbolState, ...]


class FeedStore(Protocol):
    """Keeps feeds. All of it raises StoreError."""

    async def claim(
        self, provider: str, owner: str, now: datetime, lease: timedelta
    ) -> FeedClaim | None:
        """Take a feed with an epoch that only this claim has; None: somebody else has it.

        Args:
            owner: of one process; by it one that lost its answer takes the feed again at once.
        """
        ...

    async def renew(self, provider: str, epoch: int, until: datetime, status: FeedStatus) -> bool:
        """Lengthen the lease and keep the status; False: it is not ours any more."""
        ...

    async def release(self, provider: str, epoch: int, status: FeedStatus) -> None:
        """Let go of a feed so that anybody may have it; nothing happens where it is not ours."""
        ...

    async def statuses(self) -> list[FeedStatus]:
        """Return how all feeds fare that ever had an owner, by provider."""
        ...

    async def symbols(self, provider: str) -> list[FeedSymbolState]:
        """Return where the symbols of a feed are, by symbol."""
        ...
