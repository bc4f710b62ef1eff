"""Another number of partitions on both databases: rows follow their symbols, owners are fenced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import murmur2
from sqlalchemy import select

from pricewire.bootstrap_repartition import rekeying_store
from pricewire.domain.average import parse_averages
from pricewire.domain.candle import Series
from pricewire.errors import OwnerChanged, StartupError, TopicMismatch
from pricewire.services.processing import Checkpoint, Claim, Counters
from pricewire.settings import load_settings
from pricewire.storage.checkpoints import SqlCheckpoints
from pricewire.storage.database import Database
from pricewire.storage.event_tables import HISTORY, LIVE, EventTables
from pricewire.storage.outbox import SqlShards
from pricewire.storage.reads import SqlReads
from pricewire.storage.recording import PartitionsChanged, SqlRecordingStore
from pricewire.storage.repartition import Kept, Rekeyed, SqlRepartition
from pricewire.storage.tables import candles, outbox, processor_states
from pricewire.streams.averages import AveragesStep
from pricewire.streams.candles import CandlesStep
from pricewire.streams.partition import Partition, read_symbol
from tests.builders import fetch_all, make_entry, on_postgres
from tests.contracts.test_checkpoints import candle
from tests.unit.test_processor import tick

NEW = {"AAPL": 1, "IBM": 3, "MSFT": 0}
"""Where symbols belong among four partitions; among two, everything is where it is put."""

SYMBOLS = ("AAPL", "MSFT", "IBM", "GOOG", "FB", "ES")


class GoneVersion(CandlesStep):
    version = "0"


STEPS: dict[str, Any] = {
    "averages": AveragesStep(parse_averages("sma:5"), only_new_times=False),
    "candles": CandlesStep("candles", Series.LIVE),
    "candles-history": GoneVersion("candles-history", Series.HISTORY),
}


def repartition(database: Database) -> SqlRepartition:
    return SqlRepartition(
        database,
        partition_of=lambda symbol, count: NEW[symbol] if count == 4 else NEW[symbol] % 2,
        missing_in=lambda state: int(state.removeprefix(b"moved ")),
        moved=lambda processor, version, state: (
            b"moved %s" % state if (processor, version) == ("averages", "1") else b"who?"
        ),
    )


def claim(partition: int) -> Claim:
    return Claim("averages", "1", partition, "topic-1")


def checkpoint(partition: int, **states: bytes) -> Checkpoint:
    return Checkpoint(partition, 1, 10, 1_700, Counters(taken=5, missing=3), states)


async def used(database: Database) -> SqlCheckpoints:
    """A store of two partitions, with states in both and an event in the outbox."""
    await SqlReads(database).adopt_partitions(2)
    checkpoints = SqlCheckpoints(database, 2)
    for partition in (0, 1):
        await checkpoints.claim(claim(partition))
    await checkpoints.write("averages", checkpoint(0, MSFT=b"0"))
    await checkpoints.write("averages", checkpoint(1, AAPL=b"1", IBM=b"2"))
    return checkpoints


async def rekeyed(database: Database, partitions: int = 4) -> Rekeyed:
    rekeying = repartition(database)
    async with rekeying.alone(partitions) as session:
        return await rekeying.rekey(session, partitions)


async def test_states_and_waiting_events_follow_their_symbols(database: Database) -> None:
    before = await used(database)
    await SqlRecordingStore(database, 2).record([make_entry("IBM", "AAPL", shard=1)])
    assert await repartition(database).kept() == Kept(2, {"averages": 2}, 2)
    assert await rekeyed(database) == Rekeyed(outbox=1, states=1)
    assert await repartition(database).kept() == Kept(4, {"averages": 4}, 2)
    places = await fetch_all(database, select(outbox.c.symbol, outbox.c.shard))
    assert {tuple(row) for row in places} == {("AAPL", 1), ("IBM", 3)}
    with pytest.raises(OwnerChanged):
        await before.write("averages", checkpoint(1, AAPL=b"9"))
    starts = [await SqlCheckpoints(database, 4).claim(claim(number)) for number in range(4)]
    assert [start.next_offset for start in starts] == [10, 10, 0, 0]
    assert [dict(start.states) for start in starts] == [
        {"MSFT": b"0"},
        {"AAPL": b"1"},
        {},
        # A state that is in another partition now is told, once.
        {"IBM": b"moved 2"},
    ]
    assert [start.counters.missing for start in starts] == [0, 1, 0, 2]
    assert sum(start.counters.taken for start in starts) == 10
    assert {start.generation for start in starts} == {1}
    # Once more changes nothing.
    assert await rekeyed(database) == Rekeyed(outbox=0, states=0)
    again = await SqlCheckpoints(database, 4).claim(claim(3))
    assert dict(again.states) == {"IBM": b"moved 2"}


async def test_results_follow_their_symbols(database: Database) -> None:
    checkpoints = await used(database)
    rows = [candle(0, symbol="AAPL"), candle(0, symbol="IBM")]
    written = replace(checkpoint(1), table="candles", rows=rows)
    await checkpoints.write("averages", written)
    await checkpoints.write("averages", replace(written, partition=0, rows=rows[:1]))
    await checkpoints.write("averages", checkpoint(0, AAPL=b"8"))
    await rekeyed(database)
    columns = candles.c.symbol, candles.c.partition, candles.c.first_offset, candles.c.last_offset
    places = await fetch_all(database, select(*columns))
    # What comes in a new partition is later than what came in the former one.
    assert {tuple(row) for row in places} == {("AAPL", 1, 7, 2**40), ("IBM", 3, -1, -1)}


async def test_a_symbol_in_two_partitions_keeps_the_state_of_its_own(database: Database) -> None:
    checkpoints = await used(database)
    await checkpoints.write("averages", checkpoint(0, IBM=b"7"))
    await rekeyed(database)
    kept = await SqlCheckpoints(database, 4).claim(claim(3))
    assert dict(kept.states) == {"IBM": b"moved 2"}


async def test_open_candles_forget_the_offsets_of_the_partition_that_they_leave(
    database: Database,
) -> None:
    """With the states of the steps themselves; those of a version that is gone stay as they are."""
    await SqlReads(database).adopt_partitions(2)
    before = {name: await counted(database, name) for name in STEPS}
    rekeying = rekeying_store(load_settings(_env_file=None), database)
    async with rekeying.alone(4) as session:
        await rekeying.rekey(session, 4)
    moved = {one for one in SYMBOLS if murmur2(one.encode(), 4) != murmur2(one.encode(), 2)}
    assert 0 < len(moved) < len(SYMBOLS)
    for name, step in STEPS.items():
        for symbol, state in (await kept(database, name)).items():
            if name != "candles" or symbol not in moved:
                assert state == before[name][symbol]
                continue
            was, now = read_symbol(before[name][symbol]), read_symbol(state)
            assert now.ledgers == was.ledgers
            for one, other in zip(
                step.load(was.state).open, step.load(now.state).open, strict=True
            ):
                places = {"first_offset": -1, "last_offset": -1}
                assert other == replace(one, **places)


async def counted(database: Database, name: str) -> dict[str, bytes]:
    """Let a processor count an event of each symbol, among two partitions; return the states."""
    step, checkpoints = STEPS[name], SqlCheckpoints(database, 2)
    for number in (0, 1):
        mine = [one for one in SYMBOLS if murmur2(one.encode(), 2) == number]
        start = await checkpoints.claim(Claim(name, step.version, number, "topic-1"))
        part = Partition[Any](step, number, start, None)
        ticks = [tick(place, one, 7, partition=number) for place, one in enumerate(mine)]
        part.push(ticks, 0, lambda *_: None, lambda _: None)
        await checkpoints.write(name, part.dump())
    return await kept(database, name)


async def kept(database: Database, name: str) -> dict[str, bytes]:
    mine = processor_states.c.processor == name
    columns = processor_states.c.symbol, processor_states.c.state
    return {row[0]: row[1] for row in await fetch_all(database, select(*columns).where(mine))}


async def test_who_claims_for_another_number_is_told_what_to_run(database: Database) -> None:
    await used(database)
    with pytest.raises(TopicMismatch, match="topics repartition --partitions 4"):
        await SqlCheckpoints(database, 4).claim(claim(3))
    await rekeyed(database)
    with pytest.raises(TopicMismatch, match="keeps its state for 4 partitions"):
        await SqlCheckpoints(database, 2).claim(claim(0))
    # On a topic made anew there is no state to be split.
    fresh = Claim("averages", "1", 0, "topic-2")
    assert (await SqlCheckpoints(database, 2).claim(fresh)).next_offset is None


async def test_a_door_of_the_former_number_records_nothing(database: Database) -> None:
    door = SqlRecordingStore(database, 2)
    await used(database)
    await door.record([make_entry("AAPL", shard=1)])
    await rekeyed(database)
    with pytest.raises(PartitionsChanged, match="KAFKA_TOPIC_PARTITIONS=4"):
        await door.record([make_entry("AAPL", shard=1)])
    [written] = await SqlRecordingStore(database, 4).record([make_entry("AAPL", shard=1)])
    assert isinstance(written, list)
    assert [one.event_id.sequence for one in written] == [2]


async def test_the_number_is_not_changed_under_processors_by_a_setting(database: Database) -> None:
    await used(database)
    with pytest.raises(StartupError, match="keep their states for 2 partitions"):
        await SqlReads(database).adopt_partitions(4)


@pytest.mark.parametrize(("tables", "shard"), [(LIVE, 0), (LIVE, 3), (HISTORY, 2)])
@on_postgres
async def test_nothing_is_rekeyed_while_somebody_relays(
    database: Database, tables: EventTables, shard: int
) -> None:
    async with SqlShards(database, tables).hold(shard) as held:
        assert held is not None
        with pytest.raises(StartupError, match=f"another process relays shard {shard}"):
            await rekeyed(database)
