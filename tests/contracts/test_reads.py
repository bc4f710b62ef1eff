"""What the API asks of the database: receipts, raw answers, the outbox's depth, partitions."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from pricewire.domain.event import EventId, EventState, Publication, Receipt
from pricewire.errors import NotFound, StartupError
from pricewire.services.receipts import Receipts
from pricewire.storage.database import Database
from pricewire.storage.outbox import SqlShards
from pricewire.storage.reads import OutboxDepth, SqlReads
from pricewire.storage.recording import SqlRecordingStore
from tests.builders import RECORDED_AT, make_entry, make_publication, make_raw, opened

AAPL = EventId("AAPL", 1)
ATTEMPT = timedelta(seconds=10)


class Clock:
    """The time of the record, and `seconds` more."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return RECORDED_AT + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receipts(database: Database, clock: Clock) -> Receipts:
    return Receipts(SqlReads(database), attempt=ATTEMPT, attempts=3, clock=clock)


async def record(database: Database) -> UUID:
    entry = make_entry("AAPL")
    await SqlRecordingStore(database).record([entry])
    return entry.raw.id


async def publish(database: Database) -> Publication:
    publication = make_publication(AAPL, offset=7)
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        [event] = await shard.waiting(1)
        await shard.mark({event.outbox_id: publication}, None)
    return publication


async def block(database: Database, since: datetime | None, error: str | None) -> None:
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        await shard.tell_blocked(since, error)


async def test_a_recorded_event_is_queued(database: Database, receipts: Receipts) -> None:
    raw_id = await record(database)
    assert await receipts.receipt(AAPL) == Receipt(
        event_id=AAPL,
        type="price.recorded",
        raw_response_id=raw_id,
        recorded_at=RECORDED_AT,
        state=EventState.QUEUED,
    )


async def test_a_published_event_says_where_it_is(database: Database, receipts: Receipts) -> None:
    await record(database)
    await block(database, RECORDED_AT, "broker down")
    publication = await publish(database)
    receipt = await receipts.receipt(AAPL)
    assert receipt.state is EventState.PUBLISHED
    assert receipt.publication == publication
    assert (receipt.attempts, receipt.last_error) == (0, None)


async def test_a_blocked_event_has_failed_attempts_and_is_stuck_at_the_third(
    database: Database, receipts: Receipts, clock: Clock
) -> None:
    await record(database)
    await block(database, RECORDED_AT - timedelta(hours=1), "broker down")
    seen = []
    for clock.seconds in (9.9, 10, 20, 29.9, 30, 300):
        receipt = await receipts.receipt(AAPL)
        assert receipt.last_error == "broker down"
        seen.append((receipt.attempts, receipt.state.value))
    assert seen == [
        (0, "queued"),
        (1, "queued"),
        (2, "queued"),
        (2, "queued"),
        (3, "stuck"),
        (30, "stuck"),
    ]


async def test_an_event_is_queued_again_once_its_shard_goes_on(
    database: Database, receipts: Receipts, clock: Clock
) -> None:
    await record(database)
    await block(database, RECORDED_AT, "broker down")
    clock.seconds = 60
    assert (await receipts.receipt(AAPL)).state is EventState.STUCK
    await block(database, None, None)
    receipt = await receipts.receipt(AAPL)
    assert (receipt.state, receipt.attempts) == (EventState.QUEUED, 0)
    assert receipt.last_error is None


async def test_an_event_that_never_was_is_not_found(database: Database, receipts: Receipts) -> None:
    await record(database)
    for unknown in (EventId("AAPL", 2), EventId("aapl", 1)):
        with pytest.raises(NotFound, match=str(unknown)):
            await receipts.receipt(unknown)
    with pytest.raises(NotFound):
        await receipts.wait(EventId("AAPL", 2), 1)


async def test_waiting_ends_at_once_when_the_relay_tells(
    database: Database, receipts: Receipts
) -> None:
    await record(database)
    publication = make_publication(AAPL, offset=9)
    waiters = [asyncio.create_task(receipts.wait(AAPL, 30)) for _ in range(2)]
    await asyncio.sleep(0.02)
    receipts.published(publication)
    for waiter in waiters:
        receipt = await asyncio.wait_for(waiter, 1)
        assert (receipt.state, receipt.publication) == (EventState.PUBLISHED, publication)


async def test_waiting_ends_in_time_with_the_event_as_it_is_then(
    database: Database, receipts: Receipts
) -> None:
    await record(database)
    start = time.monotonic()
    receipt = await receipts.wait(AAPL, 0.2)
    assert 0.2 <= time.monotonic() - start < 1
    assert receipt.state is EventState.QUEUED
    assert (await receipts.wait(AAPL, 0)).state is EventState.QUEUED


async def test_waiting_sees_what_another_process_published(
    database: Database, database_url: str, receipts: Receipts
) -> None:
    await record(database)
    waiter = asyncio.create_task(receipts.wait(AAPL, 30))
    await asyncio.sleep(0.02)
    async with opened(database_url) as elsewhere:
        publication = await publish(elsewhere)
    receipt = await asyncio.wait_for(waiter, 5)
    assert (receipt.state, receipt.publication) == (EventState.PUBLISHED, publication)


async def test_a_raw_response_comes_back_byte_for_byte(
    database: Database, receipts: Receipts
) -> None:
    raw = make_raw(bytes(range(256)) * 2, headers=(("etag", '"ü"'), ("date", "now")), status=503)
    await SqlRecordingStore(database).record([make_entry("AAPL", raw=raw)])
    assert await receipts.raw_response(raw.id) == raw
    with pytest.raises(NotFound):
        await receipts.raw_response(make_raw().id)


async def test_the_outbox_says_how_many_wait_and_since_when(database: Database) -> None:
    reads = SqlReads(database)
    assert await reads.outbox_depth() == OutboxDepth(0, None)
    await record(database)
    later = make_entry("MSFT", recorded_at=RECORDED_AT + timedelta(seconds=5))
    await SqlRecordingStore(database).record([later])
    assert await reads.outbox_depth() == OutboxDepth(2, RECORDED_AT)
    await publish(database)
    assert await reads.outbox_depth() == OutboxDepth(1, RECORDED_AT + timedelta(seconds=5))


async def test_the_number_of_partitions_changes_only_while_nothing_waits(
    database: Database,
) -> None:
    reads = SqlReads(database)
    await reads.adopt_partitions(6)
    await reads.adopt_partitions(12)
    await record(database)
    await reads.adopt_partitions(12)
    with pytest.raises(StartupError, match="KAFKA_TOPIC_PARTITIONS=12"):
        await reads.adopt_partitions(6)
    await publish(database)
    await reads.adopt_partitions(6)


async def test_a_fork_is_a_new_generation_of_the_same_store(database: Database) -> None:
    reads = SqlReads(database)
    before = await reads.source()
    after = await reads.fork()
    assert (after.store_id, after.generation) == (before.store_id, before.generation + 1)
    assert await reads.source() == after
