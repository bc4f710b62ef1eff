"""Quotes and bars: one price at one time, or open-high-low-close, as a provider gave them.

Providers make them, the door records quotes. Invariant: every price is an exact, finite, positive
`Decimal` with the provider's digits, and all times are aware UTC (design promises 8 and 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from pricewire.errors import NotAPrice, ProviderError

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
    """What the price is; `last` trade unless the provider says otherwise.

    `delayed` is a last trade that is told late; the others may be late too (`Quote.delayed`).
    """

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
        nanosecond: what `timestamp` cannot hold of the provider's time, 0 to 999.
        currency: as the provider names it (`USD`, `GBp`), None where it does not.
        delayed: the provider tells it late, by its own account or by its plan.
        adjusted: for splits or dividends; None where the provider does not say.
        exchange: as the provider names it.
        size: of the trade; `bid` and `ask`: beside it, each as the provider gave it.
        trade_id: the provider's number of the trade, by which a repetition is known.

    Raises:
        NotAPrice: the price is not finite and positive, or the time is naive or absurd.
    """

    symbol: str
    price: Decimal
    timestamp: datetime
    precision: Precision
    currency: str | None = None
    kind: PriceKind = PriceKind.LAST
    nanosecond: int = 0
    delayed: bool = False
    adjusted: bool | None = None
    exchange: str | None = None
    size: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    trade_id: str | None = None

    def __post_init__(self) -> None:
        check_price(self.price, self.symbol)
        check_time(self.timestamp, self.nanosecond, self.symbol)
        # One fact, told in two members: records know it as a kind, callers ask for `delayed`.
        if self.delayed and self.kind is PriceKind.LAST:
            object.__setattr__(self, "kind", PriceKind.DELAYED)
        elif self.kind is PriceKind.DELAYED:
            object.__setattr__(self, "delayed", True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Open, high, low and close over one interval; `timestamp` is the one the provider gives it.

    Args:
        symbol: the caller's form.
        timestamp: aware UTC; a day at 00:00:00. Most providers stamp the interval's beginning.
        precision: how finely `timestamp` is known.
        volume: what was traded, where the provider says it; zero is a volume.
        interval: as the provider names it (`1min`, `1d`), None where it does not.

    Raises:
        NotAPrice: a price is not finite and positive, or a time is naive or absurd.
    """

    symbol: str
    timestamp: datetime
    precision: Precision
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None = None
    interval: str | None = None
    currency: str | None = None
    adjusted: bool | None = None

    def __post_init__(self) -> None:
        for price in (self.open, self.high, self.low, self.close):
            check_price(price, self.symbol)
        if self.low > self.high:
            raise NotAPrice(f"a bar of {self.symbol} has a low above its high")
        check_time(self.timestamp, 0, self.symbol)


@dataclass(frozen=True, slots=True)
class Span:
    """History that is wanted: `interval` is `1m`, `5m`, `15m`, `1h` or `1d`; times aware UTC."""

    symbol: str
    interval: str
    start: datetime
    end: datetime


def check_price(price: Decimal, symbol: str) -> None:
    """Refuse what no price can be.

    Raises:
        NotAPrice: it is not finite and positive, or has too many digits.
    """
    if not price.is_finite() or price <= 0:
        raise NotAPrice(f"{price} is no price of {symbol}: it must be above zero")
    # The text has all of its digits, and is had at a tenth of what the digits alone cost.
    is_long = len(str(price)) > MAX_PRICE_DIGITS
    if abs(price.adjusted()) > MAX_PRICE_DIGITS or (is_long and _digits(price) > MAX_PRICE_DIGITS):
        raise NotAPrice(f"the price of {symbol} has over {MAX_PRICE_DIGITS} digits")


def _digits(price: Decimal) -> int:
    return len(price.as_tuple().digits)


def check_time(moment: datetime, nanosecond: int, symbol: str) -> None:
    """Refuse what no market time can be.

    Raises:
        NotAPrice: it is naive, not in UTC, or absurd.
    """
    if moment.tzinfo is not UTC and moment.utcoffset() != timedelta(0):
        raise NotAPrice(f"{moment} of {symbol} is not in UTC")
    if moment < _EARLIEST or not 0 <= nanosecond <= 999:
        raise NotAPrice(f"{moment} and {nanosecond} ns is no market time of {symbol}")


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
    """One call to a provider: the answer and what is in it, in the answer's order.

    Args:
        bars: of an answer that holds history.
        refused: of a batch, why symbols that were asked for have neither quote nor bars.
    """

    raw: RawResponse
    quotes: tuple[Quote, ...]
    bars: tuple[Bar, ...] = ()
    refused: Mapping[str, ProviderError] = field(default_factory=dict)


def price_text(price: Decimal) -> str:
    """Return the exact digits in plain notation: zeros stay, `1E-8` is written `0.00000001`."""
    return format(price, "f")
