"""The processor `averages`: a price event moves the averages of its symbol; a pure step.

The runner gives it the events of a partition in the log's order. Invariant: what comes out depends
on the events alone: the same ones give the same bytes under the same ids (design promise 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec

from pricewire.domain.average import AverageSpec, Window, WindowState, new_window, parse_average
from pricewire.domain.quote import price_text
from pricewire.errors import InvalidParameter
from pricewire.services.processing import PriceTick

VERSION = "1"
"""Changed with every change of what comes out: state of another version is not used."""
MOVED = "average.moved"
"""`ce_type` of what comes out."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A price in a window, with what it takes to explain it."""

    event_id: str
    offset: int
    price: Decimal
    timestamp: datetime
    provider: str


_Id = Annotated[str, msgspec.Meta(extra_json_schema={"type": "string", "format": "uuid"})]


class AverageValue(msgspec.Struct, gc=False):
    """A record's value on the topic `moving-averages`.

    Args:
        value: as a JSON number with its exact digits.
        timestamp: of the price that moved the average, and so are the two ids.
        count: how many prices the average is made of.
    """

    symbol: str
    kind: str
    window: str
    value: Decimal | msgspec.Raw
    timestamp: datetime
    count: int
    raw_response_id: _Id
    event_id: str


class StoredAverages(msgspec.Struct, array_like=True):
    """A symbol's state as a checkpoint has it: windows by the average's name."""

    newest: datetime | None
    windows: dict[str, WindowState[Entry]]


class SymbolAverages:
    """A symbol's averages in memory.

    Args:
        averages: name, kind, window as it is written, how many prices (0: as many as there are in
            a span of time), and the window itself, of each.
    """

    __slots__ = ("averages", "newest")

    def __init__(
        self, newest: datetime | None, averages: list[tuple[str, str, str, int, Window[Entry]]]
    ) -> None:
        self.newest = newest
        self.averages = averages


_PLAIN = Decimal("0.000001")
_encode_value = msgspec.json.Encoder(decimal_format="number").encode
_dump = msgspec.msgpack.Encoder().encode
_load = msgspec.msgpack.Decoder(StoredAverages).decode


def read_state(stored: bytes) -> StoredAverages:
    """Return what a checkpoint has of a symbol; the API explains averages with it."""
    return _load(stored)


class AveragesStep:
    """The step.

    Args:
        specs: which averages; one that is new begins cold, one that is gone is forgotten.
        only_new_times: count a price only if its market time is later than the last counted one;
            else every event counts, also one in which a poll saw the same quote again.
    """

    name = "averages"
    version = VERSION
    rows = None

    def __init__(self, specs: Sequence[AverageSpec], *, only_new_times: bool) -> None:
        self._specs = tuple(specs)
        self._only_new_times = only_new_times

    def new(self) -> SymbolAverages:
        return self._averages(None, {})

    def apply(self, state: SymbolAverages, tick: PriceTick) -> list[tuple[str, bytes]]:
        """Count a price; return the name and the value of each average that has one."""
        if self._only_new_times:
            if state.newest is not None and tick.timestamp <= state.newest:
                return []
            state.newest = tick.timestamp
        entry = Entry(tick.event_id, tick.offset, tick.price, tick.timestamp, tick.provider)
        moved = []
        for name, kind, span, count, window in state.averages:
            average = window.push(entry)
            if average is not None:
                value = encode_average(tick, kind, span, average, count or window.size)
                moved.append((name, value))
        return moved

    def dump(self, state: SymbolAverages) -> bytes:
        windows = {name: window.state() for name, _, _, _, window in state.averages}
        return _dump(StoredAverages(state.newest, windows))

    def load(self, stored: bytes) -> SymbolAverages:
        kept = _load(stored)
        return self._averages(kept.newest, kept.windows)

    def moved(self, stored: bytes) -> bytes:
        return stored

    def _averages(
        self, newest: datetime | None, kept: Mapping[str, WindowState[Entry]]
    ) -> SymbolAverages:
        return SymbolAverages(
            newest,
            [
                (
                    str(one),
                    one.kind.value,
                    one.window,
                    one.count,
                    new_window(one, kept.get(str(one))),
                )
                for one in self._specs
            ],
        )


def encode_average(tick: PriceTick, kind: str, window: str, average: Decimal, count: int) -> bytes:
    """Return the value of a record on `moving-averages`."""
    return _encode_value(
        AverageValue(
            tick.symbol,
            kind,
            window,
            # Below this, a Decimal's text has an exponent.
            average if average >= _PLAIN else msgspec.Raw(price_text(average).encode()),
            tick.timestamp,
            count,
            tick.raw_response_id,
            tick.event_id,
        )
    )


def parse_average_id(text: str) -> tuple[str, AverageSpec]:
    """Return the event id and the average in an average's id, `AAPL~1234~sma:5`.

    Raises:
        InvalidParameter: `text` is none.
    """
    event_id, separator, name = text.rpartition("~")
    if not separator:
        raise InvalidParameter(f"{text[:64]!r} is no average's id: it is AAPL~1234~sma:5")
    return event_id, parse_average(name)
