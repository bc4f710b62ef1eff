"""Candles as processors have made them; `GET /v1/candles` asks.

Each series, past prices and those of now, has a processor of its own; here their candles of one
span become one. Invariant: what is told is what the processors' checkpoints hold, and how old that
is; nothing is computed from prices here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol

from pricewire.domain.candle import Candle, Interval, Part, Series, in_order, merge, parse_interval
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter

MAX_CANDLES = 5_000


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to where a processor's checkpoint goes in the partition that has the symbol.

    Args:
        logged_at: Kafka's time of the last record before `next_offset`, milliseconds.
    """

    partition: int
    next_offset: int | None
    logged_at: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Which candles, by their start.

    Args:
        since: inclusive; `until`: exclusive.
        newest: the last ones of them, not the first.
    """

    since: datetime | None
    until: datetime | None
    limit: int
    newest: bool


class StoredCandles(Protocol):
    """All raise `StoreError`."""

    async def parts(self, symbol: str, interval: Interval, page: Page) -> Sequence[Part]:
        """Return the parts of so many candles, in the order of their starts."""
        ...

    async def as_of(self, partition: int) -> Mapping[Series, AsOf]:
        """Return where the processors' checkpoints of a partition are."""
        ...


@dataclass(frozen=True, slots=True)
class MergedCandle:
    candle: Candle
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class CandlesAnswer:
    """Candles in the order of time.

    Args:
        more: where the next page begins, or, of the newest ones, where the one before ends; None
            where there is none.
    """

    symbol: str
    interval: Interval
    as_of: Mapping[Series, AsOf]
    candles: Sequence[MergedCandle]
    newest: bool
    more: datetime | None


class Candles:
    """See the module.

    Args:
        partition_of: the partition that has a symbol.
    """

    def __init__(self, stored: StoredCandles, *, partition_of: Callable[[str], int]) -> None:
        self._stored = stored
        self._partition_of = partition_of

    async def of(
        self,
        symbol: str,
        interval: str,
        *,
        since: datetime | None,
        until: datetime | None,
        limit: int,
    ) -> CandlesAnswer:
        """Return the first candles from `since` on, or without it the last ones before `until`.

        Raises:
            InvalidRequest: there is no such symbol, interval or limit, or nothing in between.
            StoreError: the database is away.
        """
        parse_symbol(symbol)
        which = parse_interval(interval)
        if not 1 <= limit <= MAX_CANDLES:
            raise InvalidParameter(f"limit={limit} is not from 1 to {MAX_CANDLES}")
        if since is not None and until is not None and since >= until:
            raise InvalidParameter("from must be before to, which is not included")
        # Asked first: what is read afterwards is at least as new.
        as_of = await self._stored.as_of(self._partition_of(symbol))
        page = Page(since, until, limit + 1, newest=since is None)
        found = _merged(await self._stored.parts(symbol, which, page))
        kept, more = _cut(found, limit, newest=page.newest)
        return CandlesAnswer(symbol, which, as_of, kept, page.newest, more)


def _merged(parts: Sequence[Part]) -> list[MergedCandle]:
    grouped = (tuple(group) for _, group in groupby(parts, key=lambda part: part.candle.start))
    return [MergedCandle(merge(group), in_order(group)) for group in grouped]


def _cut(
    found: list[MergedCandle], limit: int, *, newest: bool
) -> tuple[list[MergedCandle], datetime | None]:
    """Keep `limit` of what may be one more; return where to go on."""
    if len(found) <= limit:
        return found, None
    if newest:
        return found[-limit:], found[-limit].candle.start
    return found[:limit], found[limit].candle.start
