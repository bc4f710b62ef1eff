"""What a feed's owner counts, and the status that is told of it; pure over given times.

`services.feeds.run` moves it along; the API and the metrics read statuses. Invariant: what counts
ticks is the sum of the symbols' states, so that it never contradicts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pricewire.domain.feed_ledger import count
from pricewire.services.feeds.kept import FeedStatus, FeedSymbolState

STREAMING = "streaming"
RATE_SECONDS = 10
"""Over which the rate is taken."""


@dataclass(slots=True)
class Tally:
    """Counts go on where an earlier owner's stood.

    Args:
        seconds: ticks in each of the last seconds.
    """

    provider: str
    state: str = "idle"
    connected_since: datetime | None = None
    last_frame_at: datetime | None = None
    last_tick_at: datetime | None = None
    last_error: str | None = None
    lag_ms: int | None = None
    subscribed: int = 0
    connections: int = 0
    reconnects: int = 0
    frames: int = 0
    unreadable: int = 0
    dropped_connections: int = 0
    waiting_frames: int = 0
    seconds: deque[int] = field(default_factory=lambda: deque(maxlen=RATE_SECONDS))
    ticks: int = 0
    _counted: int = 0

    def resume(self, status: FeedStatus) -> None:
        """Go on where an earlier owner's counts stood."""
        self.connections = status.connections
        self.reconnects = status.reconnects
        self.frames = status.frames
        self.unreadable = status.unreadable
        self.dropped_connections = status.dropped_connections
        self.last_error = status.last_error

    def second_passed(self) -> None:
        """Note how many ticks came in the second that has passed."""
        self.seconds.append(self.ticks - self._counted)
        self._counted = self.ticks

    def status(self, now: datetime, states: Iterable[FeedSymbolState]) -> FeedStatus:
        found = list(states)
        return FeedStatus(
            provider=self.provider,
            state=self.state,
            told_at=now,
            connected_since=self.connected_since,
            last_frame_at=self.last_frame_at,
            last_tick_at=self.last_tick_at,
            last_error=self.last_error,
            rate=round(sum(self.seconds) / max(1, len(self.seconds)), 1),
            lag_ms=self.lag_ms,
            subscribed=self.subscribed,
            connections=self.connections,
            reconnects=self.reconnects,
            frames=self.frames,
            ticks=sum(state.ticks for state in found),
            repeats=sum(state.repeats for state in found),
            gaps=sum(state.gaps for state in found),
            missing=sum(count(state.missing) for state in found),
            filled=sum(state.filled for state in found),
            lost=sum(state.lost for state in found),
            unreadable=self.unreadable,
            conflated=sum(state.conflated for state in found),
            dropped_connections=self.dropped_connections,
        )
