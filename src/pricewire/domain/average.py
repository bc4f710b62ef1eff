"""Moving averages: which there are, and the windows that compute them; pure and exact.

`streams.averages` pushes prices through windows; the API computes averages that nobody configured
with the same ones. Rules for all of them: a price counts when it comes, in the log's order; a
window that is not warm has no value, never a partial one; sums are exact, and the one division is
rounded half-even to `PLACES` digits after the point more than the most exact price so far has.
Invariant: the same prices in the same order give the same digits, however they come in batches and
wherever a window was dumped and loaded in between.
"""

from __future__ import annotations

import heapq
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from pricewire.errors import InvalidParameter

PLACES = 4
EMA_PLACES = 8
"""Digits beyond the answer's that an exponential average carries from price to price."""
MAX_COUNT = 10_000
MAX_SPAN = timedelta(days=7)

# Prices have up to 64 digits on either side of the point (domain.quote). A quotient of 400 digits
# is never rounded up to a tie, so that rounding it once more gives what rounding once would.
_EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN, Emin=-9_999, Emax=9_999)
# So it is with fewer digits, which are quicker to divide, where enough of them are behind those of
# the answer: a whole number over a divisor d is a tie or at least 1/(2d) away from one.
_QUICK_DIGITS = 57
_QUICK = Context(prec=_QUICK_DIGITS, rounding=ROUND_HALF_EVEN, Emin=-9_999, Emax=9_999)
_SPARE_DIGITS = 18
_SPEC = re.compile(r"(sma|ema|wma):(([1-9][0-9]{0,5})([smhd]?))")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ZERO = Decimal(0)
_add, _subtract, _multiply = _EXACT.add, _EXACT.subtract, _EXACT.multiply
_fma, _divide, _quantize = _EXACT.fma, _EXACT.divide, _EXACT.quantize
_divide_quickly, _quantize_quickly = _QUICK.divide, _QUICK.quantize


class AverageKind(StrEnum):
    SMA = "sma"
    EMA = "ema"
    WMA = "wma"


@dataclass(frozen=True, slots=True)
class AverageSpec:
    """One average: over `count` prices, or over `span` of market time.

    Args:
        window: as it is written, `5` or `5m`.
    """

    kind: AverageKind
    window: str
    count: int = 0
    span: timedelta = timedelta(0)

    def __str__(self) -> str:
        return f"{self.kind}:{self.window}"


def parse_average(text: str) -> AverageSpec:
    """Return the average that `text` names.

    Raises:
        InvalidParameter: says what is allowed.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise InvalidParameter(
            f"{text[:32]!r} is no average: give sma:5, ema:12 or wma:10 for so many prices, "
            "sma:5m for a span of market time (s, m, h, d)"
        )
    kind, window, number, unit = AverageKind(match[1]), match[2], int(match[3]), match[4]
    if not unit:
        if number > MAX_COUNT:
            raise InvalidParameter(f"{text}: an average has at most {MAX_COUNT} prices")
        return AverageSpec(kind, window, count=number)
    span = timedelta(**{_UNITS[unit]: number})
    if kind is not AverageKind.SMA:
        raise InvalidParameter(f"{text}: only a simple average has a time span: sma:{window}")
    if span > MAX_SPAN:
        raise InvalidParameter(f"{text}: a time span has at most {MAX_SPAN.days} days")
    return AverageSpec(kind, window, span=span)


def parse_averages(text: str) -> tuple[AverageSpec, ...]:
    """Return the averages of a comma-separated list, each once, in their order.

    Raises:
        InvalidParameter: one of them is none, or the list is empty.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InvalidParameter("name at least one average, such as sma:5")
    return tuple(dict.fromkeys(parse_average(name) for name in names))


class Priced(Protocol):
    """What a window is made of."""

    @property
    def price(self) -> Decimal: ...

    @property
    def timestamp(self) -> datetime: ...


P = TypeVar("P", bound=Priced)


@dataclass(slots=True)
class WindowState(Generic[P]):
    """What a window needs to go on where it was; a checkpoint holds it.

    Args:
        entries: what is in the window, in the log's order.
        seen: prices counted, no further than it takes to be warm.
        places: digits after the point of the most exact price so far.
        since: market time of the first price; time spans only.
        ema: the average so far, once warm; exponential averages only.
    """

    entries: list[P] = field(default_factory=list)
    seen: int = 0
    places: int = 0
    since: datetime | None = None
    ema: Decimal | None = None


class Window(ABC, Generic[P]):
    """The window of one average of one symbol."""

    def __init__(self, state: WindowState[P]) -> None:
        self._quantum = _ZERO
        self._set_places(state.places)

    @abstractmethod
    def push(self, entry: P) -> Decimal | None:
        """Count a price; return the average, None if it has none or was not moved."""

    @abstractmethod
    def value(self) -> Decimal | None:
        """Return the average as it is, None while the window is not warm."""

    @abstractmethod
    def state(self) -> WindowState[P]: ...

    @property
    @abstractmethod
    def size(self) -> int:
        """How many prices the average is made of."""

    def _rounded(self, dividend: Decimal, divisor: Decimal) -> Decimal:
        quotient = _divide_quickly(dividend, divisor)
        if quotient < self._quick_below:
            return _quantize_quickly(quotient, self._unit)
        return _quantize(_divide(dividend, divisor), self._unit)

    def _note_places(self, price: Decimal) -> None:
        self._quantum = price
        places = -int(price.as_tuple().exponent)
        if places > self._places:
            self._set_places(places)

    def _set_places(self, places: int) -> None:
        self._places = places
        self._unit = _unit(places)
        # Such a quotient has `_SPARE_DIGITS` behind those that count.
        self._quick_below = Decimal(1).scaleb(_QUICK_DIGITS - _SPARE_DIGITS - places - PLACES)


def new_window(spec: AverageSpec, state: WindowState[P] | None = None) -> Window[P]:
    """Return the window of `spec`, empty or as it was dumped."""
    state = state or WindowState()
    if spec.span:
        return SpanWindow(spec.span, state)
    if spec.kind is AverageKind.SMA:
        return SimpleWindow(spec.count, state)
    if spec.kind is AverageKind.WMA:
        return WeightedWindow(spec.count, state)
    return ExponentialWindow(spec.count, state)


class _CountWindow(Window[P]):
    """The last `count` prices."""

    def __init__(self, count: int, state: WindowState[P]) -> None:
        super().__init__(state)
        self._count = count
        self._divisor = Decimal(count)
        self._entries = deque(state.entries)
        # With as many places as the most exact price had, if that is in the window or not.
        self._sum = _ZERO.scaleb(-self._places)
        for entry in self._entries:
            self._sum = _add(self._sum, entry.price)

    @property
    def size(self) -> int:
        return len(self._entries)

    @property
    def _is_warm(self) -> bool:
        return len(self._entries) == self._count

    def state(self) -> WindowState[P]:
        return WindowState(list(self._entries), len(self._entries), self._places)

    def _take(self, entry: P) -> bool:
        """Take `entry` in, let the oldest go from a full window; return whether it is full."""
        price, entries = entry.price, self._entries
        if not price.same_quantum(self._quantum):
            self._note_places(price)
        entries.append(entry)
        total = _add(self._sum, price)
        if len(entries) > self._count:
            total = _subtract(total, entries.popleft().price)
        self._sum = total
        return len(entries) == self._count


class SimpleWindow(_CountWindow[P]):
    """SMA: the mean of the last `count` prices."""

    def __init__(self, count: int, state: WindowState[P]) -> None:
        super().__init__(count, state)
        # One over a divisor of 10,000 has no more places than the answer: nothing is to be rounded.
        factor, rest = divmod(10**PLACES, count)
        self._factor = _ZERO if rest else Decimal(factor).scaleb(-PLACES)
        self._exact: Decimal | None = None
        """The mean of a full window that is never rounded; then the sum is not kept."""

    def push(self, entry: P) -> Decimal | None:
        # This is the average that nearly everybody has, and two operations are all it takes.
        exact = self._exact
        if exact is not None:
            price, entries = entry.price, self._entries
            entries.append(entry)
            change = _subtract(price, entries.popleft().price)
            self._exact = exact = _fma(change, self._factor, exact)
            return exact
        return self._mean() if self._take(entry) else None

    def value(self) -> Decimal | None:
        return self._mean()

    def state(self) -> WindowState[P]:
        if self._exact is not None:
            self._places = -int(self._exact.as_tuple().exponent) - PLACES
        return super().state()

    def _mean(self) -> Decimal | None:
        if not self._is_warm:
            return None
        if not self._factor:
            return self._rounded(self._sum, self._divisor)
        if self._exact is None:
            self._exact = _multiply(self._sum, self._factor)
        return self._exact


class WeightedWindow(_CountWindow[P]):
    """WMA: the newest price weighs `count`, the one before it one less, the oldest 1."""

    def __init__(self, count: int, state: WindowState[P]) -> None:
        super().__init__(count, state)
        self._weights = Decimal(count * (count + 1) // 2)
        self._weighted = _ZERO
        for weight, entry in enumerate(self._entries, 1):
            self._weighted = _fma(entry.price, Decimal(weight), self._weighted)

    def push(self, entry: P) -> Decimal | None:
        if len(self._entries) == self._count:
            # Each price in the window loses one weight, the oldest its last.
            self._weighted = _subtract(self._weighted, self._sum)
        self._take(entry)
        weight = Decimal(len(self._entries))
        self._weighted = _fma(entry.price, weight, self._weighted)
        return self.value()

    def value(self) -> Decimal | None:
        return self._rounded(self._weighted, self._weights) if self._is_warm else None


class ExponentialWindow(_CountWindow[P]):
    """EMA with weight 2 / (count + 1), begun by the mean of the first `count` prices.

    The entries are the last `count` prices; all earlier ones are in the average as it was.
    """

    def __init__(self, count: int, state: WindowState[P]) -> None:
        super().__init__(count, state)
        self._ema = state.ema
        self._keep = Decimal(count - 1)
        self._whole = Decimal(count + 1)

    def push(self, entry: P) -> Decimal | None:
        if not self._take(entry):
            return None
        if self._ema is None:
            dividend, divisor = self._sum, self._divisor
        else:
            dividend = _fma(self._ema, self._keep, _multiply(entry.price, Decimal(2)))
            divisor = self._whole
        self._ema = _quantize(_divide(dividend, divisor), _unit(self._places + EMA_PLACES))
        return self.value()

    def value(self) -> Decimal | None:
        return None if self._ema is None else _quantize(self._ema, self._unit)

    def state(self) -> WindowState[P]:
        kept = super().state()
        kept.ema = self._ema
        return kept


class SpanWindow(Window[P]):
    """SMA over market time: prices later than the newest market time less the span.

    A late price counts from when it comes if its time is still in the span, else not at all. Warm
    once prices of a whole span were seen.
    """

    def __init__(self, span: timedelta, state: WindowState[P]) -> None:
        super().__init__(state)
        self._span = span
        self._since = state.since
        self._order = 0
        self._sum = _ZERO
        self._newest: datetime | None = None
        # By market time; the second member is the log's order, so that entries are never compared.
        self._entries: list[tuple[datetime, int, P]] = []
        for entry in state.entries:
            self._add(entry)

    @property
    def size(self) -> int:
        return len(self._entries)

    def push(self, entry: P) -> Decimal | None:
        if self._newest is not None and entry.timestamp <= self._newest - self._span:
            return None
        self._note_places(entry.price)
        if self._since is None or entry.timestamp < self._since:
            self._since = entry.timestamp
        self._add(entry)
        self._drop_old()
        return self.value()

    def value(self) -> Decimal | None:
        if self._newest is None or self._since is None or self._newest - self._since < self._span:
            return None
        return self._rounded(self._sum, Decimal(len(self._entries)))

    def state(self) -> WindowState[P]:
        in_order = sorted(self._entries, key=lambda item: item[1])
        entries = [entry for _, _, entry in in_order]
        return WindowState(entries, len(entries), self._places, since=self._since)

    def _add(self, entry: P) -> None:
        self._order += 1
        heapq.heappush(self._entries, (entry.timestamp, self._order, entry))
        self._sum = _add(self._sum, entry.price)
        if self._newest is None or entry.timestamp > self._newest:
            self._newest = entry.timestamp

    def _drop_old(self) -> None:
        assert self._newest is not None
        edge = self._newest - self._span
        while self._entries[0][0] <= edge:
            _, _, entry = heapq.heappop(self._entries)
            self._sum = _subtract(self._sum, entry.price)


def _unit(places: int) -> Decimal:
    return Decimal(1).scaleb(-(places + PLACES))


def average_of(spec: AverageSpec, prices: Sequence[P]) -> tuple[Decimal | None, Sequence[P]]:
    """Push `prices` through a new window; return the last average and what it is made of."""
    window: Window[P] = new_window(spec)
    value = None
    for price in prices:
        value = window.push(price)
    return value, window.state().entries
