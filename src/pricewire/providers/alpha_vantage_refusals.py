"""Alpha Vantage's ways to say no, told by their wording; `alpha_vantage_answers` calls this.

Nearly all of them come with HTTP 200, and the member they stand in has changed over the years
(Note, Information, Error Message), so the text decides and then the status. Invariant: an error's
text is cleaned of the key that the vendor likes to repeat, also where it is another one than ours.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from pricewire.errors import (
    NotAPrice,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer
from pricewire.providers.readers import Members
from pricewire.providers.refusals import by_status, detail, to_next_day

_ECHOED_KEY: Final = re.compile(r"(?i)\b(API key (?:as|is) )\S+")
_RATE_WORDING: Final = (
    "rate limit",
    "call frequency",
    "spreading out",
    "burst pattern",
    "requests per",
)
_BURST_WORDING: Final = ("burst pattern", "spreading out", "per second")


def refuse_by_wording(members: Members, answer: Answer) -> None:
    """Look for a refusal in the texts at the top of a body.

    Raises:
        ProviderError: there is one.
    """
    text = " ".join(value for value in members.values() if isinstance(value, str))
    lower = text.lower()
    vendor = detail("Alpha Vantage", _ECHOED_KEY.sub(r"\1***", text), answer)
    if "apikey is invalid" in lower:
        raise ProviderRefused(vendor, code="invalid_key")
    if "invalid api call" in lower:
        raise UnknownSymbol(f"Alpha Vantage knows no {answer.asked_for}")
    if "accept header" in lower:
        raise NotAPrice(vendor)
    if any(wording in lower for wording in _RATE_WORDING):
        raise _throttled(lower, vendor, answer.fetched_at)
    # The sample that stands in for a premium answer looks like prices and is invented.
    if "premium endpoint" in lower:
        raise ProviderRefused(vendor, code="premium_required")
    if "artificial" in lower:
        raise NotAPrice(vendor)
    if "demo" in lower and "api key" in lower:
        raise ProviderRefused(vendor, code="invalid_key")


def refuse_by_status(answer: Answer) -> None:
    """Judge a body without a refusal by its HTTP status.

    Raises:
        ProviderError: the status is not 200.
    """
    if answer.status != 200:
        raise by_status("Alpha Vantage", "", answer)


def _throttled(lower: str, vendor: str, fetched_at: datetime) -> Throttled:
    # The shortest span that is named wins: texts about a burst or a minute go on to advertise
    # the daily limit or the premium plans.
    if any(wording in lower for wording in _BURST_WORDING):
        return Throttled(vendor, throttle=Throttle.BURST, retry_after=1)
    if "minute" in lower:
        return Throttled(vendor, throttle=Throttle.MINUTE, retry_after=60)
    if "per day" in lower or "daily" in lower:
        # When the quota starts anew is published nowhere; midnight where the vendor and its
        # market are is the likeliest, and asking too early costs one more refusal.
        wait = to_next_day(fetched_at, "America/New_York")
        return Throttled(vendor, throttle=Throttle.DAY, retry_after=wait)
    return Throttled(vendor, throttle=Throttle.UNSPECIFIED, retry_after=60)
