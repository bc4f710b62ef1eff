"""Alpha Vantage's ways to say no, told by their wording; `alpha_vantage_answers` calls this.

Nearly all of them come with HTTP 200, and the member they stand in has changed over the years
(Note, Information, Error Message), so the text decides and then the status. Invariant: an error's
text is cleaned of the key, of what does not print, and cut to `MAX_SAID` characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)

MAX_SAID: Final = 200

_EASTERN: Final = ZoneInfo("America/New_York")
_ECHOED_KEY: Final = re.compile(r"(?i)\b(API key (?:as|is) )\S+")
_RATE_WORDING: Final = (
    "rate limit",
    "call frequency",
    "spreading out",
    "burst pattern",
    "requests per",
)
_BURST_WORDING: Final = ("burst pattern", "spreading out", "per second")


def said(text: str, secret: str) -> str:
    """Return what the vendor said, fit for an error text."""
    known = text.replace(secret, "***") if secret else text
    clean = _ECHOED_KEY.sub(r"\1***", known)
    printable = "".join(char if char.isprintable() else " " for char in clean)
    return printable if len(printable) <= MAX_SAID else printable[: MAX_SAID - 1] + "…"


def refuse_by_wording(
    members: Mapping[str, object], *, symbol: str, fetched_at: datetime, secret: str
) -> None:
    """Look for a refusal in the texts at the top of a body.

    Raises:
        ProviderError: there is one.
    """
    text = " ".join(value for value in members.values() if isinstance(value, str))
    lower = text.lower()
    vendor = f"Alpha Vantage: {said(text, secret)}"
    if "apikey is invalid" in lower:
        raise ProviderRefused(vendor, code="invalid_key")
    if "invalid api call" in lower:
        raise UnknownSymbol(f"Alpha Vantage knows no {symbol}")
    if "accept header" in lower:
        raise NotAPrice(vendor)
    if any(wording in lower for wording in _RATE_WORDING):
        raise _throttled(lower, vendor, fetched_at)
    # The sample that stands in for a premium answer looks like prices and is invented.
    if "premium endpoint" in lower:
        raise ProviderRefused(vendor, code="premium_required")
    if "artificial" in lower:
        raise NotAPrice(vendor)
    if "demo" in lower and "api key" in lower:
        raise ProviderRefused(vendor, code="invalid_key")


def refuse_by_status(status: int) -> None:
    """Judge a body without a refusal by its HTTP status.

    Raises:
        ProviderError: the status is not 200.
    """
    if status != 200:
        raise _by_status(status)


def _by_status(status: int) -> ProviderError:
    detail = f"Alpha Vantage answered HTTP {status}"
    if status >= 500:
        return ProviderDown(detail)
    if status == 429:
        return Throttled(detail, throttle=Throttle.UNSPECIFIED, retry_after=60)
    if status in (401, 403):
        return ProviderRefused(detail, code="invalid_key")
    return NotAPrice(detail)


def _throttled(lower: str, vendor: str, fetched_at: datetime) -> Throttled:
    # The shortest span that is named wins: texts about a burst or a minute go on to advertise
    # the daily limit or the premium plans.
    if any(wording in lower for wording in _BURST_WORDING):
        return Throttled(vendor, throttle=Throttle.BURST, retry_after=1)
    if "minute" in lower:
        return Throttled(vendor, throttle=Throttle.MINUTE, retry_after=60)
    if "per day" in lower or "daily" in lower:
        wait = _seconds_to_next_day(fetched_at)
        return Throttled(vendor, throttle=Throttle.DAY, retry_after=wait)
    return Throttled(vendor, throttle=Throttle.UNSPECIFIED, retry_after=60)


def _seconds_to_next_day(now: datetime) -> float:
    # When the quota starts anew is published nowhere; midnight where the vendor and its market
    # are is the likeliest, and asking too early costs one more refusal.
    tomorrow = now.astimezone(_EASTERN).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, time(), _EASTERN).astimezone(UTC)
    return (midnight - now).total_seconds()
