"""Past prices: what makes two of them the same one, and a market's time as text; pure.

Imports and backfills make them, the door for history records them. Invariant: the identity of a
past price depends on the price alone, so that whoever brings the same file or the same span of a
provider's history again brings nothing new, while trades that are equal in all members are all kept
(docs/decisions/0016).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from pricewire.domain.quote import Precision, Quote, price_text

IDENTITY_BYTES = 16

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"\s?(Z|z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_BY_DIGITS = (Precision.SECOND, Precision.MILLISECOND, Precision.MICROSECOND, Precision.NANOSECOND)
_DIGITS = {Precision.MILLISECOND: 3, Precision.MICROSECOND: 6, Precision.NANOSECOND: 9}


@dataclass(frozen=True, slots=True)
class PastPrice:
    """A price of the past; `occurrence` counts otherwise equal ones of one market time, from 0."""

    quote: Quote
    occurrence: int = 0


def identity_of(past: PastPrice, provider: str) -> bytes:
    """Return what two past prices share if and only if they are one.

    Zeros at the end of a fraction say nothing here: `1640.250` is the price `1640.25`.
    """
    quote = past.quote
    members = (
        quote.symbol,
        provider,
        quote.timestamp.isoformat(),
        str(quote.nanosecond),
        _same_number(price_text(quote.price)),
        "" if quote.size is None else _same_number(price_text(quote.size)),
        quote.trade_id or "",
        str(past.occurrence),
    )
    return blake2b("\x1f".join(members).encode(), digest_size=IDENTITY_BYTES).digest()


def _same_number(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


@dataclass(slots=True)
class _AtOneTime:
    moment: datetime
    nanosecond: int
    seen: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)


class Occurrences:
    """Counts equal prices of one file or answer, in its order.

    Rows of a symbol count together while they have one market time; its next time begins anew. So
    memory is bounded by the symbols and the rows of one time, and rows of one market time that do
    not stand together in a file are taken for repetitions of each other.
    """

    def __init__(self) -> None:
        self._times: dict[str, _AtOneTime] = {}

    def count(self, quote: Quote) -> PastPrice:
        """Return `quote` with its occurrence."""
        at = self._times.get(quote.symbol)
        if at is None or at.moment != quote.timestamp or at.nanosecond != quote.nanosecond:
            at = self._times[quote.symbol] = _AtOneTime(quote.timestamp, quote.nanosecond)
        size = "" if quote.size is None else _same_number(price_text(quote.size))
        key = (_same_number(price_text(quote.price)), size, quote.trade_id)
        occurrence = at.seen[key]
        at.seen[key] += 1
        return PastPrice(quote, occurrence)


class MarketTime(NamedTuple):
    """A market's time; `moment` is naive where the text names no zone."""

    moment: datetime
    nanosecond: int
    precision: Precision


def read_market_time(text: str) -> MarketTime | None:
    """Return a time written as ISO 8601 has it, with up to nine digits of a second.

    A bare day is a trading day, `00:00:00Z` with precision `day`. None where it is no time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    day, minute, second, digits, zone = match.groups()
    try:
        if minute is None:
            return MarketTime(datetime.fromisoformat(day).replace(tzinfo=UTC), 0, Precision.DAY)
        moment = datetime.fromisoformat(f"{day}T{minute}:{second or '00'}")
        precision = Precision.MINUTE if second is None else Precision.SECOND
        nanosecond = 0
        if digits is not None:
            precision = _BY_DIGITS[(len(digits) + 2) // 3]
            nanoseconds = int(digits.ljust(9, "0"))
            moment = moment.replace(microsecond=nanoseconds // 1000)
            nanosecond = nanoseconds % 1000
        if zone is not None:
            moment = (moment - _offset(zone)).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return MarketTime(moment, nanosecond, precision)


def market_time_text(moment: datetime, nanosecond: int, precision: Precision) -> str:
    """Write a time with the digits that are known of it; `read_market_time` reads it back."""
    text = moment.isoformat()
    if precision is Precision.DAY:
        return text[:10]
    if precision is Precision.MINUTE:
        return f"{text[:16]}Z"
    digits = _DIGITS.get(precision, 0)
    fraction = f"{moment.microsecond:06}{nanosecond:03}"[:digits]
    return f"{text[:19]}.{fraction}Z" if digits else f"{text[:19]}Z"


def _offset(zone: str) -> timedelta:
    if zone in ("Z", "z", "UTC"):
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset
