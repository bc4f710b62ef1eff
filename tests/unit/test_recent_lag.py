"""Lag for metrics: never waited for, never old, asked for only while somebody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pricewire.errors import KafkaUnavailable, PricewireError, StoreUnavailable
from pricewire.observe.metrics import Metrics
from pricewire.services.lag import Lag, PartitionLag
from pricewire.services.processing import Counters
from pricewire.services.recent_lag import (
    EVERY_SECONDS,
    REST_SECONDS,
    STALE_SECONDS,
    RecentLag,
)
from pricewire.storage.checkpoints import Position
from tests.fakes import in_virtual_time

ONE = PartitionLag("averages", 3, 1, 40, 52, 12, 1.5, Counters())


class Report:
    """What database and broker say, when asked; `seconds` later."""

    def __init__(self) -> None:
        self.asked = 0
        self.seconds = 0.0
        self.error: PricewireError | None = None

    async def __call__(self) -> Sequence[PartitionLag]:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return [replace(ONE, behind=self.asked)]


@asynccontextmanager
async def keeping(report: Report) -> AsyncIterator[RecentLag]:
    recent = RecentLag(report, clock=asyncio.get_running_loop().time)
    run = asyncio.create_task(recent.run())
    yield recent
    recent.close()
    await asyncio.wait_for(run, report.seconds + 1)


def behind(recent: RecentLag) -> list[int]:
    return [one.behind for one in recent.read()]


@in_virtual_time
async def test_it_is_kept_up_while_somebody_reads() -> None:
    report = Report()
    async with keeping(report) as recent:
        await asyncio.sleep(1_000)
        assert report.asked == 0
        assert behind(recent) == []
        await asyncio.sleep(1)
        assert behind(recent) == [1]
        for turn in range(10):
            await asyncio.sleep(EVERY_SECONDS)
            assert behind(recent) == [turn + 2]
        await asyncio.sleep(10 * REST_SECONDS)
        rested = report.asked
        assert rested < 12 + REST_SECONDS / EVERY_SECONDS
        # What was known before is old by now.
        assert behind(recent) == []
        await asyncio.sleep(1)
        assert behind(recent) == [rested + 1]


@pytest.mark.parametrize("error", [KafkaUnavailable("no broker"), StoreUnavailable("away")])
def test_it_is_gone_at_once_when_nobody_answers_and_comes_back(error: PricewireError) -> None:
    @in_virtual_time
    async def scenario() -> None:
        report = Report()
        async with keeping(report) as recent:
            recent.read()
            await asyncio.sleep(1)
            assert behind(recent) == [1]
            report.error = error
            await asyncio.sleep(EVERY_SECONDS)
            assert behind(recent) == []
            report.error = None
            await asyncio.sleep(EVERY_SECONDS)
            assert behind(recent) == [3]

    scenario()


@in_virtual_time
async def test_an_answer_that_took_long_is_old_when_it_comes() -> None:
    report = Report()
    async with keeping(report) as recent:
        recent.read()
        await asyncio.sleep(1)
        report.seconds = STALE_SECONDS + 5
        await asyncio.sleep(STALE_SECONDS - 2)
        assert behind(recent) == [1]
        await asyncio.sleep(2)
        assert behind(recent) == []
        await asyncio.sleep(STALE_SECONDS - 5)
        assert (report.asked, behind(recent)) == (2, [])


@in_virtual_time
async def test_closing_waits_for_the_answer_that_is_under_way() -> None:
    report = Report()
    report.seconds = 3
    async with keeping(report) as recent:
        recent.read()
        await asyncio.sleep(1)
    assert report.asked == 1


def metrics(*report: PartitionLag) -> list[str]:
    made = Metrics(relay=list, recorded=int, processors=list, lag=lambda: report)
    lines = made.text().decode().splitlines()
    return [line for line in lines if line.startswith("pricewire_processor_lag")]


def test_metrics_tell_lag_by_processor_and_partition() -> None:
    idle = replace(ONE, processor="candles", behind=0, seconds=0.0)
    assert metrics(ONE, idle) == [
        'pricewire_processor_lag_events{partition="3",processor="averages"} 12.0',
        'pricewire_processor_lag_events{partition="3",processor="candles"} 0.0',
        'pricewire_processor_lag_seconds{partition="3",processor="averages"} 1.5',
        'pricewire_processor_lag_seconds{partition="3",processor="candles"} 0.0',
    ]


def test_metrics_tell_no_seconds_where_nothing_was_counted_and_nothing_where_it_is_not_known() -> (
    None
):
    fresh = replace(ONE, next_offset=None, seconds=0.0)
    assert metrics(fresh) == [
        'pricewire_processor_lag_events{partition="3",processor="averages"} 12.0'
    ]
    assert metrics() == []


class Positions:
    def __init__(self, *positions: Position) -> None:
        self._positions = positions

    async def positions(self) -> Sequence[Position]:
        return self._positions


class Ends:
    async def ends(self) -> dict[int, tuple[int, int]]:
        return {0: (0, 100), 1: (50, 100), 2: (0, 0)}


async def test_lag_is_counted_from_the_checkpoint_or_from_what_the_topic_still_has() -> None:
    at = datetime(2024, 3, 20, tzinfo=UTC)
    logged_at = int(at.timestamp() * 1000) - 2_500
    known = [
        Position("averages", 0, 1, "t", 90, logged_at, Counters()),
        Position("averages", 1, 1, "t", 20, logged_at, Counters()),
        Position("averages", 2, 1, "t", None, None, Counters()),
        Position("averages", 7, 1, "t", 5, logged_at, Counters()),
        Position("candles", 0, 1, "t", 100, logged_at, Counters()),
        Position("of another version", 0, 1, "t", 100, logged_at, Counters()),
    ]
    topics = dict.fromkeys(("averages", "candles"), "events")
    lag = Lag(Positions(*known), topics=topics, ends={"events": Ends()}, clock=lambda: at)
    found = {(one.processor, one.partition): one for one in await lag.report()}
    assert {key: (one.behind, one.seconds) for key, one in found.items()} == {
        ("averages", 0): (10, 2.5),
        ("averages", 1): (50, 2.5),
        ("averages", 2): (0, 0.0),
        ("candles", 0): (0, 0.0),
    }
