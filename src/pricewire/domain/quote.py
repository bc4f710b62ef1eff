"""A quote: one price of one symbol at one time, as a provider gave it.

Providers make quotes, the door records them. Invariant: the price is an exact, finite, positive
`Decimal` with the provider's digits, and both times are aware UTC (design promises 8 and 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from pricewire.errors import NotAPrice

MAX_PRICE_DIGITS = 64
_EARLIEST = datetime(1600, 1, 1, tzinfo=UTC)


class Precision(StrEnum):
    """How finely the provider gave the market's time; `none`: it gave no time."""

    NANOSECOND = "nanosecond"
    MICROSECOND = "microsecond"
    MILLISECOND = "millisecond"
    SECOND = "second"
    MINUTE = "minute"
    DAY = "day"
    NONE = "none"

    @property
    def coarser_than_second(self) -> bool:
        return self in (Precision.MINUTE, Precision.DAY, Precision.NONE)


class PriceKind(StrEnum):
    """What the price is; `last` trade unless the provider says otherwise."""

    LAST = "last"
    MID = "mid"
    CLOSE = "close"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One price.

    Args:
        symbol: the caller's form.
        timestamp: the market's time, aware UTC; a day at 00:00:00; `fetched_at` if none was given.
        currency: as the provider names it (`USD`, `GBp`), None where it does not.

    Raises:
        NotAPrice: the price is not finite and positive, or the time is naive or absurd.
    """

    symbol: str
    price: Decimal
    timestamp: datetime
    precision: Precision
    currency: str | None = None
    kind: PriceKind = PriceKind.LAST

    def __post_init__(self) -> None:
        if not self.price.is_finite() or self.price <= 0:
            raise NotAPrice(f"{self.price} is no price of {self.symbol}: it must be above zero")
        if max(abs(self.price.adjusted()), len(self.price.as_tuple().digits)) > MAX_PRICE_DIGITS:
            raise NotAPrice(f"the price of {self.symbol} has over {MAX_PRICE_DIGITS} digits")
        if self.timestamp.utcoffset() != timedelta(0):
            raise NotAPrice(f"{self.timestamp} of {self.symbol} is not in UTC")
        if self.timestamp < _EARLIEST:
            raise NotAPrice(f"{self.timestamp} is no market time of {self.symbol}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """A provider's answer, verbatim, with the id by which an event names where it came from.

    Args:
        url: without secrets.
        headers: the chosen ones, names in lower case.
        fetched_at: when we had it, aware UTC.
    """

    id: UUID
    provider: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """One call to a provider: the answer and the quotes in it, in the answer's order."""

    raw: RawResponse
    quotes: tuple[Quote, ...]


def price_text(price: Decimal) -> str:
    """Return the exact digits in plain notation: zeros stay, `1E-8` is written `0.00000001`."""
    return format(price, "f")
