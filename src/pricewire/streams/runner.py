"""Runs a processor: reads, lets its step decide, puts outputs out, and makes checkpoints.

Theory of operation (docs/decisions/0010). One thread reads the partitions that the group gives it
and pushes each record through the ledger and the step; outputs are queued at once. A checkpoint is,
in this order: flush the outputs, every report good; dump what changed; write state and position of
each partition in one transaction that also proves that the partition is still ours; tell Kafka the
offsets, for lag displays. The write runs beside the reading, one at a time. Whatever goes wrong
leads to one place: purge, forget all memory, begin again from the last checkpoint.

Invariants: a checkpoint holds exactly the records before its offset, and nothing that is not
delivered; a partition's state is touched only between its `assigned` and its `released`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from pricewire.errors import (
    KafkaTrouble,
    OwnerChanged,
    PricewireError,
    ProcessorBroken,
    StoreError,
    StoreUnavailable,
)
from pricewire.services.processing import (
    Checkpoint,
    Claim,
    Counters,
    Drop,
    Inputs,
    OpenInputs,
    OpenOutputs,
    Outputs,
    PartitionStart,
    Poison,
    PriceTick,
    ProcessorStatus,
    Record,
    Row,
    RowKey,
    Wanted,
)
from pricewire.streams.partition import Partition, Step

READ_LIMIT = 150
"""Records at once: few enough for all that is made of them to stay in a core's cache."""
READS = 8
"""Full reads between two looks at what else there is to do."""
READ_LIMIT_WITH_ROWS = 1_000
"""For a step with rows, since each read may have to ask the database for some; one at a time, since
each makes many."""
READ_SECONDS = 0.1
WRITING_SHARE = 0.2
"""Of the time, at most, in which a checkpoint is in the making: with very many symbols one takes
long, and half as many hold nearly the same."""
LONGEST_STRETCH = 10
"""A checkpoint that takes long is followed by the next after so many intervals at most."""
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger()

S = TypeVar("S")
T = TypeVar("T")


class Store(Protocol):
    """`Checkpoints`, called from the processor's thread."""

    def claim(self, claim: Claim) -> Future[PartitionStart]: ...

    def write(self, checkpoints: Sequence[Checkpoint]) -> Future[None]: ...

    def drops(self) -> Future[Sequence[Drop]]: ...

    def load(
        self, table: str, wanted: Sequence[Wanted]
    ) -> Future[Sequence[Mapping[RowKey, Row]]]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How often, how long, how much.

    Args:
        retention_ms: how long the topic keeps what is missing; None: for ever.
        behind_seconds: reading stops while a checkpoint is in the making for longer than this.
        drops_seconds: how often it is asked which dead letters were dropped.
        max_rows: a checkpoint is due when so many outputs of a step with rows came since the last
            one, so that none holds a database for long; reading stops at four times as many.
    """

    checkpoint_seconds: float = 1.0
    flush_seconds: float = 30.0
    write_seconds: float = 30.0
    behind_seconds: float = 10.0
    drops_seconds: float = 2.0
    retention_ms: int | None = None
    max_rows: int = 5_000


class Processor(Generic[S]):
    """One processor; `run` is its thread.

    Args:
        pause: waits that long, or shorter if the processor is told to stop meanwhile.
    """

    def __init__(
        self,
        step: Step[S],
        *,
        open_inputs: OpenInputs,
        open_outputs: OpenOutputs,
        store: Store,
        rules: Rules,
        pause: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step = step
        self._open_inputs = open_inputs
        self._open_outputs = open_outputs
        self._store = store
        self._rules = rules
        self._pause = pause
        self._clock = clock
        self._stopping = False
        self._limit, self._reads = (
            (READ_LIMIT, READS) if step.rows is None else (READ_LIMIT_WITH_ROWS, 1)
        )
        self.status = ProcessorStatus(step.name)
        self._partitions: dict[int, Partition[S]] = {}
        self._inputs: Inputs
        self._outputs: Outputs
        self._writing: Future[None] | None = None
        self._began_writing = 0.0
        self._due = 0.0
        self._asking: Future[Sequence[Drop]] | None = None
        self._ask_at = 0.0
        self._unwritten = 0

    def stop(self) -> None:
        """Make the last checkpoint, leave the group and return from `run`; from any thread."""
        self._stopping = True

    def run(self) -> None:
        """Process until `stop`.

        Raises:
            ProcessorBroken: a record that a bug of ours stumbled over; nothing was skipped.
        """
        failures = 0
        while not self._stopping:
            taken = self.status.counters.taken
            try:
                self._spell()
            except ProcessorBroken:
                self.status.phase = "stopped by a bug"
                raise
            except (KafkaTrouble, StoreError, OwnerChanged) as error:
                failures = 0 if self.status.counters.taken > taken else failures + 1
                self._tell_trouble(error, failures)
                self._pause(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
        self.status.phase = "stopped"

    def _tell_trouble(self, error: PricewireError, failures: int) -> None:
        self.status.restarts += 1
        self.status.phase = "waiting to begin again"
        if failures <= 1 or error.detail != self.status.last_error:
            tell = log.warning if error.retryable else log.error
            tell("processor.restarted", processor=self._step.name, reason=error.detail,
                 meaning="begins again from the last checkpoint")  # fmt: skip
        self.status.last_error = error.detail

    # One spell: a consumer and a producer, until something goes wrong or it is told to stop.

    def _spell(self) -> None:
        self._partitions.clear()
        self._writing = self._asking = None
        self._outputs = self._open_outputs()
        self._unwritten = 0
        try:
            self._inputs = self._open_inputs(
                assigned=self._assigned,
                released=self._released,
                lost=self._lost,
                expired=self._expired,
            )
            try:
                self._read()
            except BaseException:
                # Nothing may be checkpointed any more: memory is forgotten before it is released.
                self._partitions.clear()
                raise
            finally:
                self._inputs.close()
        finally:
            self._partitions.clear()
            self._outputs.close()

    def _read(self) -> None:
        self._due = self._clock() + self._rules.checkpoint_seconds
        while not self._stopping:
            self.status.phase = "running"
            for _ in range(self._reads):
                if self._read_once() < self._limit:
                    break
            self._outputs.serve()
            self._tend_drops()
            self._tend_checkpoints()

    def _read_once(self) -> int:
        """Read what is there and push it through; return how many records it was."""
        records, index = self._inputs.read(self._limit, READ_SECONDS), 0
        put = self._outputs.put
        if self._step.rows is not None:
            put = self._put_counted
            self._load_what_is_lacking(records, self._step.rows.table)
        while index < len(records):
            partition = self._partitions.get(records[index].partition)
            if partition is None:
                index += 1
            else:
                index = partition.push(records, index, put, self._set_aside)
        return len(records)

    def _load_what_is_lacking(self, records: Sequence[Record], table: str) -> None:
        for record in records:
            if type(record) is PriceTick and record.partition in self._partitions:
                self._partitions[record.partition].want(record)
        wanted = [one for part in self._partitions.values() if (one := part.wanted()).keys]
        if not wanted:
            return
        loaded = _result(self._store.load(table, wanted), self._rules.write_seconds)
        for one, found in zip(wanted, loaded, strict=True):
            self._partitions[one.partition].take_in(found)

    def _put_counted(
        self, event_id: str, source: str, key: str, value: bytes, logged_at: int
    ) -> None:
        self._unwritten += 1
        self._outputs.put(event_id, source, key, value, logged_at)

    def _set_aside(self, record: PriceTick | Poison) -> None:
        if isinstance(record, PriceTick):
            error = f"{record.event_id} of {record.source} came before, with another raw response"
            record = self._inputs.poison(record.partition, record.offset, "conflict", error)
        self._outputs.put_dead_letter(record)

    # Checkpoints.

    def _tend_checkpoints(self) -> None:
        if self._writing is not None and self._writing.done():
            self._finish_writing()
            self._inputs.commit(self._written)
        is_due = self._clock() >= self._due or self._unwritten >= self._rules.max_rows
        if self._writing is None and is_due:
            self._begin_writing()
        if self._writing is not None and self._is_behind():
            self._wait_for_the_store()

    def _is_behind(self) -> bool:
        is_slow = self._clock() - self._began_writing > self._rules.behind_seconds
        return is_slow or self._unwritten >= 4 * self._rules.max_rows

    def _wait_for_the_store(self) -> None:
        """Stop reading, but stay in the group, until the checkpoint is written."""
        self.status.phase = "waiting for the database"
        while self._writing is not None and not self._writing.done() and not self._stopping:
            # Each time: partitions may have been assigned since.
            self._inputs.pause()
            self._read_once()
        self._inputs.resume()

    def _begin_writing(self) -> None:
        self._began_writing = self._clock()
        self._due = self._began_writing + self._rules.checkpoint_seconds
        self._unwritten = 0
        checkpoints = self._dumped(list(self._partitions.values()))
        if checkpoints:
            self._writing = self._store.write(checkpoints)

    def _dumped(self, partitions: Sequence[Partition[S]]) -> list[Checkpoint]:
        moved = [part for part in partitions if part.has_news]
        if moved:
            self._outputs.flush(self._rules.flush_seconds)
        return [part.dump() for part in moved]

    def _finish_writing(self) -> None:
        writing, self._writing = self._writing, None
        assert writing is not None
        _result(writing, self._rules.write_seconds)
        took = self._clock() - self._began_writing
        rest = min(took / WRITING_SHARE, LONGEST_STRETCH * self._rules.checkpoint_seconds)
        self._due = max(self._due, self._began_writing + rest)
        for part in self._partitions.values():
            part.settle()
        self.status.checkpoints += 1
        self._tell_counters()

    @property
    def _written(self) -> dict[int, int]:
        """Next offsets as the checkpoints have them; asked while none is in the making."""
        return {
            part.number: part.dumped_offset
            for part in self._partitions.values()
            if part.dumped_offset is not None
        }

    def _tell_counters(self) -> None:
        total = Counters()
        for name in Counters.__struct_fields__:
            values = (getattr(part.counters, name) for part in self._partitions.values())
            setattr(total, name, sum(values))
        self.status.counters = total
        self.status.partitions = {
            number: part.next_offset or 0 for number, part in self._partitions.items()
        }

    # Dropped dead letters: their gaps are final, which the next checkpoint says.

    def _tend_drops(self) -> None:
        if self._asking is not None and self._asking.done():
            asked, self._asking = self._asking, None
            for drop in asked.result():
                for partition in self._partitions.values():
                    partition.drop(drop)
        if self._asking is None and self._clock() >= self._ask_at:
            self._ask_at = self._clock() + self._rules.drops_seconds
            self._asking = self._store.drops()

    # Rebalance: called inside `read` and `close`, in the processor's thread.

    def _assigned(self, numbers: Sequence[int], topic_id: str) -> Mapping[int, int | None]:
        for number in numbers:
            claim = Claim(self._step.name, self._step.version, number, topic_id)
            start = _result(self._store.claim(claim), self._rules.write_seconds)
            self._partitions[number] = Partition(
                self._step, number, start, self._rules.retention_ms
            )
        self._tell_counters()
        return {number: self._partitions[number].next_offset for number in numbers}

    def _released(self, numbers: Sequence[int]) -> None:
        """Make a checkpoint of what is given back, then forget it."""
        mine = [self._partitions[number] for number in numbers if number in self._partitions]
        if mine and self._writing is not None:
            self._finish_writing()
        checkpoints = self._dumped(mine)
        if checkpoints:
            _result(self._store.write(checkpoints), self._rules.write_seconds)
        self._lost(numbers)

    def _lost(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._partitions.pop(number, None)
        self._tell_counters()

    def _expired(self, number: int, wanted: int, first: int) -> None:
        partition = self._partitions.get(number)
        if partition is None:
            return
        partition.go_on_at(first)
        log.error("processor.records_expired", processor=self._step.name, partition=number,
                  wanted=wanted, first=first, expired=max(0, first - wanted),
                  meaning="the topic has lost what came next; goes on at its first")  # fmt: skip


def _result(future: Future[T], seconds: float) -> T:
    try:
        return future.result(seconds)
    except TimeoutError:
        raise StoreUnavailable(f"the database did not answer within {seconds:.0f} s") from None
