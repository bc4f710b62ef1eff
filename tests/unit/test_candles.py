"""Candles under any schedule: the same prices give the same candles, byte for byte."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.candle import (
    EARLIEST,
    LATEST,
    Candle,
    Interval,
    Part,
    Series,
    merge,
    place_of,
    span_of,
)
from pricewire.domain.quote import Precision
from pricewire.errors import InvalidParameter, OwnerChanged
from pricewire.services.processing import Counters, PartitionStart, PriceTick, Record, Skipped
from pricewire.streams.candles import CandlesStep, parse_candle_id
from pricewire.streams.partition import Partition, moved_symbol
from tests.stream_fakes import Move, World
from tests.unit.test_processor import counted, first_appearances, logs, moves, partition_of, tick

DAY = datetime(2024, 3, 20, tzinfo=UTC)
AT = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)


def step(keep: int = 10_000) -> CandlesStep:
    return CandlesStep("candles", Series.LIVE, keep=keep)


def price(offset: int, text: str, at: datetime, **changes: Any) -> PriceTick:
    return tick(offset, "AAPL", offset + 1, price=Decimal(text), timestamp=at, **changes)


Told = dict[str, Any]


def told(records: Sequence[Record]) -> list[tuple[str, Told]]:
    """What comes out of one clean pass: names and values."""
    world = World({0: records}, partition_of)
    world.run(step())
    return [
        (one.event_id, json.loads(one.value, parse_float=Decimal)) for one in world.topic.arrived[0]
    ]


class Naive:
    """Candles made anew of all prices so far, for every price: slow, and plain to see."""

    def __init__(self) -> None:
        self.prices: dict[tuple[str, Interval, datetime], list[tuple[datetime, PriceTick]]] = (
            defaultdict(list)
        )
        self.revisions: dict[tuple[str, Interval, datetime], int] = defaultdict(int)

    def take(self, one: PriceTick) -> list[tuple[str, Told]]:
        place = place_of(one.symbol, one.timestamp, one.precision)
        outputs = []
        for interval in Interval:
            if interval not in place.intervals:
                continue
            start = span_of(one.symbol, interval, place.at).start
            before = [s for symbol, i, s in self.prices if (symbol, i) == (one.symbol, interval)]
            self.prices[one.symbol, interval, start].append((place.at, one))
            newest = max(before, default=None)
            if newest is not None and newest != start:
                closed = min(start, newest)
                self.revisions[one.symbol, interval, closed] += 1
                outputs.append(self.told(one, interval, closed))
        return outputs

    def told(self, cause: PriceTick, interval: Interval, start: datetime) -> tuple[str, Told]:
        key = (cause.symbol, interval, start)
        in_time = sorted(self.prices[key], key=lambda item: item[0])
        prices = [one.price for _, one in self.prices[key]]
        value = {
            "symbol": cause.symbol,
            "interval": interval.value,
            "start": text(start),
            "end": text(span_of(cause.symbol, interval, start).end),
            "open": in_time[0][1].price,
            "high": max(prices),
            "low": min(prices),
            "close": in_time[-1][1].price,
            "count": len(prices),
            "open_at": text(in_time[0][0]),
            "close_at": text(in_time[-1][0]),
            "series": "live",
            "revision": self.revisions[key],
            "timestamp": text(cause.timestamp),
            "raw_response_id": str(cause.raw_response_id),
            "event_id": cause.event_id,
        }
        return f"{cause.event_id}~candle:{interval}:{text(start)}", value


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def decimals(found: Sequence[tuple[str, bytes]]) -> list[tuple[str, Told]]:
    return [
        (name, json.loads(value, parse_float=Decimal, parse_int=Decimal)) for name, value in found
    ]


OFFSETS = (
    st.integers(-90, 90).map(lambda n: timedelta(seconds=n))
    | st.integers(-9, 9).map(lambda n: timedelta(hours=7 * n))
    | st.integers(-3, 3).map(lambda n: timedelta(minutes=n))
)


@st.composite
def timed_logs(draw: st.DrawFn) -> dict[int, list[Record]]:
    """Logs as of any processor, with market times that wander, and some that are coarse."""
    found: dict[int, list[Record]] = {}
    for partition, records in draw(logs()).items():
        at = AT
        times: dict[str, tuple[datetime, Precision]] = {}
        found[partition] = []
        for record in records:
            if not isinstance(record, PriceTick):
                found[partition].append(record)
                continue
            if record.event_id not in times:
                at += draw(OFFSETS)
                precision = draw(st.sampled_from([*[Precision.SECOND] * 6, *Precision]))
                when = at.replace(hour=0, minute=0, second=0) if precision == "day" else at
                times[record.event_id] = (when, precision)
            when, precision = times[record.event_id]
            changed = {n: getattr(record, n) for n in PriceTick.__struct_fields__}
            changed |= {"timestamp": when, "precision": precision}
            found[partition].append(PriceTick(**changed))
    return found


@settings(max_examples=200)
@given(timed_logs(), moves, st.integers(0, 3))
def test_any_schedule_gives_what_one_naive_pass_gives(
    log: dict[int, list[Record]], schedule: list[Move], keep: int
) -> None:
    world = World(log, partition_of)
    world.run(step(keep), schedule)
    for partition, records in log.items():
        naive = Naive()
        expected = [made for one in counted(records) for made in naive.take(one)]
        found = first_appearances(world.topic.arrived[partition])
        assert decimals(found) == expected
        stored = world.store.partitions[partition].rows
        assert stored_ones(stored) == {
            (symbol, interval.value, start): (
                *(len(prices), naive.revisions[symbol, interval, start]),
                max(one.price for _, one in prices),
            )
            for (symbol, interval, start), prices in naive.prices.items()
        }


def stored_ones(rows: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: (row["count"], row["revision"], row["high"]) for key, row in rows.items()}


def test_a_candle_closes_with_the_first_price_of_a_later_one() -> None:
    seconds = [(0, "10.0"), (59, "12.50"), (30, "9"), (60, "11")]
    out = told([price(n, p, AT + timedelta(seconds=s)) for n, (s, p) in enumerate(seconds)])
    [(name, value)] = out
    assert name == "AAPL~4~candle:1m:2024-03-20T10:30:00Z"
    assert (value["open"], value["high"], value["low"], value["close"]) == (
        *(Decimal("10.0"), Decimal("12.50"), 9),
        Decimal("12.50"),
    )
    assert str(value["high"]) == "12.50"
    assert (value["count"], value["revision"], value["event_id"]) == (3, 1, "AAPL~4")


def test_a_late_price_gives_a_new_revision_or_a_candle_that_never_was() -> None:
    minutes = [0, 5, 0, 3]
    out = told([price(n, str(n + 1), AT + timedelta(minutes=m)) for n, m in enumerate(minutes)])
    of_minutes = [
        (value["start"][11:16], value["revision"], value["count"])
        for _, value in out
        if value["interval"] == "1m"
    ]
    assert of_minutes == [("10:30", 1, 1), ("10:30", 2, 2), ("10:33", 1, 1)]


def test_a_price_counts_for_no_interval_finer_than_its_time() -> None:
    days = [
        price(0, "1", DAY, precision=Precision.DAY),
        price(1, "2", DAY + timedelta(hours=15)),
        price(2, "3", DAY + timedelta(hours=15), precision=Precision.NONE),
        price(3, "4", DAY + timedelta(days=1), precision=Precision.DAY),
    ]
    [(name, value)] = told(days)
    assert name == "AAPL~4~candle:1d:2024-03-20T04:00:00Z"
    # The day's own price stands at its end, whenever it was told.
    assert (value["open"], value["close"], value["count"]) == (2, 1, 2)


@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize("precision", list(Precision))
def test_a_time_that_is_no_markets_makes_no_candle(at: datetime, precision: Precision) -> None:
    one = price(1, "2", at, precision=precision)
    world = World({0: [price(0, "1", AT), one, price(2, "3", AT)]}, partition_of)
    world.run(step())
    assert world.store.partitions[0].counters.taken == 3
    assert {row["count"] for row in world.store.partitions[0].rows.values()} == {2}


TIMES = st.datetimes(
    EARLIEST.replace(tzinfo=None),
    (LATEST - timedelta(days=1)).replace(tzinfo=None),
    timezones=st.just(UTC),
)
SUFFIXES = st.sampled_from(
    ["AAPL", "VOD.L", "7203.T", "BTC-USD", "EUR/USD", "PETR4.SA", "TCS.NS", "CBA.AX", "?"]
)


@settings(max_examples=500)
@given(SUFFIXES, TIMES, st.sampled_from(list(Interval)))
def test_spans_cover_all_time_once(symbol: str, at: datetime, interval: Interval) -> None:
    span = span_of(symbol, interval, at)
    assert span.start <= at < span.end
    assert span_of(symbol, interval, span.start) == span
    assert span_of(symbol, interval, span.end).start == span.end
    assert span_of(symbol, interval, span.end - timedelta(microseconds=1)) == span
    day = place_of(symbol, at.replace(hour=0, minute=0, second=0, microsecond=0), Precision.DAY)
    assert span_of(symbol, Interval.DAY, day.at).end == day.at + timedelta(microseconds=1)


def test_a_day_is_one_of_the_symbols_market() -> None:
    evening = datetime(2024, 7, 2, 1, 0, tzinfo=UTC)
    starts = {
        symbol: span_of(symbol, Interval.DAY, evening).start for symbol in ("AAPL", "BTC-USD")
    }
    assert starts == {
        "AAPL": datetime(2024, 7, 1, 4, tzinfo=UTC),
        "BTC-USD": datetime(2024, 7, 2, tzinfo=UTC),
    }


def candle(*prices: tuple[int, str], revision: int = 1) -> Candle:
    made: Candle | None = None
    for offset, (second, digits) in enumerate(prices):
        at = AT + timedelta(seconds=second)
        if made is None:
            one = Decimal(digits)
            made = Candle(
                AT, AT + timedelta(minutes=1), one, one, one, one, 1, at, offset, at, offset
            )
        else:
            made.add(Decimal(digits), at, offset)
    assert made is not None
    made.revision = revision
    return made


SECONDS = st.lists(
    st.tuples(st.integers(0, 59), st.integers(1, 99).map(str)), min_size=1, max_size=6
)


@given(SECONDS, SECONDS)
def test_two_series_merge_into_what_one_log_would_give(
    past: list[tuple[int, str]], now: list[tuple[int, str]]
) -> None:
    merged = merge([Part(Series.LIVE, 0, candle(*now)), Part(Series.HISTORY, 3, candle(*past))])
    # Past prices come first: as in a log that has them before all others.
    expected = candle(*past, *now)
    for name in ("open", "high", "low", "close", "count", "first_at", "last_at"):
        assert getattr(merged, name) == getattr(expected, name), name
    assert merged.revision == 2


def test_what_is_merged_is_open_while_a_part_is() -> None:
    parts = [
        Part(Series.LIVE, 0, candle((1, "1"), revision=4)),
        Part(Series.HISTORY, 0, candle((1, "1"), revision=0)),
    ]
    assert merge(parts).revision == 0


def test_ids_are_read_back() -> None:
    name = "BTC-USD~h12~candle:1d:2024-03-20T00:00:00Z"
    assert parse_candle_id(name) == ("BTC-USD~h12", Interval.DAY, DAY)
    for wrong in (
        "",
        "AAPL~1",
        "AAPL~1~sma:5",
        "AAPL~1~candle:1m:",
        "candle:1m:2024-03-20T00:00:00Z",
    ):
        with pytest.raises(InvalidParameter, match="no candle's id"):
            parse_candle_id(wrong)
    with pytest.raises(InvalidParameter, match="none of 1m, 5m, 1h, 1d"):
        parse_candle_id("AAPL~1~candle:2m:2024-03-20T00:00:00Z")


def test_an_owner_that_was_frozen_past_its_take_over_loads_nothing() -> None:
    """Rows that a later owner has written would give an old id other bytes."""
    log = [price(n, str(n + 1), AT + timedelta(minutes=n)) for n in range(3)]
    world = World({0: [*log, price(3, "9", AT)]}, partition_of)
    state = world.store.partitions[0]

    class Freezing(CandlesStep):
        def lacking(self, candles: Any, one: PriceTick) -> Any:
            if state.epoch == 1 and one.offset == 3:
                state.epoch += 1
            return super().lacking(candles, one)

    schedule = [Move("read", 3), Move("checkpoint"), *[Move("read", 0)] * 2]
    world.run(Freezing("candles", Series.LIVE, keep=0), schedule)
    assert world.processor.status.last_error == OwnerChanged("partition 0").detail
    last = json.loads(first_appearances(world.topic.arrived[0])[-1][1])
    assert (last["interval"], last["count"], last["revision"]) == ("1m", 2, 2)


def test_a_candle_that_moves_open_to_another_partition_goes_on_there() -> None:
    """Offsets are of one partition: what comes in the new one is later than all of the old."""
    before = [price(5_000 + n, digits, AT) for n, digits in enumerate(["7", "9"])]
    world = World({0: [*(Skipped(0, n, 0) for n in range(5_000)), *before]}, partition_of)
    world.run(step())
    stored = moved_symbol(step(), world.store.partitions[0].states["AAPL"])
    # Once more it is the same, should the command be run again.
    assert moved_symbol(step(), stored) == stored
    start = PartitionStart(1, 1, 0, Counters(), {"AAPL": stored})
    part = Partition(step(), 0, start, None)
    equal = tick(0, "AAPL", 5_003, price=Decimal(8), timestamp=AT)
    repeat = tick(1, "AAPL", 5_002, price=Decimal(9), timestamp=AT)
    part.push([equal, repeat], 0, lambda *_: None, lambda _: None)
    assert (part.counters.taken, part.counters.repeats) == (1, 1)
    rows = part.dump().rows
    assert len(rows) == len(Interval)
    for row in rows:
        assert (row["open"], row["close"], row["count"]) == (Decimal(7), Decimal(8), 3)
        assert (row["first_offset"], row["last_offset"]) == (-1, 0)


def test_memory_holds_a_bounded_number_of_closed_candles() -> None:
    log = [price(n, "1", AT + timedelta(minutes=n)) for n in range(300)]
    late = [price(300 + n, "2", AT + timedelta(minutes=n)) for n in range(300)]
    world = World({0: [*log, *late]}, partition_of)
    seen: list[int] = []

    class Watching(CandlesStep):
        def apply(self, state: Any, one: PriceTick) -> Any:
            seen.append(len(state.closed))
            return super().apply(state, one)

    schedule = [move for _ in range(100) for move in (Move("read", 7), Move("checkpoint"))]
    world.run(Watching("candles", Series.LIVE, keep=10), schedule)
    # Ten that are written, and what two batches have changed or loaded since.
    assert max(seen) < 60
    assert world.store.loads > 10
    rows = world.store.partitions[0].rows
    assert [row["count"] for key, row in rows.items() if key[1] == "1m"] == [2] * 300


def test_of_each_interval_one_thing_comes_of_an_event() -> None:
    out = told([price(n, "1", AT + timedelta(hours=7 * n)) for n in range(5)])
    assert len({name for name, _ in out}) == len(out)
