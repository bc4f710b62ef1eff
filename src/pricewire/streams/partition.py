"""A partition in its owner's memory: what was seen of each symbol, and each symbol's state; pure.

The runner makes one when a partition is assigned, pushes its records through, and writes what
`dump` gives. Invariant: what is in it is what the records before `next_offset` made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog

from pricewire.services.processing import Checkpoint, Drop, PartitionStart, PriceTick
from pricewire.streams.ledger import Judgement, Ledger

log = structlog.get_logger()

S = TypeVar("S")

Put = Callable[[str, str, str, bytes, int], None]
"""Puts a derived event out: its id, source, key, value and Kafka timestamp."""


class Step(Protocol[S]):
    """What a processor computes; pure. `S` is a symbol's state."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def new(self) -> S: ...

    def apply(self, state: S, tick: PriceTick) -> Sequence[tuple[str, bytes]]:
        """Count an event; return what was derived: its name and its value."""
        ...

    def dump(self, state: S) -> bytes: ...

    def load(self, stored: bytes) -> S: ...


class StoredSymbol(msgspec.Struct, array_like=True):
    """A symbol as a checkpoint has it: its ledgers by source, and its step's state."""

    ledgers: dict[str, Ledger]
    state: bytes


_dump = msgspec.msgpack.Encoder().encode
read_symbol = msgspec.msgpack.Decoder(StoredSymbol).decode


class _Symbol(Generic[S]):
    __slots__ = ("ledgers", "state")

    def __init__(self, ledgers: dict[str, Ledger], state: S) -> None:
        self.ledgers = ledgers
        self.state = state


class Partition(Generic[S]):
    """See the module.

    Args:
        retention_ms: how long the topic keeps what is missing; None: for ever.
    """

    def __init__(
        self, step: Step[S], number: int, start: PartitionStart, retention_ms: int | None
    ) -> None:
        self.number = number
        self.counters = start.counters
        self.next_offset = start.next_offset
        self.dumped_offset = start.next_offset
        self._step = step
        self._epoch = start.epoch
        self._generation = start.generation
        self._retention_ms = retention_ms
        self._logged_at = 0
        self._changed: set[str] = set()
        self._settled: list[Drop] = []
        # Sources of derived events by the source of their cause.
        self._sources: dict[str, str] = {}
        self._symbols: dict[str, _Symbol[S]] = {}
        for name, stored in start.states.items():
            kept = read_symbol(stored)
            self._symbols[name] = _Symbol(kept.ledgers, step.load(kept.state))

    def count(self, tick: PriceTick, put: Put) -> bool:
        """Count an event if it is to be counted; False if it contradicts one that came before."""
        name = tick.symbol
        symbol = self._symbols.get(name)
        if symbol is None:
            symbol = self._symbols[name] = _Symbol({}, self._step.new())
        self._changed.add(name)
        if tick.sequence is not None:
            judgement = self._judge(symbol, tick, tick.sequence)
            if judgement is not Judgement.TAKE:
                return judgement is not Judgement.CONFLICT
        self.counters.taken += 1
        source = self._sources.get(tick.source) or self._source(tick.source)
        event_id, at = tick.event_id, tick.logged_at
        for derived, value in self._step.apply(symbol.state, tick):
            put(f"{event_id}~{derived}", source, name, value, at)
        return True

    def move_past(self, offset: int, logged_at: int) -> None:
        """Note that the record at `offset` is done with."""
        self.next_offset = offset + 1
        self._logged_at = logged_at

    def go_on_at(self, offset: int) -> None:
        """Note that the topic has lost what comes before `offset`."""
        self.counters.expired += max(0, offset - (self.next_offset or 0))
        self.next_offset = offset

    def drop(self, drop: Drop) -> None:
        """Count an event that will never come as lost, once it is missing."""
        symbol = self._symbols.get(drop.symbol)
        ledger = symbol.ledgers.get(drop.source) if symbol is not None else None
        if ledger is not None and ledger.drop(drop.sequence, self.counters):
            self._changed.add(drop.symbol)
            self._settled.append(drop)

    @property
    def has_news(self) -> bool:
        """Whether there is something that the last checkpoint does not have."""
        return self.next_offset != self.dumped_offset or bool(self._settled)

    def dump(self) -> Checkpoint:
        """Return what changed since the last time, and the position."""
        assert self.next_offset is not None
        self.dumped_offset = self.next_offset
        states = {name: self._dump_symbol(self._symbols[name]) for name in self._changed}
        self._changed.clear()
        settled, self._settled = self._settled, []
        return Checkpoint(
            self.number,
            self._epoch,
            self.next_offset,
            self._logged_at,
            msgspec.structs.replace(self.counters),
            states,
            settled,
        )

    def _dump_symbol(self, symbol: _Symbol[S]) -> bytes:
        return _dump(StoredSymbol(symbol.ledgers, self._step.dump(symbol.state)))

    def _judge(self, symbol: _Symbol[S], tick: PriceTick, sequence: int) -> Judgement:
        ledger = symbol.ledgers.get(tick.source)
        if ledger is None:
            symbol.ledgers[tick.source] = Ledger(sequence, tick.raw_response_id)
            return Judgement.TAKE
        if sequence == ledger.last + 1:
            ledger.last = sequence
            ledger.raw_response_id = tick.raw_response_id
            return Judgement.TAKE
        return self._judge_unusual(ledger, tick, sequence)

    def _judge_unusual(self, ledger: Ledger, tick: PriceTick, sequence: int) -> Judgement:
        if self._retention_ms is not None:
            ledger.give_up(tick.logged_at - self._retention_ms, self.counters)
        jumps = sequence > ledger.last
        judgement = ledger.judge(sequence, tick.raw_response_id, tick.logged_at, self.counters)
        if jumps:
            gap = ledger.missing[-1]
            log.warning("processor.gap", processor=self._step.name, symbol=tick.symbol,
                        first=gap.first, last=gap.last, source=tick.source)  # fmt: skip
        return judgement

    def _source(self, cause: str) -> str:
        source = self._sources[cause] = f"{cause}/{self._step.name}/{self._generation}"
        return source
