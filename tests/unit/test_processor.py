"""Processors under any schedule: the same input gives the same output, byte for byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.average import average_of, parse_averages
from pricewire.errors import OwnerChanged, ProcessorBroken, TopicMismatch
from pricewire.services.processing import (
    Counters,
    Drop,
    PartitionStart,
    Poison,
    PriceTick,
    Record,
    Skipped,
)
from pricewire.streams.averages import AveragesStep, encode_average
from pricewire.streams.partition import Partition, read_symbol
from tests.stream_fakes import Arrived, Move, World

SOURCE = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"
START = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)
SPECS = parse_averages("sma:3,ema:3,wma:2,sma:4s")
SYMBOLS = {0: ("AAPL", "MSFT"), 1: ("GOOG", "IBM")}


def partition_of(symbol: str) -> int:
    return 0 if symbol in SYMBOLS[0] else 1


def step() -> AveragesStep:
    return AveragesStep(SPECS, only_new_times=False)


def tick(offset: int, symbol: str, sequence: int | None, **changes: object) -> PriceTick:
    number = sequence if sequence is not None else offset
    event_id = f"{symbol}~{sequence}" if sequence else f"price-events/0/{offset}"
    values: dict[str, object] = {
        "partition": partition_of(symbol),
        "offset": offset,
        "logged_at": 1_000 + offset,
        "event_id": event_id,
        "sequence": sequence,
        "source": SOURCE if sequence else "/kafka/topic-1",
        "symbol": symbol,
        "price": Decimal(100 + number * 7 % 13).scaleb(-(number % 3)),
        "timestamp": START + timedelta(seconds=number),
        "provider": "history",
        "raw_response_id": str(UUID(int=number)),
    }
    return PriceTick(**values | changes)  # type: ignore[arg-type]


@st.composite
def logs(draw: st.DrawFn) -> dict[int, list[Record]]:
    """Two partitions with repeats, late events, gaps, others' records, poison and tests."""
    log: dict[int, list[Record]] = {}
    for partition, symbols in SYMBOLS.items():
        records: list[Record] = []
        seen: list[tuple[str, int]] = []
        last = dict.fromkeys(symbols, 0)
        for _ in range(draw(st.integers(0, 30))):
            offset, symbol = len(records), draw(st.sampled_from(symbols))
            kind = draw(st.sampled_from("nnnnnnnrgofst"))
            if kind == "r" and seen:
                records.append(tick(offset, *draw(st.sampled_from(seen))))
            elif kind == "f":
                records.append(Skipped(partition, offset, 0))
            elif kind == "s":
                records.append(Poison(partition, offset, 0, b"k", b"v", (), "not_json", "no"))
            elif kind == "o":
                records.append(tick(offset, symbol, None))
            else:
                last[symbol] += draw(st.integers(2, 4)) if kind == "g" else 1
                number = last[symbol]
                if kind == "t" and number > 1:
                    number -= 1
                seen.append((symbol, number))
                records.append(tick(offset, symbol, number))
        log[partition] = records
    return log


numbers = st.integers(1, 60)
moves = st.lists(
    st.one_of(
        st.builds(Move, st.just("read"), st.integers(1, 9)),
        st.builds(Move, st.just("checkpoint")),
        st.builds(Move, st.sampled_from(["release", "assign", "stale"]), st.integers(0, 1)),
        st.builds(Move, st.sampled_from(["crash", "trouble"]), st.integers(0, 40)),
    ),
    max_size=25,
)


def counted(records: Sequence[Record]) -> list[PriceTick]:
    """The naive rule: each event of a store once, none below the first that was seen."""
    first: dict[str, int] = {}
    seen: set[str] = set()
    taken = []
    for record in records:
        if not isinstance(record, PriceTick):
            continue
        if record.sequence is not None:
            first.setdefault(record.symbol, record.sequence)
            if record.event_id in seen or record.sequence < first[record.symbol]:
                continue
            seen.add(record.event_id)
        taken.append(record)
    return taken


def reference(records: Sequence[Record]) -> list[tuple[str, bytes]]:
    """Every average that one clean pass of a naive program gives for a partition."""
    prices: dict[str, list[PriceTick]] = defaultdict(list)
    outputs = []
    for one in counted(records):
        prices[one.symbol].append(one)
        for spec in SPECS:
            value, entries = average_of(spec, prices[one.symbol])
            if value is not None:
                made = encode_average(one, spec.kind.value, spec.window, value, len(entries))
                outputs.append((f"{one.event_id}~{spec}", made))
    return outputs


def first_appearances(arrived: Sequence[Arrived]) -> list[tuple[str, bytes]]:
    """Drop repeats, each of which must be the same to the byte."""
    seen: dict[str, Arrived] = {}
    for one in arrived:
        assert seen.setdefault(one.event_id, one) == one
    return [(one.event_id, one.value) for one in seen.values()]


@settings(max_examples=200)
@given(logs(), moves)
def test_any_schedule_gives_what_one_clean_pass_gives(
    log: dict[int, list[Record]], schedule: list[Move]
) -> None:
    world, clean = World(log, partition_of), World(log, partition_of)
    world.run(step(), schedule)
    clean.run(step())
    for partition, records in log.items():
        assert first_appearances(world.topic.arrived[partition]) == reference(records)
        kept, expected = world.store.partitions[partition], clean.store.partitions[partition]
        assert kept.states == expected.states
        assert kept.counters == expected.counters
        assert kept.next_offset == (len(records) or None)
        assert kept.counters.taken == len(counted(records))
    dead = {(one.partition, one.offset) for one in world.topic.dead_letters}
    poison = [one for records in log.values() for one in records if isinstance(one, Poison)]
    assert dead == {(one.partition, one.offset) for one in poison}


@settings(max_examples=100)
@given(logs(), moves, st.sets(st.tuples(st.sampled_from(["AAPL", "MSFT", "GOOG", "IBM"]), numbers)))
def test_what_was_dropped_is_lost_once_under_any_schedule(
    log: dict[int, list[Record]], schedule: list[Move], dropped: set[tuple[str, int]]
) -> None:
    came: dict[str, set[int]] = defaultdict(set)
    for one in (one for records in log.values() for one in records):
        if isinstance(one, PriceTick) and one.sequence is not None:
            came[one.symbol].add(one.sequence)
    drops = {Drop(SOURCE, name, n) for name, n in dropped if n not in came[name]}
    missing = {
        one
        for one in drops
        if came[one.symbol] and min(came[one.symbol]) < one.sequence < max(came[one.symbol])
    }
    world, clean = World(log, partition_of), World(log, partition_of)
    clean.run(step())
    world.store.dropped = set(drops)
    # Once more at the end, so that what was noticed missing by the last record is asked about.
    for moves_of_one in (schedule, [Move("read", 0)] * 3):
        world.run(step(), moves_of_one)
    for partition, kept in world.store.partitions.items():
        expected = clean.store.partitions[partition].counters
        lost = sum(partition_of(one.symbol) == partition for one in missing)
        assert kept.counters.lost == lost
        assert kept.counters.missing == expected.missing - lost
        assert kept.counters.taken == expected.taken
    # What may yet turn out to be missing is kept.
    later = {one for one in drops if one.sequence > max(came[one.symbol], default=0)}
    assert world.store.dropped == later


def run_through(records: list[Record]) -> tuple[World, Counters]:
    world = World({0: records}, partition_of)
    world.run(step())
    return world, world.store.partitions[0].counters


def test_repeats_gaps_and_late_events_are_counted() -> None:
    numbers = [5, 6, 6, 9, 8, 8, 4, 10]
    _, counters = run_through([tick(offset, "AAPL", n) for offset, n in enumerate(numbers)])
    # 7 is still missing, 8 came late; 6, 8 and 4 (below the first that was seen) are repeats.
    assert counters == Counters(taken=5, repeats=3, healed=1, missing=1)


def test_the_same_id_with_another_raw_response_is_set_aside() -> None:
    other = tick(1, "AAPL", 1, raw_response_id=str(UUID(int=99)))
    world, counters = run_through([tick(0, "AAPL", 1), other, tick(2, "AAPL", 2)])
    assert counters == Counters(taken=2, dead_letters=1)
    assert [(one.offset, one.error_class) for one in world.topic.dead_letters] == [(1, "conflict")]


def test_stores_are_counted_apart() -> None:
    other = SOURCE.replace("/1", "/2")
    _, counters = run_through([tick(0, "AAPL", 7), tick(1, "AAPL", 7, source=other)])
    assert counters == Counters(taken=2)


def test_an_average_names_its_cause_its_source_and_its_generation() -> None:
    world, _ = run_through([tick(offset, "AAPL", offset + 1) for offset in range(3)])
    ids = {one.event_id: one for one in world.topic.arrived[0]}
    assert list(ids) == ["AAPL~2~wma:2", "AAPL~3~sma:3", "AAPL~3~ema:3", "AAPL~3~wma:2"]
    assert {one.source for one in ids.values()} == {f"{SOURCE}/averages/1"}
    assert ids["AAPL~3~sma:3"].logged_at == 1_002


def test_an_owner_that_was_frozen_past_its_take_over_writes_nothing() -> None:
    log = {0: [tick(offset, "AAPL", offset + 1) for offset in range(4)]}
    world = World(log, partition_of)
    taken_over: list[int] = []

    class Freezing(AveragesStep):
        def apply(self, state: object, one: PriceTick) -> list[tuple[str, bytes]]:
            if one.offset == 2 and not taken_over:
                taken_over.append(world.store.partitions[0].epoch)
                world.store.partitions[0].epoch += 1
            return super().apply(state, one)  # type: ignore[arg-type]

    world.run(Freezing(SPECS, only_new_times=False), [Move("read", 3), Move("checkpoint")])
    assert first_appearances(world.topic.arrived[0]) == reference(log[0])
    assert world.processor.status.restarts == 1
    assert world.processor.status.last_error == OwnerChanged("partition 0").detail
    assert world.store.partitions[0].counters.taken == 4


def test_a_bug_stops_the_processor_and_names_the_record() -> None:
    class Stumbling(AveragesStep):
        def apply(self, *_: object) -> list[tuple[str, bytes]]:
            raise ZeroDivisionError("oh")

    world = World({0: [tick(0, "AAPL", 1)]}, partition_of)
    with pytest.raises(ProcessorBroken, match="partition 0, offset 0: ZeroDivisionError"):
        world.run(Stumbling(SPECS, only_new_times=False))
    assert world.store.partitions[0].next_offset is None


def test_a_topic_that_is_not_as_configured_is_waited_for() -> None:
    world = World({0: [tick(0, "AAPL", 1)]}, partition_of)
    world.refusals = [TopicMismatch("two partitions, not six")] * 3
    world.run(step())
    assert world.processor.status.restarts == 3
    assert world.store.partitions[0].counters.taken == 1


def test_only_new_market_times_count_where_that_is_asked_for() -> None:
    same = [tick(n, "AAPL", n + 1, timestamp=START + timedelta(seconds=n // 2)) for n in range(8)]
    world = World({0: list(same)}, partition_of)
    world.run(AveragesStep(parse_averages("sma:3"), only_new_times=True))
    ids = [one.event_id for one in world.topic.arrived[0]]
    assert ids == ["AAPL~5~sma:3", "AAPL~7~sma:3"]


def test_another_average_begins_cold_and_the_others_go_on() -> None:
    log = {0: [tick(offset, "AAPL", offset + 1) for offset in range(3)]}
    world = World(log, partition_of)
    world.run(AveragesStep(parse_averages("sma:3"), only_new_times=False))
    log[0] += [tick(3, "AAPL", 4)]
    world.run(AveragesStep(parse_averages("sma:3,sma:2"), only_new_times=False))
    assert [one.event_id for one in world.topic.arrived[0]] == ["AAPL~3~sma:3", "AAPL~4~sma:3"]


def test_what_is_missing_for_longer_than_the_topic_keeps_it_is_lost() -> None:
    part = Partition(step(), 0, PartitionStart(1, 1, None, Counters(), {}), retention_ms=1_000)
    records = [tick(0, "AAPL", 1), tick(1, "AAPL", 3), tick(2, "AAPL", 5, logged_at=9_000)]
    assert part.push(records, 0, lambda *_: None, lambda _: None) == 3
    assert part.counters == Counters(taken=3, missing=1, lost=1)
    [ledger] = read_symbol(part_state(part)).ledgers.values()
    assert [(gap.first, gap.last) for gap in ledger.missing] == [(4, 4)]


def part_state(part: object) -> bytes:
    state: bytes = part.dump().states["AAPL"]  # type: ignore[attr-defined]
    return state
