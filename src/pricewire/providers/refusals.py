"""What the refusals of all vendors have in common: texts, statuses and waits.

Invariant: an error's text holds no secret and nothing that does not print, and is cut to
`MAX_SAID` characters; a wait is above zero.
"""

from __future__ import annotations

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
)
from pricewire.providers.anatomy import Answer, masked

MAX_SAID: Final = 200
_MAX_WAIT: Final = 31 * 86_400.0


def said(words: str, answer: Answer) -> str:
    """Return a vendor's words, fit for an error text."""
    words = masked(words, answer.secrets)
    words = "".join(char if char.isprintable() else " " for char in words).strip()
    return words if len(words) <= MAX_SAID else words[: MAX_SAID - 1] + "…"


def plain(answer: Answer) -> str:
    """Return a body that is no JSON as words; a page of HTML has none."""
    words = answer.body.decode("utf-8", "replace").strip()
    return "" if words.startswith("<") else words


def detail(vendor: str, words: str, answer: Answer) -> str:
    """Return what the vendor said; the HTTP status where it is silent."""
    return f"{vendor}: {said(words, answer) or f'HTTP {answer.status}'}"


def by_status(
    vendor: str, words: str, answer: Answer, *, forbidden: str = "invalid_key"
) -> ProviderError:
    """Return the error of a refusal whose text does not tell.

    Args:
        forbidden: what the vendor mostly means by 403.
    """
    text = detail(vendor, words, answer)
    if answer.status >= 500:
        return ProviderDown(text, retry_after=wait(answer, 30))
    if answer.status == 429:
        return Throttled(text, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, 60))
    if answer.status in (401, 403):
        code = "invalid_key" if answer.status == 401 else forbidden
        return ProviderRefused(text, code=code)
    if answer.status == 451:
        return ProviderRefused(text, code="region_refused")
    return NotAPrice(text)


def wait(answer: Answer, default: float) -> float:
    """Return the seconds that the headers ask for (Retry-After, X-RateLimit-Reset)."""
    if (after := _whole(answer, "retry-after")) is not None:
        return min(max(after, 1), _MAX_WAIT)
    if (reset := _whole(answer, "x-ratelimit-reset")) is not None:
        return min(max(reset - answer.fetched_at.timestamp(), 1), _MAX_WAIT)
    return default


def _whole(answer: Answer, header: str) -> int | None:
    value = answer.headers.get(header, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 12 else None


def to_next_minute(now: datetime) -> float:
    return 60 - (now.second + now.microsecond / 1e6)


def to_next_hour(now: datetime) -> float:
    return 3600 - (now.minute * 60 + now.second + now.microsecond / 1e6)


def to_next_day(now: datetime, zone: str) -> float:
    tomorrow = now.astimezone(ZoneInfo(zone)).date() + timedelta(days=1)
    return _to_midnight(now, datetime.combine(tomorrow, time(), ZoneInfo(zone)))


def to_next_month(now: datetime, zone: str) -> float:
    today = now.astimezone(ZoneInfo(zone)).date()
    first = (today.replace(day=28) + timedelta(days=4)).replace(day=1)
    return _to_midnight(now, datetime.combine(first, time(), ZoneInfo(zone)))


def _to_midnight(now: datetime, midnight: datetime) -> float:
    return (midnight.astimezone(UTC) - now).total_seconds()
