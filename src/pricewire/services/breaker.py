"""Spares a provider that is down: after so many failures in a row nobody is sent for a while.

`services.guard` has one for each provider. Pure: the clock's reading is given in. Invariant: while
it is half open one call is on its way, which alone decides; a call that was given up decides
nothing.
"""

from __future__ import annotations

from enum import StrEnum

FAILURES = 5
COOL_OFF_SECONDS = 30.0
PROBING_SECONDS = 1.0
"""How long to wait while somebody else tries whether the provider is back."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """See the module; times are seconds of any steady clock."""

    def __init__(self, failures: int = FAILURES, cool_off: float = COOL_OFF_SECONDS) -> None:
        self._limit = failures
        self._cool_off = cool_off
        self._failures = 0
        self._opened: float | None = None
        self._probe: object = None

    def state(self, now: float) -> BreakerState:
        if self._opened is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._left(now) > 0 else BreakerState.HALF_OPEN

    def wait(self, now: float) -> float:
        """Return for how many seconds nobody is let through; zero: `admit` would."""
        if self._opened is None:
            return 0.0
        return self._left(now) or (PROBING_SECONDS if self._probe is not None else 0.0)

    def admit(self) -> object:
        """Let one call through, as `wait` said; return the pass by which its outcome is told."""
        ticket = object()
        if self._opened is not None:
            self._probe = ticket
        return ticket

    def succeeded(self, ticket: object) -> None:
        if self._decides(ticket):
            self._failures = 0
            self._opened = self._probe = None

    def failed(self, ticket: object, now: float) -> None:
        if not self._decides(ticket):
            return
        self._failures += 1
        if self._probe is not None or self._failures >= self._limit:
            self._opened = now
        self._probe = None

    def given_up(self, ticket: object) -> None:
        """Note that a call ended without an outcome."""
        if self._probe is ticket:
            self._probe = None

    def _decides(self, ticket: object) -> bool:
        """Tell a call of today from one that was let through before it opened."""
        return self._opened is None or self._probe is ticket

    def _left(self, now: float) -> float:
        assert self._opened is not None
        return max(0.0, self._opened + self._cool_off - now)
