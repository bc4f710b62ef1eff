"""Rows of results of one partition: which are in memory, and which may leave it; pure.

For steps whose results are rows that later events may change, too many to be all in memory. A
`Partition` has a keeper where its step has rows. Invariants: a row leaves memory only when a
finished checkpoint holds what it is; what a step is asked to change was loaded before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from pricewire.services.processing import PriceTick, Row, RowKey

S = TypeVar("S")
C = TypeVar("C", contravariant=True)  # noqa: PLC0105


class Rows(Protocol[C]):
    """What a step does about rows; `C` is a symbol's state, which holds those in memory."""

    @property
    def table(self) -> str: ...

    @property
    def keep(self) -> int:
        """How many that are written stay in memory, for events that are a little late."""
        ...

    def lacking(self, state: C, tick: PriceTick) -> Iterable[RowKey]:
        """Give the keys of rows that an event may change and memory has not."""
        ...

    def give(self, state: C, key: RowKey, row: Row | None) -> None:
        """Take in what was stored under a key; None: nothing."""
        ...

    def changed(self, symbol: str, state: C) -> tuple[Sequence[Row], Sequence[RowKey]]:
        """Return rows that may have changed since last time, and which may leave when written."""
        ...

    def forget(self, state: C, key: RowKey) -> None:
        """Let a row go, unless it has changed since it was written."""
        ...


class RowKeeper(Generic[S]):
    """See the module."""

    def __init__(self, rows: Rows[S]) -> None:
        self.table = rows.table
        self._rows = rows
        self._wanted: dict[RowKey, S] = {}
        self._being_written: list[tuple[S, RowKey]] = []
        self._clean: deque[tuple[S, RowKey]] = deque()

    def want(self, state: S, tick: PriceTick) -> None:
        """Note what an event that is to come needs."""
        for key in self._rows.lacking(state, tick):
            self._wanted[key] = state

    def wanted(self) -> Sequence[RowKey]:
        return tuple(self._wanted)

    def take_in(self, found: Mapping[RowKey, Row]) -> None:
        """Take in what was found of what is wanted; the rest there is not."""
        for key, state in self._wanted.items():
            self._rows.give(state, key, found.get(key))
            self._clean.append((state, key))
        self._wanted.clear()

    def dump(self, states: Mapping[str, S]) -> Sequence[Row]:
        """Return the rows of these symbols that are to be written."""
        found: list[Row] = []
        for symbol, state in states.items():
            rows, keys = self._rows.changed(symbol, state)
            found += rows
            self._being_written += [(state, key) for key in keys]
        return found

    def settle(self) -> None:
        """Note that what was dumped is written; let go what is too much."""
        self._clean += self._being_written
        self._being_written.clear()
        while len(self._clean) > self._rows.keep:
            self._rows.forget(*self._clean.popleft())
