"""A log, a group, outputs and checkpoints in memory, for processors under any schedule.

The unit tests of `streams` run real processors over these. A schedule is a list of moves; a crash
loses what memory held, and of the outputs that were not flushed an arbitrary first part arrives,
partition by partition, as with a real producer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pricewire.errors import KafkaUnavailable, OwnerChanged, PricewireError
from pricewire.services.processing import (
    Checkpoint,
    Claim,
    Counters,
    Drop,
    PartitionStart,
    Poison,
    Record,
    Row,
    RowKey,
    Wanted,
)
from pricewire.streams.runner import Processor, Rules

T = TypeVar("T")


class Crash(BaseException):
    """kill -9."""


@dataclass(frozen=True)
class Move:
    """One move of a schedule.

    Args:
        kind: `read`, `stale`, `checkpoint`, `release`, `assign`, `trouble` or `crash`.
        number: how many records, which partition, or how many outputs still arrive.
    """

    kind: str
    number: int = 0


@dataclass
class Stored:
    epoch: int = 0
    generation: int = 1
    next_offset: int | None = None
    counters: Counters = field(default_factory=Counters)
    states: dict[str, bytes] = field(default_factory=dict)
    rows: dict[RowKey, Row] = field(default_factory=dict)


class MemoryCheckpoints:
    """`Store` with the rules of the real one."""

    def __init__(self) -> None:
        self.partitions: dict[int, Stored] = defaultdict(Stored)
        self.dropped: set[Drop] = set()
        self.loads = 0

    def claim(self, claim: Claim) -> Future[PartitionStart]:
        kept = self.partitions[claim.partition]
        kept.epoch += 1
        start = PartitionStart(
            kept.epoch,
            kept.generation,
            kept.next_offset,
            Counters(**{n: getattr(kept.counters, n) for n in Counters.__struct_fields__}),
            dict(kept.states),
        )
        return done(start)

    def write(self, checkpoints: Sequence[Checkpoint]) -> Future[None]:
        try:
            for checkpoint in checkpoints:
                self._write(checkpoint)
        except OwnerChanged as error:
            return failed(error)
        return done(None)

    def drops(self) -> Future[Sequence[Drop]]:
        return done(sorted(self.dropped, key=lambda one: one.sequence))

    def load(self, table: str, wanted: Sequence[Wanted]) -> Future[Sequence[Mapping[RowKey, Row]]]:
        assert table == "candles"
        self.loads += 1
        found = []
        for one in wanted:
            kept = self.partitions[one.partition]
            if kept.epoch != one.epoch:
                return failed(OwnerChanged(f"partition {one.partition}"))
            found.append({key: kept.rows[key] for key in one.keys if key in kept.rows})
        return done(found)

    def _write(self, checkpoint: Checkpoint) -> None:
        kept = self.partitions[checkpoint.partition]
        if kept.epoch != checkpoint.epoch:
            raise OwnerChanged(f"partition {checkpoint.partition}")
        kept.next_offset = checkpoint.next_offset
        kept.counters = checkpoint.counters
        kept.states.update(checkpoint.states)
        self.dropped.difference_update(checkpoint.settled)
        for row in checkpoint.rows:
            kept.rows[row["symbol"], row["interval"], row["start"]] = row


def done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


def failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


@dataclass(frozen=True)
class Arrived:
    """A derived event on the output topic."""

    event_id: str
    source: str
    value: bytes
    logged_at: int


class OutputTopic:
    """What arrived, by the partition of its key."""

    def __init__(self, partition_of: Callable[[str], int]) -> None:
        self.partition_of = partition_of
        self.arrived: dict[int, list[Arrived]] = defaultdict(list)
        self.dead_letters: list[Poison] = []


class MemoryOutputs:
    def __init__(self, topic: OutputTopic) -> None:
        self._topic = topic
        self._queued: list[tuple[int, Arrived]] = []
        self._dead: list[Poison] = []

    def put(self, event_id: str, source: str, key: str, value: bytes, logged_at: int) -> None:
        arrived = Arrived(event_id, source, value, logged_at)
        self._queued.append((self._topic.partition_of(key), arrived))

    def put_dead_letter(self, poison: Poison) -> None:
        self._dead.append(poison)

    def serve(self) -> None: ...

    def flush(self, seconds: float) -> None:  # noqa: ARG002
        self.let_arrive(len(self._queued))
        self._topic.dead_letters += self._dead
        self._dead.clear()

    def let_arrive(self, count: int) -> None:
        for partition, arrived in self._queued[:count]:
            self._topic.arrived[partition].append(arrived)
        self._queued.clear()

    def close(self) -> None:
        self._queued.clear()


class ScriptedInputs:
    """Reads a log by a schedule; fulfils `Inputs`."""

    def __init__(self, world: World, callbacks: Mapping[str, Any]) -> None:
        self._world = world
        self._callbacks = callbacks
        self._positions: dict[int, int] = {}
        self._assign(sorted(world.log))

    def read(self, limit: int, seconds: float) -> Sequence[Record]:  # noqa: ARG002
        move = self._world.next_move()
        if move is None:
            if not any(self._left(number) for number in self._positions):
                self._assign(sorted(set(self._world.log) - set(self._positions)))
            if not any(self._left(number) for number in self._positions):
                self._world.processor.stop()
                return []
            return self._take(7)
        return self._do(move)

    def _do(self, move: Move) -> Sequence[Record]:
        world = self._world
        if move.kind == "read":
            return self._take(move.number)
        if move.kind == "checkpoint":
            world.now += 1000
        elif move.kind == "release" and move.number in self._positions:
            self._callbacks["released"]([move.number])
            self._positions.pop(move.number)
        elif move.kind == "assign" and move.number in world.log:
            self._assign([move.number] if move.number not in self._positions else [])
        elif move.kind == "stale" and move.number in self._positions:
            # A client may still hand out what it had fetched for an earlier assignment.
            position = self._positions[move.number]
            return world.log[move.number][max(0, position - 3) : position]
        elif move.kind == "trouble":
            world.outputs.let_arrive(move.number)
            raise KafkaUnavailable("scripted")
        elif move.kind == "crash":
            world.outputs.let_arrive(move.number)
            raise Crash
        return []

    def _assign(self, numbers: Iterable[int]) -> None:
        if numbers := list(numbers):
            starts = self._callbacks["assigned"](numbers, "topic-1")
            self._positions |= {number: start or 0 for number, start in starts.items()}

    def _left(self, number: int) -> int:
        return len(self._world.log[number]) - self._positions[number]

    def _take(self, count: int) -> Sequence[Record]:
        """Take so many records, from the partition that has most left."""
        if not self._positions:
            return []
        number = max(sorted(self._positions), key=self._left)
        start = self._positions[number]
        taken = self._world.log[number][start : start + count]
        self._positions[number] += len(taken)
        return taken

    def poison(self, partition: int, offset: int, error_class: str, error: str) -> Poison:
        return Poison(partition, offset, 0, None, None, (), error_class, error)

    def commit(self, offsets: Mapping[int, int]) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None:
        if self._positions and not self._world.crashed:
            self._callbacks["released"](sorted(self._positions))


class World:
    """A topic, what is made of it, and the process that does so, started anew after each crash."""

    def __init__(
        self, log: Mapping[int, Sequence[Record]], partition_of: Callable[[str], int]
    ) -> None:
        self.log = log
        self.store = MemoryCheckpoints()
        self.topic = OutputTopic(partition_of)
        self.outputs = MemoryOutputs(self.topic)
        self.now = 0.0
        self.crashed = False
        self.processor: Processor[Any]
        self.refusals: list[PricewireError] = []
        """What joining the group fails with, one try after the other."""
        self.rules = Rules(checkpoint_seconds=100)
        self.inputs: type[ScriptedInputs] = ScriptedInputs
        self._moves: list[Move] = []

    def next_move(self) -> Move | None:
        return self._moves.pop(0) if self._moves else None

    def run(self, step: Any, moves: Iterable[Move] = ()) -> None:
        """Run processors by the schedule, then one to the end of the log."""
        self._moves = list(moves)
        while True:
            self.crashed = False
            try:
                self._run(step)
            except Crash:
                continue
            return

    def _run(self, step: Any) -> None:
        def open_outputs() -> MemoryOutputs:
            self.outputs = MemoryOutputs(self.topic)
            return self.outputs

        def open_inputs(**callbacks: Any) -> ScriptedInputs:
            if self.refusals:
                raise self.refusals.pop()
            return self.inputs(self, callbacks)

        self.processor = Processor(
            step,
            open_inputs=open_inputs,
            open_outputs=open_outputs,
            store=self.store,
            rules=self.rules,
            pause=lambda _: None,
            clock=lambda: self.now,
        )
        try:
            self.processor.run()
        except Crash:
            self.crashed = True
            raise
