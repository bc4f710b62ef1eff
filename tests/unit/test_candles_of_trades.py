"""Candles of real trades under any schedule equal what DuckDB makes of the same rows.

The real runner, ledger, partition and step over 60,000 trades; `make test-faults` takes all
500,000. The trades come late, twice, behind their successors, in any batches, to processors that
crash, restart from what they wrote, and are rebalanced.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.candle import Series
from pricewire.services.processing import PriceTick
from pricewire.streams.candles import CandlesStep
from tests.candle_reference import (
    ZONE,
    Bar,
    BarKey,
    Disorder,
    Logged,
    Reference,
    disordered,
    places,
)
from tests.stream_fakes import Move, World
from tests.trades import ROWS, SYMBOL, lines, trades_file
from tests.unit.test_processor import SOURCE, first_appearances, moves

SOME = 60_000
LOCAL = ZoneInfo(ZONE)


@dataclass(frozen=True)
class Trades:
    """The file, and what was read of it so far."""

    file: Path
    reference: Reference
    times_and_prices: dict[int, list[tuple[datetime, Decimal]]]

    def first(self, count: int) -> list[tuple[datetime, Decimal]]:
        if count not in self.times_and_prices:
            rows = islice(lines(self.file), count)
            self.times_and_prices[count] = [(_utc(time), Decimal(price)) for time, price, _ in rows]
        return self.times_and_prices[count]

    def ticks(self, log: Sequence[Logged], count: int) -> list[PriceTick]:
        known = self.first(count)
        return [_tick(offset, one, *known[one.row]) for offset, one in enumerate(log)]


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LOCAL).astimezone(UTC)


def _tick(offset: int, one: Logged, at: datetime, price: Decimal) -> PriceTick:
    event_id, raw = f"{SYMBOL}~h{one.sequence}", str(UUID(int=one.sequence))
    return PriceTick(
        0, offset, offset, event_id, one.sequence, SOURCE, SYMBOL, price, at, "cme", raw
    )


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Trades:
    file = trades_file(tmp_path_factory.mktemp("trades"))
    return Trades(file, Reference(file), {})


def worked(records: Sequence[PriceTick], schedule: Sequence[Move], keep: int) -> World:
    """A world in which the step has come to the end of these records."""
    world = World({0: records}, lambda _: 0)
    world.run(CandlesStep("candles-history", Series.HISTORY, keep=keep), schedule)
    return world


def stored(world: World) -> dict[BarKey, Bar]:
    """The rows of the checkpoints."""
    return {
        (interval, start): Bar(
            str(row["open"]), row["high"], row["low"], str(row["close"]), row["count"],
            row["first_at"], row["last_at"], row["first_offset"], row["last_offset"],
            row["revision"],
        )
        for (_, interval, start), row in world.store.partitions[0].rows.items()
    }  # fmt: skip


def assert_published(world: World, bars: dict[BarKey, Bar]) -> None:
    """Of each candle every revision is on the topic, in order; the last one is what there is."""
    found: dict[BarKey, list[dict[str, Any]]] = defaultdict(list)
    for _, value in first_appearances(world.topic.arrived[0]):
        one = json.loads(value, parse_float=str)
        found[one["interval"], datetime.fromisoformat(one["start"])].append(one)
    closed = {key: bar for key, bar in bars.items() if bar.revision}
    assert set(found) == set(closed)
    for key, bar in closed.items():
        assert [one["revision"] for one in found[key]] == [*range(1, bar.revision + 1)], key
        last = found[key][-1]
        assert (last["open"], last["close"], last["count"]) == (bar.open, bar.close, bar.count)
        assert (Decimal(last["high"]), Decimal(last["low"])) == (bar.high, bar.low)
        assert [datetime.fromisoformat(last[name]) for name in ("open_at", "close_at")] == [
            bar.open_at,
            bar.close_at,
        ]


def assert_exact(trades: Trades, world: World, log: Sequence[Logged]) -> dict[BarKey, Bar]:
    counted = places(log)
    counters = world.store.partitions[0].counters
    assert (counters.taken, counters.repeats) == (len(counted), len(log) - len(counted))
    bars = trades.reference.bars(counted)
    assert stored(world) == bars
    assert_published(world, bars)
    return bars


def long_schedule(records: int, choice: random.Random) -> Iterator[Move]:
    """About what it takes to read so many records with all that is read again after crashes."""
    read = 0
    while read < 1.5 * records:
        kind = choice.choices(
            ["read", "checkpoint", "stale", "trouble", "crash", "release"], [60, 25, 3, 3, 5, 2]
        )[0]
        if kind == "read":
            move = Move(
                "read", choice.choice([1, choice.randrange(1, 50), choice.randrange(4_000)])
            )
            read += move.number
            yield move
        elif kind == "release":
            yield from (Move("release", 0), Move("read", 5), Move("assign", 0))
        else:
            yield Move(kind, choice.randrange(200) if kind in ("trouble", "crash") else 0)


@pytest.mark.parametrize("rows", [SOME, pytest.param(ROWS, marks=pytest.mark.faults)])
def test_all_trades_under_a_long_schedule(trades: Trades, rows: int) -> None:
    choice = random.Random(rows)
    log = disordered(range(rows), Disorder(), choice)
    schedule = [*long_schedule(len(log), choice)]
    world = worked(trades.ticks(log, rows), schedule, keep=50)
    bars = assert_exact(trades, world, log)
    # It would prove little without candles that changed long after they had closed.
    assert {interval for interval, _ in bars} == {"1m", "5m", "1h", "1d"}
    assert max(bar.revision for bar in bars.values()) > 5
    assert world.store.loads > 20


@settings(max_examples=40)
@given(st.integers(0, SOME - 200), st.integers(1, 200), st.randoms(), moves, st.integers(0, 3))
def test_some_trades_under_any_schedule(
    trades: Trades, first: int, count: int, choice: random.Random, schedule: list[Move], keep: int
) -> None:
    disorder = Disorder(late=10, far=30, delayed=15, again=5, distance=60)
    log = disordered(range(first, first + count), disorder, choice)
    world = worked(trades.ticks(log, SOME), schedule, keep)
    assert_exact(trades, world, log)


def test_of_equal_times_the_log_decides(trades: Trades) -> None:
    """Trades of one time, turned around: open and close change places."""
    known = trades.first(SOME)
    pairs = ((known[row], known[row + 1], row) for row in range(SOME - 1))
    row = next(row for one, other, row in pairs if one[0] == other[0] and one[1] != other[1])
    for order in ([row, row + 1], [row + 1, row]):
        log = [Logged(row, number) for number, row in enumerate(order, 1)]
        bars = assert_exact(trades, worked(trades.ticks(log, SOME), [], 0), log)
        expected = tuple(str(known[row][1]) for row in order)
        assert {(bar.open, bar.close) for bar in bars.values()} == {expected}
