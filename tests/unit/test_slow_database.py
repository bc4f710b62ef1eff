"""A database that takes its time: reading stops, memory stays as it is, results are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pricewire.domain.candle import Series
from pricewire.services.processing import Checkpoint, Record
from pricewire.streams.averages import AveragesStep
from pricewire.streams.candles import CandlesStep
from pricewire.streams.runner import Rules
from tests.stream_fakes import MemoryCheckpoints, ScriptedInputs, World
from tests.unit.test_processor import SPECS, first_appearances, partition_of, tick

BATCH = 20
READ_SECONDS = 0.1
AT = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)


class SlowCheckpoints(MemoryCheckpoints):
    """Writes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Sequence[Checkpoint], Future[None]]] = []
        self.slow = True

    def write(self, checkpoints: Sequence[Checkpoint]) -> Future[None]:
        if not self.slow:
            return super().write(checkpoints)
        assert not self.asked, "two checkpoints in the making"
        future: Future[None] = Future()
        self.asked.append((checkpoints, future))
        return future

    def finish(self) -> None:
        """Write what was asked for."""
        for checkpoints, future in self.asked:
            super().write(checkpoints).result()
            future.set_result(None)
        self.asked.clear()


class PausedInputs(ScriptedInputs):
    """Reads by batches, a moment each, and nothing of a partition that is paused.

    After `patience` reads of nothing in a row the database answers.
    """

    patience = 50

    def __init__(self, world: SlowWorld, callbacks: Mapping[str, Any]) -> None:
        self.paused: set[int] = set()
        self.slow_world = world
        super().__init__(world, callbacks)

    def read(self, limit: int, seconds: float) -> Sequence[Record]:  # noqa: ARG002
        world = self.slow_world
        world.now += READ_SECONDS
        open_ones = [number for number in self._positions if number not in self.paused]
        left = [number for number in open_ones if self._left(number)]
        if not left and not self.paused:
            # The last checkpoint is waited for in earnest.
            world.slow_store.finish()
            world.slow_store.slow = False
            world.processor.stop()
        records = self._take_of(left[0]) if left else []
        world.tell(len(records), paused=bool(self.paused))
        if world.idle == world.rebalances_at:
            self._assign(sorted(set(world.log) - set(self._positions)))
        if world.idle >= self.patience:
            world.slow_store.finish()
        return records

    def _take_of(self, number: int) -> Sequence[Record]:
        start = self._positions[number]
        taken = self._world.log[number][start : start + BATCH]
        self._positions[number] += len(taken)
        return taken

    def pause(self) -> None:
        self.paused = set(self._positions)

    def resume(self) -> None:
        self.paused = set()


class SlowWorld(World):
    """A world whose database answers late; tells what was read while a checkpoint was made."""

    def __init__(self, log: Mapping[int, Sequence[Record]], rules: Rules) -> None:
        super().__init__(log, partition_of)
        self.rules = rules
        self.store = self.slow_store = SlowCheckpoints()
        self.inputs = PausedInputs
        self.idle = 0
        self.rebalances_at = -1
        self.read_in_the_making: list[int] = []
        self.phases: set[str] = set()

    def tell(self, read: int, *, paused: bool) -> None:
        self.idle = self.idle + 1 if paused and not read else 0
        if paused:
            self.phases.add(self.processor.status.phase)
        made = self.read_in_the_making
        if not self.slow_store.asked:
            made.append(0)
        elif made:
            made[-1] += read


def ticks(count: int, symbol: str = "AAPL") -> list[Record]:
    return [tick(offset, symbol, offset + 1) for offset in range(count)]


def cleanly(log: Mapping[int, Sequence[Record]], step: Any) -> World:
    """The same with a database that answers at once."""
    clean = World(log, partition_of)
    clean.run(step)
    return clean


def test_reading_stops_when_a_checkpoint_takes_too_long_and_goes_on_after_it() -> None:
    log = {0: ticks(2_000)}
    world = SlowWorld(log, Rules(checkpoint_seconds=0.5, behind_seconds=2))
    world.run(AveragesStep(SPECS, only_new_times=False))
    assert world.phases == {"waiting for the database"}
    # What two seconds and the reads around them give, however much waits.
    most = BATCH * (2 / READ_SECONDS + 2)
    assert BATCH < max(world.read_in_the_making) <= most
    assert world.processor.status.restarts == 0
    # Nothing was put out twice: it waited in place.
    assert (
        world.topic.arrived == cleanly(log, AveragesStep(SPECS, only_new_times=False)).topic.arrived
    )
    assert world.store.partitions[0].counters.taken == 2_000


def test_a_step_with_rows_stops_at_so_many_that_are_not_written() -> None:
    """Every price of these closes or changes candles, whose rows must stay in memory."""
    times = [AT + timedelta(hours=n % 700, days=n // 700) for n in range(3_000)]
    log: dict[int, list[Record]] = {
        0: [tick(n, "AAPL", n + 1, timestamp=at) for n, at in enumerate(times)]
    }
    rules = Rules(checkpoint_seconds=5, behind_seconds=1_000, max_rows=50)
    world = SlowWorld(log, rules)
    held: list[int] = []

    class Watching(CandlesStep):
        def apply(self, state: Any, one: Any) -> Any:
            held.append(len(state.changed))
            return super().apply(state, one)

    world.run(Watching("candles", Series.LIVE, keep=10))
    assert world.phases == {"waiting for the database"}
    # Four times the rows of a checkpoint, and of two batches: up to four candles an event.
    assert 4 * 50 - 4 * BATCH < max(held) <= 4 * 50 + 8 * BATCH
    clean = cleanly(log, CandlesStep("candles", Series.LIVE))
    assert first_appearances(world.topic.arrived[0]) == first_appearances(clean.topic.arrived[0])
    assert world.store.partitions[0].rows == clean.store.partitions[0].rows


@pytest.mark.parametrize("patience", [50, 400])
def test_a_partition_that_is_assigned_meanwhile_is_not_read_either(
    monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    monkeypatch.setattr(PausedInputs, "patience", patience)
    log = {0: ticks(1_000), 1: ticks(2_000, "GOOG")}
    world = SlowWorld(log, Rules(checkpoint_seconds=0.5, behind_seconds=2))
    world.rebalances_at = 5

    class OneFirst(PausedInputs):
        def __init__(self, world: SlowWorld, callbacks: Mapping[str, Any]) -> None:
            super().__init__(world, callbacks)
            # The other one comes while the database is waited for.
            callbacks["released"]([1])
            self._positions.pop(1)

    world.inputs = OneFirst
    world.run(AveragesStep(SPECS, only_new_times=False))
    assert max(world.read_in_the_making) <= BATCH * (2 / READ_SECONDS + 3)
    assert (
        world.topic.arrived == cleanly(log, AveragesStep(SPECS, only_new_times=False)).topic.arrived
    )


class TimedCheckpoints(MemoryCheckpoints):
    """Takes `seconds` of the world's time for each checkpoint, and notes when they were begun."""

    def __init__(self, world: World, seconds: float) -> None:
        super().__init__()
        self.world = world
        self.seconds = seconds
        self.begun: list[float] = []
        self.making: tuple[Sequence[Checkpoint], Future[None]] | None = None

    def write(self, checkpoints: Sequence[Checkpoint]) -> Future[None]:
        self.begun.append(self.world.now)
        future: Future[None] = Future()
        self.making = (checkpoints, future)
        self.look()
        return future

    def look(self) -> None:
        if self.making and self.world.now >= self.begun[-1] + self.seconds:
            checkpoints, future = self.making
            super().write(checkpoints).result()
            future.set_result(None)
            self.making = None


class TimedInputs(ScriptedInputs):
    """An event each tenth of a second."""

    def read(self, limit: int, seconds: float) -> Sequence[Record]:  # noqa: ARG002
        world = self._world
        world.now += READ_SECONDS
        store = world.store
        assert isinstance(store, TimedCheckpoints)
        records = self._take(1)
        if not records:
            # The last one is waited for in earnest.
            store.seconds = 0
            world.processor.stop()
        store.look()
        return records


@pytest.mark.parametrize(
    ("seconds", "apart"),
    [(0.0, 1.0), (0.15, 1.0), (0.6, 3.25), (9.0, 10.0)],
    ids=["at once", "soon", "a fifth of the time", "never further apart than ten"],
)
def test_checkpoints_that_take_long_are_made_less_often(seconds: float, apart: float) -> None:
    log = {0: ticks(500)}
    world = World(log, partition_of)
    world.rules = Rules(checkpoint_seconds=1, behind_seconds=100)
    world.store = store = TimedCheckpoints(world, seconds)
    world.inputs = TimedInputs
    world.run(AveragesStep(SPECS, only_new_times=False))
    between = [after - before for before, after in zip(store.begun, store.begun[1:], strict=False)]
    steady = between[1:-1]
    assert steady
    assert steady == pytest.approx([apart] * len(steady), abs=0.3)
    assert (
        world.topic.arrived == cleanly(log, AveragesStep(SPECS, only_new_times=False)).topic.arrived
    )
