"""Past prices from a provider's history, one bounded step a call; `POST /v1/backfills` asks.

A bar becomes one past price, its close, at the market time at which the bar closed: a bar within a
day at its beginning plus its interval, a day's bar at its day (precision `day`, also where a vendor
gives the day's first instant). Stored at its beginning, a close would be there before it happened.
Invariant: a bar that may still change is left for later, and what a step says to go on from has
everything before it recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Protocol

from pricewire.domain.past import Occurrences, PastPrice
from pricewire.domain.quote import Bar, Fetched, Precision, PriceKind, Quote, Span
from pricewire.errors import InvalidParameter, NotAPrice, UnknownSymbol
from pricewire.services.history import MAX_ROWS, HistoryDoor

BARS_A_STEP = 300
"""What every vendor gives in one answer."""
INTERVALS: Mapping[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}


class HistorySource(Protocol):
    """A provider with history, behind its guard."""

    @property
    def name(self) -> str: ...

    async def history(self, span: Span, *, seconds: float) -> Fetched:
        """Ask for the bars of a span.

        Raises:
            ProviderError: there are none.
            StoreError: the call could not be counted, and was not made.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did.

    Args:
        next: from where to go on; None: all is done.
        note: why there were no bars.
    """

    provider: str
    bars: int
    recorded: int
    repeated: int
    next: datetime | None
    note: str | None = None


class Backfilling:
    """See the module.

    Args:
        sources: by name, those with history.
        default: who is asked where nobody is named.
        seconds: for one step.
    """

    def __init__(
        self,
        sources: Mapping[str, HistorySource],
        *,
        default: str,
        door: HistoryDoor,
        seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._sources = sources
        self._default = default
        self._door = door
        self._seconds = seconds
        self._clock = clock

    async def step(self, span: Span, provider: str | None) -> Step:
        """Fetch and record what begins in the span's first `BARS_A_STEP` intervals, or more.

        Raises:
            InvalidParameter: there is no such provider or interval, or the span is empty.
            ProviderError: it refuses, or does not answer.
            StoreError: what it gave could not be recorded.
        """
        source, interval = self._source(provider), _interval(span)
        window = min(span.end, span.start + BARS_A_STEP * interval)
        # To vendors the end is a part of the span.
        asked = Span(span.symbol, span.interval, span.start, window - timedelta(seconds=1))
        try:
            fetched = await source.history(asked, seconds=self._seconds)
        except (UnknownSymbol, NotAPrice) as error:
            return Step(source.name, 0, 0, 0, _following(window, span), error.detail)
        bars = self._finished(fetched.bars, span, interval)
        recorded = repeated = 0
        prices = _prices(bars)
        for start in range(0, len(prices), MAX_ROWS):
            some = prices[start : start + MAX_ROWS]
            done = await self._door.record(fetched.raw, some, first=start)
            recorded, repeated = recorded + done.recorded, repeated + done.repeated
        # Some give more than they are asked for; that need not be asked for again.
        begun = max((bar.timestamp + interval for bar, _ in bars), default=window)
        return Step(
            source.name, len(bars), recorded, repeated, _following(max(window, begun), span)
        )

    def _source(self, provider: str | None) -> HistorySource:
        name = provider or self._default
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(sorted(self._sources)) or "none that is configured"
            raise InvalidParameter(f"{name[:64]!r} has no history here; there is {known}")
        return source

    def _finished(
        self, bars: tuple[Bar, ...], span: Span, interval: timedelta
    ) -> list[tuple[Bar, datetime]]:
        """Return the span's bars that are over, by time, with the time at which they were."""
        now = self._clock()
        found = []
        for bar in sorted(bars, key=lambda bar: bar.timestamp):
            over = bar.timestamp + interval
            if span.start <= bar.timestamp < span.end and over <= now:
                daily = bar.precision is Precision.DAY or span.interval == "1d"
                found.append((_of_a_day(bar), bar.timestamp) if daily else (bar, over))
        return found


def _of_a_day(bar: Bar) -> Bar:
    midnight = bar.timestamp == datetime.combine(bar.timestamp.date(), time(), bar.timestamp.tzinfo)
    return replace(bar, precision=Precision.DAY) if midnight else bar


def _interval(span: Span) -> timedelta:
    interval = INTERVALS.get(span.interval)
    if interval is None:
        raise InvalidParameter(f"interval={span.interval[:16]!r} is none of {', '.join(INTERVALS)}")
    if span.end <= span.start:
        raise InvalidParameter("the span is empty: from must be before to")
    return interval


def _following(begin: datetime, span: Span) -> datetime | None:
    return begin if begin < span.end else None


def _prices(bars: list[tuple[Bar, datetime]]) -> list[PastPrice]:
    count = Occurrences().count
    return [
        count(
            Quote(
                symbol=bar.symbol,
                price=bar.close,
                timestamp=closed_at,
                precision=bar.precision,
                kind=PriceKind.CLOSE,
                currency=bar.currency,
                adjusted=bar.adjusted,
            )
        )
        for bar, closed_at in bars
    ]
