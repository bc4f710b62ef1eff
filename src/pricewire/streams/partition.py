"""A partition in its owner's memory: what was seen of each symbol, and each symbol's state; pure.

The runner makes one when a partition is assigned, pushes its records through, and writes what
`dump` gives. Invariant: what is in it is what the records before `next_offset` made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from pricewire.errors import PricewireError, ProcessorBroken
from pricewire.services.processing import (
    Checkpoint,
    Drop,
    PartitionStart,
    Poison,
    PriceTick,
    Record,
    Row,
    RowKey,
    Wanted,
)
from pricewire.streams.ledger import Judgement, Ledger
from pricewire.streams.rows import RowKeeper, Rows

log = structlog.get_logger()

S = TypeVar("S")

Put = Callable[[str, str, str, bytes, int], None]
"""Puts a derived event out: its id, source, key, value and Kafka timestamp."""

SetAside = Callable[[PriceTick | Poison], None]


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

    def moved(self, stored: bytes) -> bytes:
        """Return a symbol's state as it is in another partition, whose offsets are others."""
        ...

    @property
    def rows(self) -> Rows[S] | None:
        """What it does about rows of results; None where it has none."""
        ...


class StoredSymbol(msgspec.Struct, array_like=True):
    """A symbol as a checkpoint has it: its ledgers by source, and its step's state."""

    ledgers: dict[str, Ledger]
    state: bytes


_dump = msgspec.msgpack.Encoder().encode
read_symbol = msgspec.msgpack.Decoder(StoredSymbol).decode


def moved_symbol(step: Step[Any], stored: bytes) -> bytes:
    """Return a symbol as it is kept in another partition; what was seen of its sources stays."""
    kept = read_symbol(stored)
    return _dump(StoredSymbol(kept.ledgers, step.moved(kept.state)))


class _Symbol(Generic[S]):
    """Args: changed: since it was last dumped."""

    __slots__ = ("changed", "ledgers", "state")

    def __init__(self, ledgers: dict[str, Ledger], state: S) -> None:
        self.ledgers = ledgers
        self.state = state
        self.changed = False


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
        self._rows = None if step.rows is None else RowKeeper(step.rows)

    def push(  # noqa: C901
        self, records: Sequence[Record], start: int, put: Put, set_aside: SetAside
    ) -> int:
        """Push records from `start` on through, as long as they are of this partition.

        Returns the index of the first that is not. One loop, for speed: the next event of a store
        makes no call but those of the step and of `put`; all else is `_judge`'s or `_pass_over`'s.

        Args:
            set_aside: is given poison, and events that contradict one that came before.

        Raises:
            ProcessorBroken: names the record that the step stumbled over.
        """
        number, next_offset, taken = self.number, self.next_offset or 0, 0
        symbols, sources, apply = self._symbols, self._sources, self._step.apply
        index, record = start, records[start]
        try:
            for record in islice(records, start, None):
                if record.partition != number:
                    break
                index += 1
                if record.offset < next_offset:
                    continue
                next_offset = record.offset + 1
                if type(record) is not PriceTick:
                    self._pass_over(record, set_aside)
                    continue
                name, cause = record.symbol, record.source
                symbol = symbols.get(name) or self._new(name)
                if not symbol.changed:
                    symbol.changed = True
                    self._changed.add(name)
                ledger = symbol.ledgers.get(cause)
                if ledger is not None and record.sequence == ledger.last + 1:
                    ledger.last = record.sequence
                    ledger.raw_response_id = record.raw_response_id
                elif not self._is_taken(symbol, record, set_aside):
                    continue
                taken += 1
                for derived, value in apply(symbol.state, record):
                    put(
                        f"{record.event_id}~{derived}",
                        sources.get(cause) or self._source(cause),
                        name,
                        value,
                        record.logged_at,
                    )
        except PricewireError:
            raise
        except Exception as error:
            raise ProcessorBroken(
                f"{self._step.name} stumbled over partition {number}, offset {record.offset}: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.counters.taken += taken
        if next_offset > (self.next_offset or 0):
            self.next_offset, self._logged_at = next_offset, records[index - 1].logged_at
        return index

    def want(self, tick: PriceTick) -> None:
        """Note what rows an event that is to come needs."""
        symbol = self._symbols.get(tick.symbol)
        if symbol is not None and self._rows is not None:
            self._rows.want(symbol.state, tick)

    def wanted(self) -> Wanted:
        return Wanted(self.number, self._epoch, self._rows.wanted() if self._rows else ())

    def take_in(self, found: Mapping[RowKey, Row]) -> None:
        """Take in the rows that were found of those that are wanted."""
        if self._rows is not None:
            self._rows.take_in(found)

    def settle(self) -> None:
        """Note that the last dump is written."""
        if self._rows is not None:
            self._rows.settle()

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
        changed = {name: self._symbols[name] for name in self._changed}
        self._changed.clear()
        settled, self._settled = self._settled, []
        states = {name: self._dump_symbol(symbol) for name, symbol in changed.items()}
        table: str | None = None
        rows: Sequence[Row] = ()
        if self._rows is not None:
            table = self._rows.table
            rows = self._rows.dump({name: symbol.state for name, symbol in changed.items()})
        return Checkpoint(
            self.number,
            self._epoch,
            self.next_offset,
            self._logged_at,
            msgspec.structs.replace(self.counters),
            states,
            settled,
            table,
            rows,
        )

    def _new(self, name: str) -> _Symbol[S]:
        symbol = self._symbols[name] = _Symbol({}, self._step.new())
        return symbol

    def _dump_symbol(self, symbol: _Symbol[S]) -> bytes:
        symbol.changed = False
        return _dump(StoredSymbol(symbol.ledgers, self._step.dump(symbol.state)))

    def _pass_over(self, record: Record, set_aside: SetAside) -> None:
        if type(record) is Poison:
            self.counters.dead_letters += 1
            set_aside(record)
        else:
            self.counters.skipped += 1

    def _is_taken(self, symbol: _Symbol[S], tick: PriceTick, set_aside: SetAside) -> bool:
        """Judge an event that is not the next of its store."""
        if tick.sequence is None:
            return True
        ledger = symbol.ledgers.get(tick.source)
        if ledger is None:
            symbol.ledgers[tick.source] = Ledger(tick.sequence, tick.raw_response_id)
            return True
        judgement = self._judge(ledger, tick, tick.sequence)
        if judgement is Judgement.CONFLICT:
            self.counters.dead_letters += 1
            set_aside(tick)
        return judgement is Judgement.TAKE

    def _judge(self, ledger: Ledger, tick: PriceTick, sequence: int) -> Judgement:
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
