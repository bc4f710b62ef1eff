"""The last price of a symbol, at most once in a while; pure, over given times.

`services.feeds.driver` keeps one for each symbol whose jobs want it. Invariant: what is given out
last is the last that came: it is held until its time has come, and is left out only for a newer
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Conflation(Generic[Item]):
    """One symbol's; times are seconds of a clock that is never set.

    Args:
        seconds: between two that are given out, at least.
        held: what waits for its time.
        free_at: when the next may be given out.
    """

    seconds: float
    held: Item | None = None
    free_at: float = float("-inf")

    def offer(self, item: Item, now: float) -> tuple[Item | None, int]:
        """Take the newest; return what is to be given out now, and how many were left out."""
        left_out = 0 if self.held is None else 1
        if now >= self.free_at:
            self.held = None
            self.free_at = now + self.seconds
            return item, left_out
        self.held = item
        return None, left_out

    def due(self, now: float) -> Item | None:
        """Return what was held, once its time has come."""
        return self.flush(now) if self.held is not None and now >= self.free_at else None

    def flush(self, now: float) -> Item | None:
        """Return what is held, whether its time has come or not."""
        item, self.held = self.held, None
        if item is not None:
            self.free_at = now + self.seconds
        return item
