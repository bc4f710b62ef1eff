"""A shard's rows: read in order, marked at once, owned by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import pytest
from sqlalchemy import select, text

from pricewire.domain.event import EventId, WaitingEvent
from pricewire.domain.quote import Precision
from pricewire.errors import RecordRefused, StoreError
from pricewire.services.publishing import Known, Position, ShardState, ShardStore
from pricewire.storage.database import Database, Rank
from pricewire.storage.event_tables import LIVE
from pricewire.storage.outbox import SqlShards
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import outbox, publications
from tests.builders import (
    PUBLISHED_AT,
    RECORDED_AT,
    count,
    fetch_all,
    make_entry,
    make_publication,
    make_quote,
    on_postgres,
    opened,
)

POSITION = Position("topic-1", 42)


async def record(database: Database, *symbols: str, shard: int = 0) -> None:
    await SqlRecordingStore(database).record([make_entry(*symbols, shard=shard)])


def ids(waiting: list[WaitingEvent]) -> list[str]:
    return [str(event.event_id) for event in waiting]


async def test_events_wait_in_order_within_a_limit_and_only_in_their_shard(
    database: Database,
) -> None:
    await record(database, "AAPL", "MSFT", "AAPL")
    await record(database, "IBM", shard=1)
    await record(database, "AAPL")
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        waiting = await shard.waiting(10)
        assert ids(waiting) == ["AAPL~1", "MSFT~1", "AAPL~2", "AAPL~3"]
        assert [event.outbox_id for event in waiting] == sorted(e.outbox_id for e in waiting)
        assert await shard.waiting(2) == waiting[:2]
        assert await shard.waiting_behind(0, 10) == (0, waiting)
        assert await shard.waiting_behind(waiting[1].outbox_id, 1) == (2, waiting[2:3])
        assert await shard.waiting_behind(waiting[3].outbox_id, 10) == (4, [])


async def test_a_waiting_event_is_what_was_recorded(database: Database) -> None:
    entry = make_entry(make_quote(precision=Precision.DAY, currency="GBp"))
    await SqlRecordingStore(database).record([entry])
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        [event] = await shard.waiting(10)
    assert event.value == entry.drafts[0].value
    assert event.headers == (("pw-precision", "day"), ("pw-currency", "GBp"))
    assert event.type == "price.recorded"
    assert event.raw_response_id == entry.raw.id
    assert event.recorded_at == RECORDED_AT


async def test_marking_keeps_the_publication_and_takes_exactly_those_rows_away(
    database: Database,
) -> None:
    await record(database, "AAPL", "MSFT", "IBM")
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        waiting = await shard.waiting(10)
        published = {
            event.outbox_id: make_publication(event.event_id, offset)
            for event, offset in ((waiting[0], 41), (waiting[2], None))
        }
        await shard.mark(published, POSITION)
        assert ids(await shard.waiting(10)) == ["MSFT~1"]
        assert await shard.state() == ShardState(POSITION, None)
    rows = await fetch_all(database, select(publications).order_by(publications.c.symbol))
    assert [tuple(row) for row in rows] == [
        ("AAPL", 1, 1, "price-events", 0, 41, PUBLISHED_AT),
        ("IBM", 1, 1, "price-events", 0, None, PUBLISHED_AT),
    ]


async def test_the_position_moves_only_when_one_is_given(database: Database) -> None:
    await record(database, "AAPL")
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        assert await shard.state() == ShardState(None, None)
        await shard.mark({}, POSITION)
        [event] = await shard.waiting(10)
        await shard.mark({event.outbox_id: make_publication(event.event_id)}, None)
        assert (await shard.state()).position == POSITION
    async with SqlShards(database).hold(1) as other:
        assert other is not None
        assert (await other.state()).position is None


async def test_a_mark_that_is_refused_changes_nothing(database: Database) -> None:
    await record(database, "AAPL", "MSFT")
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        aapl, msft = await shard.waiting(10)
        await shard.mark({aapl.outbox_id: make_publication(aapl.event_id)}, POSITION)
        twice = {
            msft.outbox_id: make_publication(msft.event_id),
            aapl.outbox_id: make_publication(aapl.event_id),
        }
        with pytest.raises(RecordRefused):
            await shard.mark(twice, Position("topic-1", 99))
    # With PostgreSQL the session is given up, and with it the lock.
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        assert await shard.waiting(10) == [msft]
        assert (await shard.state()).position == POSITION
        await shard.mark({msft.outbox_id: make_publication(msft.event_id)}, None)
    assert await count(database, publications) == 2
    assert await count(database, outbox) == 0


@on_postgres
async def test_a_late_commit_is_not_passed_by(database: Database, database_url: str) -> None:
    late = await asyncpg.connect(database_url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(
        "INSERT INTO events VALUES ('AAPL', 1, 'price.recorded', gen_random_uuid(), now(), '', '')"
    )
    drawn = await late.fetchval(
        "INSERT INTO outbox (shard, symbol, sequence) VALUES (0, 'AAPL', 1) RETURNING id"
    )
    await record(database, "MSFT")
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        [early] = await shard.waiting(10)
        assert str(early.event_id) == "MSFT~1"
        assert early.outbox_id > drawn
        await shard.mark({early.outbox_id: make_publication(early.event_id)}, POSITION)
        await transaction.commit()
        await late.close()
        assert ids(await shard.waiting(10)) == ["AAPL~1"]
        assert await shard.waiting_behind(early.outbox_id, 10) == (1, [])


@on_postgres
async def test_a_shard_has_one_owner_until_it_leaves(database: Database, database_url: str) -> None:
    async with opened(database_url) as second:
        async with SqlShards(database).hold(3) as owner:
            assert owner is not None
            async with SqlShards(second).hold(3) as refused:
                assert refused is None
            async with SqlShards(second).hold(4) as neighbour:
                assert neighbour is not None
        async with SqlShards(second).hold(3) as successor:
            assert successor is not None


async def read(owner: ShardStore, event: WaitingEvent) -> None:
    await owner.waiting(1)


async def mark(owner: ShardStore, event: WaitingEvent) -> None:
    await owner.mark({event.outbox_id: make_publication(event.event_id)}, POSITION)


@on_postgres
@pytest.mark.parametrize("next_call", [read, mark])
async def test_an_owner_whose_connection_is_lost_can_do_nothing_more(
    database: Database,
    database_url: str,
    next_call: Callable[[ShardStore, WaitingEvent], Awaitable[None]],
) -> None:
    await record(database, "AAPL")
    async with opened(database_url) as second, SqlShards(database).hold(0) as owner:
        assert owner is not None
        [event] = await owner.waiting(1)
        await terminate_owners(database_url)
        async with SqlShards(second).hold(0) as successor:
            assert successor is not None
            for _ in range(2):
                with pytest.raises(StoreError):
                    await next_call(owner, event)
            assert await successor.waiting(10) == [event]


@on_postgres
async def test_an_owner_that_says_nothing_for_long_loses_the_shard(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is frozen, but whose machine is not, keeps its connections open."""
    monkeypatch.setattr("pricewire.storage.postgres.FROZEN_OWNER_MS", 400)
    async with opened(database_url) as second, SqlShards(database).hold(0) as owner:
        assert owner is not None
        for _ in range(4):
            await asyncio.sleep(0.2)
            await owner.waiting(1)
        async with asyncio.timeout(10):
            while True:
                async with SqlShards(second).hold(0) as successor:
                    if successor is not None:
                        break
                await asyncio.sleep(0.05)
        with pytest.raises(StoreError):
            await owner.waiting(1)


@on_postgres
async def test_a_connection_lost_within_a_transaction_is_a_store_error(database: Database) -> None:
    lose = text("SELECT pg_terminate_backend(pg_backend_pid())")
    async with database.shard_session(LIVE.lock_class, 0) as owner:
        assert owner is not None
        with pytest.raises(StoreError):
            await owner.write(Rank.RELAY, lambda connection: connection.execute(lose))


@on_postgres
async def test_a_cancelled_transaction_stays_cancelled(database: Database) -> None:
    async with database.shard_session(LIVE.lock_class, 0) as owner:
        assert owner is not None
        sleep = owner.write(Rank.RELAY, lambda one: one.execute(text("SELECT pg_sleep(30)")))
        task = asyncio.create_task(sleep)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def terminate_owners(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
        "JOIN pg_database ON oid = database "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    await connection.close()


async def test_lookup_knows_what_waits_what_is_published_and_what_never_was(
    database: Database,
) -> None:
    entry = make_entry("AAPL", "MSFT")
    await SqlRecordingStore(database).record([entry])
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        aapl, msft = await shard.waiting(10)
        await shard.mark({aapl.outbox_id: make_publication(aapl.event_id)}, None)
        asked = [aapl.event_id, msft.event_id, EventId("AAPL", 2), EventId("NONE", 1)]
        assert await shard.lookup(asked) == {
            aapl.event_id: Known(entry.raw.id, None),
            msft.event_id: Known(entry.raw.id, msft.outbox_id),
        }
        assert await shard.lookup([]) == {}


async def test_lookup_takes_any_number_of_ids(database: Database) -> None:
    await record(database, *["AAPL"] * 700)
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        known = await shard.lookup([EventId("AAPL", n) for n in range(1, 1001)])
    assert sorted(event_id.sequence for event_id in known) == list(range(1, 701))


async def test_a_new_generation_is_above_both_the_old_one_and_the_given_one(
    database: Database,
) -> None:
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        before = await shard.source()
        started = [await shard.start_generation(above) for above in (0, 7, 3)]
        assert [source.generation for source in started] == [2, 8, 9]
        assert {source.store_id for source in started} == {before.store_id}
        assert await shard.source() == started[-1]


async def test_a_blocked_shard_says_since_when_until_it_is_not(database: Database) -> None:
    since = datetime(2024, 3, 20, 10, 30, 0, 1, tzinfo=UTC)
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        await shard.mark({}, POSITION)
        await shard.tell_blocked(since, "broker down")
        assert await shard.state() == ShardState(POSITION, since)
        await shard.tell_blocked(None, None)
        assert await shard.state() == ShardState(POSITION, None)
