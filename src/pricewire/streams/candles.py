"""The processors `candles` and `candles-history`: prices make candles of their symbol; pure.

The runner gives the step the events of a partition in the log's order. A candle closes when its
symbol has a price of a later one, never by a clock; what changes it afterwards gives a new
revision. Of closed candles memory holds the recent ones: the runner loads what an event needs.
Invariant: what comes out depends on the events alone, not on what memory held (promise 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from pricewire.domain.candle import (
    Candle,
    Interval,
    Series,
    Span,
    new_candle,
    parse_interval,
    place_of,
    span_of,
)
from pricewire.domain.quote import Precision, price_text
from pricewire.errors import InvalidParameter
from pricewire.services.processing import PriceTick, Row, RowKey

VERSION = "1"
"""Changed with every change of what comes out: state of another version is not used."""
CLOSED = "candle.closed"
"""`ce_type` of what comes out: a candle that closed, or a closed one that changed."""
TABLE = "candles"
KEEP = 10_000

BEFORE = -1
"""An offset before all of a partition: of what came in another one."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FIELDS = tuple(field.name for field in fields(Candle))
_INTERVALS = tuple(Interval)


_Id = Annotated[str, msgspec.Meta(extra_json_schema={"type": "string", "format": "uuid"})]


class CandleValue(msgspec.Struct, gc=False):
    """A record's value on the topic `candles`.

    Args:
        open: as a JSON number with its exact digits, as are the other prices.
        count: how many prices the candle is made of.
        open_at: market time of the open; `close_at`: of the close.
        series: `live`, or `history` for past prices.
        revision: 1 when the candle closed, one more with each later change.
        timestamp: of the price that closed or changed it, and so are the two ids.
    """

    symbol: str
    interval: str
    start: datetime
    end: datetime
    open: Decimal | msgspec.Raw
    high: Decimal | msgspec.Raw
    low: Decimal | msgspec.Raw
    close: Decimal | msgspec.Raw
    count: int
    open_at: datetime
    close_at: datetime
    series: str
    revision: int
    timestamp: datetime
    raw_response_id: _Id
    event_id: str


class SymbolCandles:
    """A symbol's candles in memory.

    Args:
        open: the newest of each interval.

    `closed` has older ones by their row's key; None: there is no such candle. `complete_from` says
    for each interval since when `closed` has all there are, `complete` the latest of these.
    """

    __slots__ = ("changed", "closed", "complete", "complete_from", "open")

    def __init__(self, open_candles: list[Candle | None]) -> None:
        self.open = open_candles
        self.closed: dict[RowKey, Candle | None] = {}
        self.changed: set[RowKey] = set()
        self.complete_from = [one.start if one else _LONG_AGO for one in open_candles]
        self.complete = max(self.complete_from)


_Values = tuple[
    datetime, datetime, Decimal, Decimal, Decimal, Decimal, int, datetime, int, datetime, int, int
]
_values: Callable[[Candle], _Values] = attrgetter(*_FIELDS)
_encode_value = msgspec.json.Encoder().encode
_dump = msgspec.msgpack.Encoder().encode
_load = msgspec.msgpack.Decoder(list[_Values | None]).decode


class CandlesStep:
    """The step.

    Args:
        name: of the processor; two with different names share nothing.
        series: which prices it is given.
        keep: how many closed candles of a partition stay in memory once they are written.
    """

    version = VERSION
    table = TABLE

    def __init__(self, name: str, series: Series, *, keep: int = KEEP) -> None:
        self.name = name
        self.keep = keep
        self._series = series.value

    @property
    def rows(self) -> CandlesStep:
        return self

    def new(self) -> SymbolCandles:
        return SymbolCandles([None] * len(_INTERVALS))

    def apply(self, state: SymbolCandles, tick: PriceTick) -> Sequence[tuple[str, bytes]]:
        """Count a price; return each candle that it closed, or changed though it was closed."""
        at, counted = tick.timestamp, 0
        if tick.precision is Precision.SECOND:
            for candle in state.open:
                if candle is None or not candle.start <= at < candle.end:
                    break
                candle.add(tick.price, at, tick.offset)
                counted += 1
            else:
                return ()
        place = place_of(tick.symbol, at, tick.precision)
        told = []
        for interval in place.intervals[counted:]:
            candle = self._count(state, tick, place.at, interval)
            if candle is not None:
                name = f"candle:{interval}:{_time_text(candle.start)}"
                told.append((name, self._encode(tick, interval, candle)))
        return told

    def _count(
        self, state: SymbolCandles, tick: PriceTick, at: datetime, interval: Interval
    ) -> Candle | None:
        """Count a price in one interval; return the candle that there is to tell of."""
        number = _INTERVALS.index(interval)
        newest = state.open[number]
        if newest is not None and newest.start <= at < newest.end:
            newest.add(tick.price, at, tick.offset)
            return None
        span = span_of(tick.symbol, interval, at)
        if newest is not None and at < newest.start:
            return self._count_late(state, tick, at, (interval, span))
        state.open[number] = new_candle(span, tick.price, at, tick.offset)
        if newest is not None:
            newest.revision = 1
            self._note(state, (tick.symbol, interval.value, newest.start), newest)
        return newest

    def _count_late(
        self, state: SymbolCandles, tick: PriceTick, at: datetime, which: tuple[Interval, Span]
    ) -> Candle:
        """Count a price in a closed candle; one that never was is made, and closed at once."""
        interval, span = which
        key = (tick.symbol, interval.value, span.start)
        if key not in state.closed and span.start < state.complete_from[_INTERVALS.index(interval)]:
            raise LookupError(f"{key} was not loaded")
        candle = state.closed.get(key)
        if candle is None:
            candle = new_candle(span, tick.price, at, tick.offset)
        else:
            candle.add(tick.price, at, tick.offset)
        candle.revision += 1
        self._note(state, key, candle)
        return candle

    def _note(self, state: SymbolCandles, key: RowKey, candle: Candle) -> None:
        state.closed[key] = candle
        state.changed.add(key)

    def _encode(self, tick: PriceTick, interval: Interval, candle: Candle) -> bytes:
        value = CandleValue(
            symbol=tick.symbol,
            interval=interval.value,
            start=candle.start,
            end=candle.end,
            open=_exact(candle.open),
            high=_exact(candle.high),
            low=_exact(candle.low),
            close=_exact(candle.close),
            count=candle.count,
            open_at=candle.first_at,
            close_at=candle.last_at,
            series=self._series,
            revision=candle.revision,
            timestamp=tick.timestamp,
            raw_response_id=tick.raw_response_id,
            event_id=tick.event_id,
        )
        return _encode_value(value)

    def dump(self, state: SymbolCandles) -> bytes:
        return _dump([one and _values(one) for one in state.open])

    def load(self, stored: bytes) -> SymbolCandles:
        return SymbolCandles([one and Candle(*one) for one in _load(stored)])

    def moved(self, stored: bytes) -> bytes:
        state = self.load(stored)
        for candle in state.open:
            if candle is not None:
                candle.first_offset = candle.last_offset = BEFORE
        return self.dump(state)

    # Rows: closed candles that memory need not hold.

    def lacking(self, state: SymbolCandles, tick: PriceTick) -> Iterator[RowKey]:
        """Give the keys of closed candles that an event may change and memory has not."""
        if tick.timestamp >= state.complete and tick.precision is Precision.SECOND:
            return
        place = place_of(tick.symbol, tick.timestamp, tick.precision)
        for interval in place.intervals:
            known = state.complete_from[_INTERVALS.index(interval)]
            if place.at < known:
                key = (tick.symbol, interval.value, span_of(tick.symbol, interval, place.at).start)
                if key not in state.closed:
                    yield key

    def give(self, state: SymbolCandles, key: RowKey, row: Row | None) -> None:
        """Take in what was stored under a key; None: nothing."""
        state.closed[key] = None if row is None else Candle(*(row[name] for name in _FIELDS))

    def changed(self, symbol: str, state: SymbolCandles) -> tuple[list[Row], Sequence[RowKey]]:
        """Return rows of what may have changed since the last call, and the keys of closed ones."""
        keys = tuple(state.changed)
        state.changed.clear()
        rows: list[Row] = [
            _row(key, candle) for key in keys if (candle := state.closed[key]) is not None
        ]
        for interval, candle in zip(_INTERVALS, state.open, strict=True):
            if candle is not None:
                rows.append(_row((symbol, interval.value, candle.start), candle))
        return rows, keys

    def forget(self, state: SymbolCandles, key: RowKey) -> None:
        """Let a closed candle go, unless it has changed since it was written."""
        if key in state.changed:
            return
        candle = state.closed.pop(key, None)
        if candle is not None:
            number = _INTERVALS.index(Interval(key[1]))
            state.complete_from[number] = max(state.complete_from[number], candle.end)
            state.complete = max(state.complete, candle.end)


def _row(key: RowKey, candle: Candle) -> dict[str, Any]:
    symbol, interval, _ = key
    named = zip(_FIELDS, _values(candle), strict=True)
    return {"symbol": symbol, "interval": interval, **dict(named)}


def _exact(price: Decimal) -> msgspec.Raw:
    return msgspec.Raw(price_text(price).encode())


def _time_text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def parse_candle_id(text: str) -> tuple[str, Interval, datetime]:
    """Return event id, interval and start in `AAPL~1234~candle:1m:2024-03-20T10:30:00Z`.

    Raises:
        InvalidParameter: `text` is no candle's id.
    """
    event_id, _, name = text.rpartition("~")
    kind, _, rest = name.partition(":")
    interval, _, start = rest.partition(":")
    try:
        at = datetime.strptime(start, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        at = None
    if not event_id or kind != "candle" or at is None:
        raise InvalidParameter(
            f"{text[:64]!r} is no candle's id: it is AAPL~1234~candle:1m:2024-03-20T10:30:00Z"
        )
    return event_id, parse_interval(interval), at
