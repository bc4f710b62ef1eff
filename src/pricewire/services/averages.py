"""The latest averages, and what they are made of; `GET /v1/averages` asks.

The value is what the processor put on its topic, seen there; the explanation is what its last
checkpoint holds. Invariant: nothing here comes from a processor's memory, which may be in another
process; and an average that nobody configured is computed anew from stored prices and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from pricewire.domain.average import AverageKind, AverageSpec, average_of, parse_average
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter

EXPLAIN_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class PublishedAverage:
    """An average as it stands on its topic."""

    symbol: str
    kind: str
    window: str
    value: Decimal
    timestamp: datetime
    count: int
    raw_response_id: UUID
    event_id: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class InWindow:
    """A price that an average is made of; `offset` is its place in its partition."""

    event_id: str
    offset: int | None
    price: Decimal
    timestamp: datetime
    provider: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a window held, and its average, when `event_id` had moved it.

    Args:
        missing: ranges of sequences of the symbol that never came.
    """

    event_id: str | None
    value: Decimal | None
    entries: Sequence[InWindow]
    missing: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class StoredPrice:
    event_id: str
    price: Decimal
    timestamp: datetime
    provider: str
    raw_response_id: UUID


@dataclass(frozen=True, slots=True)
class AverageAnswer:
    """An average, as far as it is known.

    Args:
        published: what is on the topic; None if it is not warm, or was not seen since the start,
            or if the explanation is of another event by now.
        value: None if the window is not warm.
        on_request: computed just now from stored prices, since nobody configured it.
    """

    symbol: str
    spec: AverageSpec
    value: Decimal | None
    published: PublishedAverage | None
    explanation: Explanation | None
    on_request: bool = False


class Published(Protocol):
    """What was seen on the topic of averages since the start."""

    def latest(self, symbol: str, spec: AverageSpec) -> PublishedAverage | None: ...

    def symbols(self) -> set[str]: ...


class Explanations(Protocol):
    """Windows as the last checkpoint has them. All raise `StoreError`."""

    async def of(self, symbol: str) -> dict[str, Explanation]:
        """Return the windows of a symbol by the average's name; none if it has none."""
        ...

    async def symbols(self) -> set[str]: ...


class StoredPrices(Protocol):
    async def last_prices(
        self, symbol: str, count: int, since: datetime | None
    ) -> list[StoredPrice]:
        """Return the last `count` prices, or all since a market time, oldest first."""
        ...


class Averages:
    """Answers for averages.

    Args:
        configured: those that the processor computes.
    """

    def __init__(
        self,
        configured: Sequence[AverageSpec],
        *,
        published: Published,
        explanations: Explanations,
        prices: StoredPrices,
        clock: Callable[[], datetime],
    ) -> None:
        self._configured = tuple(configured)
        self._published = published
        self._explanations = explanations
        self._prices = prices
        self._clock = clock

    async def of(
        self, symbol: str, *, kind: str | None, window: str | None, explain: bool
    ) -> list[AverageAnswer]:
        """Return a symbol's averages; those asked for, or all that are configured.

        Raises:
            InvalidRequest: there is no such symbol or average.
            StoreError: the database is away.
        """
        parse_symbol(symbol)
        wanted = self._wanted(kind, window)
        if wanted and wanted[0] not in self._configured:
            return [await self._on_request(symbol, wanted[0])]
        seen = {spec: self._published.latest(symbol, spec) for spec in wanted}
        if not explain:
            return [self._told(symbol, spec, published) for spec, published in seen.items()]
        windows = await self._explained(symbol, seen)
        # A window may be newer than what was seen before it was waited for. What it is of was on
        # the topic before its checkpoint was written, and is mostly seen by now.
        return [
            self._explained_one(
                symbol, spec, self._published.latest(symbol, spec), windows.get(str(spec))
            )
            for spec in wanted
        ]

    async def all(self) -> list[AverageAnswer]:
        """Return every configured average of every symbol that has one, without explanations."""
        symbols = self._published.symbols() | await self._explanations.symbols()
        found = []
        for symbol in sorted(symbols):
            found += [
                self._told(symbol, spec, self._published.latest(symbol, spec))
                for spec in self._configured
            ]
        return [answer for answer in found if answer.value is not None]

    def _wanted(self, kind: str | None, window: str | None) -> list[AverageSpec]:
        if kind is not None and kind not in set(AverageKind):
            raise InvalidParameter(f"kind={kind[:32]!r} is none of {', '.join(AverageKind)}")
        if kind is not None and window is not None:
            return [parse_average(f"{kind}:{window}")]
        return [
            spec
            for spec in self._configured
            if kind in (None, spec.kind) and window in (None, spec.window)
        ]

    def _told(
        self, symbol: str, spec: AverageSpec, published: PublishedAverage | None
    ) -> AverageAnswer:
        return AverageAnswer(symbol, spec, published.value if published else None, published, None)

    def _explained_one(
        self,
        symbol: str,
        spec: AverageSpec,
        published: PublishedAverage | None,
        window: Explanation | None,
    ) -> AverageAnswer:
        """Answer for the event that the explanation is of: value and window belong together."""
        if window is None:
            return self._told(symbol, spec, published)
        if published is None or published.event_id != window.event_id:
            published = None
        return AverageAnswer(symbol, spec, window.value, published, window)

    async def _explained(
        self, symbol: str, seen: Mapping[AverageSpec, PublishedAverage | None]
    ) -> dict[str, Explanation]:
        """Return windows no older than what was seen: a checkpoint comes a moment later."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + EXPLAIN_SECONDS
        while True:
            windows = await self._explanations.of(symbol)
            behind = any(
                published is not None and _is_older(windows.get(str(spec)), published)
                for spec, published in seen.items()
            )
            if not behind or loop.time() > give_up:
                return windows
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _on_request(self, symbol: str, spec: AverageSpec) -> AverageAnswer:
        since = None
        if spec.span:
            # A window is warm once it has seen a whole span, so two of them are looked at.
            newest = await self._prices.last_prices(symbol, 1, None)
            since = newest[-1].timestamp - 2 * spec.span if newest else self._clock()
        # An exponential average never forgets: ten windows leave less than a billionth.
        count = spec.count * 10 if spec.kind is AverageKind.EMA else spec.count
        stored = await self._prices.last_prices(symbol, count, since)
        value, used = average_of(spec, stored)
        entries = [
            InWindow(one.event_id, None, one.price, one.timestamp, one.provider) for one in used
        ]
        last = stored[-1].event_id if stored else None
        return AverageAnswer(
            symbol, spec, value, None, Explanation(last, value, entries, ()), on_request=True
        )


def _is_older(window: Explanation | None, published: PublishedAverage) -> bool:
    if window is None or window.event_id is None:
        return True
    return event_order(window.event_id) < event_order(published.event_id)


def event_order(event_id: str) -> int:
    """Return an event's number: within its symbol, or another producer's within its partition."""
    number = event_id.replace("/", "~").rpartition("~")[2]
    return int(number) if number.isascii() and number.isdigit() else 0
