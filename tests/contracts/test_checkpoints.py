"""Checkpoints on both databases: one owner, state and position together, anew when they must."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from pricewire.domain.event import EventId, Source
from pricewire.errors import OwnerChanged
from pricewire.services.dead_letters import DeadLetterId, Lost, Outcome
from pricewire.services.processing import (
    Checkpoint,
    Claim,
    Counters,
    Drop,
    PartitionStart,
    Wanted,
)
from pricewire.storage.checkpoints import SqlCheckpoints, StoredState
from pricewire.storage.database import Database
from pricewire.storage.dead_letters import SqlOutcomes

SOURCE = Source(UUID(int=5), 1)
CLAIM = Claim("averages", "1", 3, "topic-1")
CHECKPOINT = Checkpoint(3, 1, 10, 1_700, Counters(taken=9, repeats=1), {"AAPL": b"a", "IBM": b"i"})


async def test_a_first_owner_starts_from_nothing(database: Database) -> None:
    start = await SqlCheckpoints(database).claim(CLAIM)
    assert start == PartitionStart(1, 1, None, Counters(), {})


async def test_the_next_owner_finds_what_was_written(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", CHECKPOINT)
    later = Checkpoint(3, 1, 12, 1_900, Counters(taken=11, repeats=1), {"AAPL": b"b", "X": b""})
    await checkpoints.write("averages", later)
    start = await checkpoints.claim(CLAIM)
    states = {"AAPL": b"b", "IBM": b"i", "X": b""}
    assert start == PartitionStart(2, 1, 12, Counters(taken=11, repeats=1), states)


async def test_a_former_owner_writes_nothing(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", CHECKPOINT)
    await checkpoints.claim(CLAIM)
    with pytest.raises(OwnerChanged, match="partition 3 of averages"):
        await checkpoints.write("averages", replace(CHECKPOINT, next_offset=99))
    assert (await checkpoints.claim(CLAIM)).next_offset == 10


@pytest.mark.parametrize("other_claim", [replace(CLAIM, version="2"), replace(CLAIM, topic_id="t")])
async def test_another_version_or_topic_begins_anew(database: Database, other_claim: Claim) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", CHECKPOINT)
    other = replace(CLAIM, partition=4)
    await checkpoints.claim(other)
    start = await checkpoints.claim(other_claim)
    assert start == PartitionStart(2, 2, None, Counters(), {})
    # The other partition is nobody's business.
    assert (await checkpoints.claim(other)).generation == 1
    assert await checkpoints.symbols("averages") == set()


async def test_many_who_claim_at_once_get_epochs_of_their_own(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    starts = await asyncio.gather(*(checkpoints.claim(CLAIM) for _ in range(8)))
    assert sorted(start.epoch for start in starts) == list(range(1, 9))


async def test_where_processors_are_is_told(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", CHECKPOINT)
    [position] = await checkpoints.positions()
    assert (position.processor, position.partition, position.next_offset) == ("averages", 3, 10)
    assert (position.logged_at, position.counters.taken) == (1_700, 9)
    assert await checkpoints.states("averages", "IBM") == [StoredState(3, b"i")]
    assert await checkpoints.symbols("averages") == {"AAPL", "IBM"}


async def test_drops_are_told_until_a_checkpoint_knows_of_them(database: Database) -> None:
    checkpoints, outcomes = SqlCheckpoints(database), SqlOutcomes(database)
    await checkpoints.claim(CLAIM)
    lost = [Lost("averages", SOURCE, EventId("AAPL", number)) for number in (7, 8)]
    for offset, one in enumerate(lost):
        letter = DeadLetterId(0, offset)
        assert await outcomes.claim("dlq", letter, Outcome.DROPPED, one)
        assert not await outcomes.claim("dlq", letter, Outcome.DROPPED, replace(one, processor="x"))
    seven, eight = (Drop(str(SOURCE), "AAPL", number) for number in (7, 8))
    assert await checkpoints.drops("averages") == [seven, eight]
    assert await checkpoints.drops("x") == []
    settled = replace(CHECKPOINT, settled=[seven])
    with pytest.raises(OwnerChanged):
        await checkpoints.write("averages", replace(settled, epoch=9))
    assert await checkpoints.drops("averages") == [seven, eight]
    await checkpoints.write("averages", settled)
    assert await checkpoints.drops("averages") == [eight]


async def test_a_large_checkpoint_is_written_whole(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    states = {f"S{number}": b"x" * 500 for number in range(3_000)}
    await checkpoints.write("averages", replace(CHECKPOINT, states=states))
    assert (await checkpoints.claim(CLAIM)).states == states


AT = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)


def candle(minute: int, **changes: Any) -> dict[str, Any]:
    start = AT + timedelta(minutes=minute)
    end = start + timedelta(minutes=1)
    prices = {name: Decimal("112.1300") for name in ("open", "high", "low", "close")}
    places = {"first_at": start, "first_offset": 7, "last_at": end, "last_offset": 2**40}
    whose = {"symbol": "AAPL", "interval": "1m", "start": start, "end": end}
    return {**whose, **prices, "count": 3, **places, "revision": 1, **changes}


def key(minute: int) -> tuple[str, str, datetime]:
    return ("AAPL", "1m", AT + timedelta(minutes=minute))


ROWS = replace(CHECKPOINT, table="candles", rows=[candle(0), candle(1)])


async def test_results_come_back_exactly_as_they_were_written(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.claim(replace(CLAIM, partition=4))
    await checkpoints.write("averages", ROWS)
    later = candle(1, close=Decimal("1E-8"), revision=2)
    await checkpoints.write("averages", replace(ROWS, rows=[later]))
    await checkpoints.write("averages", replace(ROWS, partition=4, rows=[candle(5)]))
    wanted = [Wanted(3, 1, [key(0), key(1), key(5)]), Wanted(4, 1, [key(0), key(5)])]
    found = await checkpoints.load("averages", "candles", wanted)
    assert found == [{key(0): candle(0), key(1): later}, {key(5): candle(5)}]
    assert str(found[0][key(0)]["open"]) == "112.1300"
    assert await checkpoints.load("others", "candles", []) == []


async def test_results_of_another_owner_are_not_given(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", ROWS)
    await checkpoints.claim(CLAIM)
    with pytest.raises(OwnerChanged, match="partition 3 of averages"):
        await checkpoints.load("averages", "candles", [Wanted(3, 1, [key(0)])])
    with pytest.raises(OwnerChanged):
        await checkpoints.write("averages", replace(ROWS, rows=[candle(0, count=99)]))
    [found] = await checkpoints.load("averages", "candles", [Wanted(3, 2, [key(0)])])
    assert found == {key(0): candle(0)}


async def test_results_are_given_up_with_the_state(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    for partition in (3, 4):
        await checkpoints.claim(replace(CLAIM, partition=partition))
        await checkpoints.write("averages", replace(ROWS, partition=partition))
    await checkpoints.claim(replace(CLAIM, version="2"))
    wanted = [Wanted(3, 2, [key(0)]), Wanted(4, 1, [key(0)])]
    found = await checkpoints.load("averages", "candles", wanted)
    assert found == [{}, {key(0): candle(0)}]


async def test_many_results_are_loaded_at_once(database: Database) -> None:
    checkpoints = SqlCheckpoints(database)
    await checkpoints.claim(CLAIM)
    await checkpoints.write("averages", replace(ROWS, rows=[candle(n) for n in range(3_000)]))
    wanted = Wanted(3, 1, [key(n) for n in range(-1_000, 3_000)])
    [found] = await checkpoints.load("averages", "candles", [wanted])
    assert found == {key(n): candle(n) for n in range(3_000)}
