"""Whether a failed call to a provider is made again, and after how long; `guard` asks.

Pure. Invariant: only what may succeed later is tried again, a few times, and only where a whole
call still fits into the caller's time.
"""

from __future__ import annotations

from pricewire.errors import ProviderError, Throttle, Throttled

MAX_CALLS = 3
FIRST_WAIT_SECONDS = 0.25
USUAL_OUTAGE_SECONDS = 30
"""A provider that asks for a longer pause than this is taken at its word."""


def wait_before_retry(
    error: ProviderError, *, calls: int, left: float, call_seconds: float, jitter: float
) -> float | None:
    """Return the seconds to wait after `calls` calls, None where there is no further one.

    Args:
        left: seconds of the caller's time.
        call_seconds: that a call may take.
        jitter: from 0 to 1, so that those who failed together do not come back together.
    """
    if calls >= MAX_CALLS or not error.retryable:
        return None
    if isinstance(error, Throttled):
        if error.throttle is not Throttle.BURST:
            return None
        wait = (error.retry_after or 1) * (1 + jitter / 4)
    elif (error.retry_after or 0) > USUAL_OUTAGE_SECONDS:
        return None
    else:
        wait = FIRST_WAIT_SECONDS * 2 ** (calls - 1) * (0.5 + jitter)
    return wait if wait + call_seconds <= left else None
