"""Jobs in the database, and the fence: a due time's price is recorded once, and by its claimer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update
from uuid_utils.compat import uuid7

from pricewire.domain.budget import Budget, parse_budget
from pricewire.domain.job import Job, JobConfig, JobStatus, completed, started
from pricewire.errors import NotFound, PlanExceeded, PollOvertaken, StoreUnavailable
from pricewire.kafka.codec import encode_price_event
from pricewire.services.jobs import Claim, Jobs, Plannable
from pricewire.services.recording import Door, Entry, Fence, Overtaken, Written
from pricewire.storage.database import Database
from pricewire.storage.jobs import SqlJobs
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import jobs, outbox, polls, prices, raw_responses
from tests.builders import (
    RECORDED_AT,
    count,
    execute,
    fetch_all,
    ids_of,
    make_entry,
    make_fetched,
    on_postgres,
    opened,
)

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)


def make_job(*symbols: str, interval: int = 60, begin: datetime = NOW) -> Job:
    job = Job(
        id=uuid7(),
        config=JobConfig(symbols=symbols or ("AAPL",), interval=interval),
        status=JobStatus.ACTIVE,
        epoch=0,
        next_due=begin,
        next_run=begin,
        created_at=begin,
    )
    return started(job, begin)


async def added(store: SqlJobs, *symbols: str, interval: int = 60) -> Job:
    return await store.add(make_job(*symbols, interval=interval), lambda job, _: job)


async def claim_one(store: SqlJobs, now: datetime = NOW) -> Claim:
    [claim] = await store.claim(now, LEASE, 9)
    return claim


def fence_of(claim: Claim) -> Fence:
    return Fence(claim.job.id, claim.job.epoch, claim.job.next_due)


def overtaken(written: Sequence[Written]) -> list[bool]:
    return [isinstance(one, PollOvertaken) for one in written]


async def polled(database: Database) -> list[tuple[UUID, datetime, str]]:
    rows = await fetch_all(database, select(polls.c.job_id, polls.c.due, polls.c.symbol))
    return [(row[0], row[1], row[2]) for row in rows]


async def test_jobs_come_back_as_they_went_in_after_a_restart(
    database: Database, database_url: str
) -> None:
    job = replace(make_job("AAPL", "EUR/USD"), last_error="no", last_poll=NOW, failures=3, missed=7)
    await SqlJobs(database).add(job, lambda one, _: one)
    async with opened(database_url) as again:
        assert await SqlJobs(again).get(job.id) == job
        assert await SqlJobs(again).all() == [job]
        assert await SqlJobs(again).get(uuid7()) is None


async def test_a_due_job_is_claimed_once_and_again_when_its_lease_is_over(
    database: Database,
) -> None:
    store = SqlJobs(database)
    job = await added(store)
    assert await store.next_run() == NOW
    assert await store.claim(NOW - timedelta(seconds=1), LEASE, 9) == []
    first = await claim_one(store)
    assert (first.job.epoch, first.job.next_due) == (job.epoch + 1, NOW)
    assert await store.next_run() == NOW + LEASE
    assert await store.claim(NOW + timedelta(seconds=29), LEASE, 9) == []
    second = await claim_one(store, NOW + LEASE)
    assert (second.job.epoch, second.job.next_due) == (job.epoch + 2, NOW)
    assert await store.renew([first.job], NOW + 3 * LEASE) == set()
    assert await store.renew([second.job], NOW + 3 * LEASE) == {job.id}
    assert not await store.finish(completed(first.job))
    assert await store.finish(completed(second.job))
    assert await store.next_run() == NOW + timedelta(seconds=60)


async def test_a_job_that_is_no_poll_is_never_claimed_nor_waited_for(database: Database) -> None:
    store = SqlJobs(database)
    job = await added(store)
    await execute(database, update(jobs).values(kind="stream"))
    assert await store.next_run() is None
    assert await store.claim(NOW, LEASE, 9) == []
    assert await store.all() == [job]


@on_postgres
async def test_of_processes_that_claim_at_once_each_job_has_one(
    database: Database, database_url: str
) -> None:
    async with opened(database_url) as second, opened(database_url) as third:
        stores = [SqlJobs(one) for one in (database, second, third)]
        made = {(await added(stores[0])).id for _ in range(12)}
        claims = await asyncio.gather(*(store.claim(NOW, LEASE, 5) for store in stores * 4))
    claimed = [claim.job.id for some in claims for claim in some]
    assert sorted(claimed) == sorted(made)


async def test_a_poll_is_recorded_with_its_price_and_found_by_the_next_claim(
    database: Database,
) -> None:
    store = SqlJobs(database)
    await added(store, "AAPL", "MSFT")
    claim = await claim_one(store)
    entry = make_entry("AAPL", fence=fence_of(claim))
    assert ids_of(await SqlRecordingStore(database).record([entry])) == [["AAPL~1"]]
    [row] = await fetch_all(database, select(polls))
    assert tuple(row) == (claim.job.id, NOW, "AAPL", entry.raw.id)
    again = await claim_one(store, NOW + LEASE)
    assert (again.job.next_due, again.recorded) == (NOW, frozenset({"AAPL"}))
    later = await claim_one(store, NOW + timedelta(seconds=60))
    assert later.recorded == frozenset()


async def test_who_was_succeeded_records_nothing_and_no_stranger_suffers(
    database: Database,
) -> None:
    store, door = SqlJobs(database), SqlRecordingStore(database)
    await added(store, "AAPL")
    frozen = fence_of(await claim_one(store))
    successor = fence_of(await claim_one(store, NOW + LEASE))
    late = make_entry("AAPL", fence=frozen)
    group = [make_entry("AAPL"), late, make_entry("AAPL", fence=successor), make_entry("MSFT")]
    written = await door.record(group)
    assert overtaken(written) == [False, True, False, False]
    assert ids_of([one for one in written if not isinstance(one, Overtaken)]) == [
        ["AAPL~1"],
        ["AAPL~2"],
        ["MSFT~1"],
    ]
    counts = [await count(database, table) for table in (raw_responses, prices, outbox, polls)]
    assert counts == [4, 3, 3, 1]
    # Tried again it is kept once.
    assert overtaken(await door.record([late], again=True)) == [True]
    assert await count(database, raw_responses) == 4


@pytest.mark.parametrize("how", ["pause", "delete", "change"])
async def test_once_a_job_was_paused_changed_or_deleted_its_poll_records_nothing(
    database: Database, how: str
) -> None:
    store = SqlJobs(database)
    service = service_of(store)
    job = await service.create(JobConfig(symbols=("AAPL",), interval=60))
    claim = await claim_one(store)
    if how == "pause":
        await service.pause(job.id)
    elif how == "delete":
        await service.delete(job.id)
    else:
        await service.change(job.id, {"interval": 61})
    entry = make_entry("AAPL", fence=fence_of(claim))
    assert overtaken(await SqlRecordingStore(database).record([entry])) == [True]
    assert await count(database, prices) == 0


@pytest.mark.parametrize("together", [True, False])
async def test_a_due_time_gets_a_symbol_once(database: Database, together: bool) -> None:
    store, door = SqlJobs(database), SqlRecordingStore(database)
    await added(store, "AAPL", "MSFT")
    fence = fence_of(await claim_one(store))
    twice = [make_entry("AAPL", fence=fence), make_entry("MSFT", "AAPL", fence=fence)]
    if together:
        written = list(await door.record(twice))
    else:
        written = [(await door.record([one]))[0] for one in twice]
    assert overtaken(written) == [False, True]
    assert await polled(database) == [(fence.job_id, NOW, "AAPL")]
    assert ids_of(await door.record([make_entry("MSFT", fence=fence)])) == [["MSFT~1"]]


async def test_what_an_unknown_commit_recorded_is_found_although_the_fence_fell_since(
    database: Database,
) -> None:
    store, door = SqlJobs(database), SqlRecordingStore(database)
    await added(store, "AAPL")
    entry = make_entry("AAPL", fence=fence_of(await claim_one(store)))
    first = await door.record([entry])
    successor = await claim_one(store, NOW + LEASE)
    assert successor.recorded == {"AAPL"}
    stranger = make_entry("MSFT")
    written = await door.record([entry, stranger], again=True)
    assert written[0] == first[0]
    assert ids_of(written) == [["AAPL~1"], ["MSFT~1"]]
    assert await count(database, prices) == 2


async def test_the_door_tells_the_fenced_out_and_records_the_others(database: Database) -> None:
    store = SqlJobs(database)
    await added(store, "AAPL")
    frozen = fence_of(await claim_one(store))
    await claim_one(store, NOW + LEASE)
    door = Door(
        LosesOneAnswer(database),
        encode=encode_price_event,
        shard_of=len,
        clock=lambda: RECORDED_AT,
        committed=lambda _: None,
    )
    running = asyncio.create_task(door.run())
    outcomes = await asyncio.gather(
        door.record(make_fetched("AAPL")),
        door.record(make_fetched("AAPL"), frozen),
        door.record(make_fetched("MSFT")),
        return_exceptions=True,
    )
    door.close()
    await running
    assert isinstance(outcomes[1], PollOvertaken)
    ids = [str(one[0].event_id) for one in outcomes if not isinstance(one, BaseException)]
    assert ids == ["AAPL~1", "MSFT~1"]
    assert door.recorded == 2
    counts = [await count(database, table) for table in (raw_responses, prices, polls)]
    assert counts == [3, 2, 0]


class LosesOneAnswer(SqlRecordingStore):
    """The first commit succeeds, and nobody hears of it."""

    lost = False

    async def record(self, group: Sequence[Entry], *, again: bool = False) -> list[Written]:
        written = await super().record(group, again=again)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("connection lost during COMMIT")
        return written


@on_postgres
async def test_fences_claims_and_renewals_of_many_processes_never_wait_in_a_circle(
    database: Database, database_url: str
) -> None:
    shuffled = random.Random(11)
    names = ["AAPL", "MSFT", "IBM", "GOOG"]
    async with opened(database_url) as second:
        stores = [SqlJobs(one) for one in (database, second)]
        for _ in range(4):
            await added(stores[0], *names)
        claims = await stores[0].claim(NOW, LEASE, 9)

        async def write(door: SqlRecordingStore, symbol: str) -> list[Written]:
            some = shuffled.sample(claims, len(claims))
            return await door.record([make_entry(symbol, fence=fence_of(one)) for one in some])

        async def renew(store: SqlJobs) -> set[UUID]:
            held = [claim.job for claim in shuffled.sample(claims, len(claims))]
            return await store.renew(held, NOW + LEASE)

        doors = [SqlRecordingStore(one) for one in (database, second)]
        renewing = asyncio.gather(*(renew(store) for store in stores * 6))
        written = await asyncio.gather(*(write(door, name) for name in names for door in doors))
        renewed = await renewing
    assert all(found == {claim.job.id for claim in claims} for found in renewed)
    flags = [flag for some in written for flag in overtaken(some)]
    assert flags.count(False) == flags.count(True) == len(names) * len(claims)
    assert await count(database, prices) == await count(database, polls) == 16


def service_of(store: SqlJobs, budget: Budget | None = None) -> Jobs:
    provider = Plannable("vendor", budget or Budget(), 1, credit_per_symbol=False)
    return Jobs(
        store,
        providers={"vendor": provider},
        default="vendor",
        clock=lambda: NOW,
        changed=lambda: None,
    )


async def test_of_many_that_are_made_at_once_only_as_many_are_as_the_plan_holds(
    database: Database,
) -> None:
    service = service_of(SqlJobs(database), parse_budget("3/minute"))
    config = JobConfig(symbols=("AAPL",), interval=60)
    outcomes = await asyncio.gather(
        *(service.create(config) for _ in range(8)), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, PlanExceeded)]
    made = [one for one in outcomes if isinstance(one, Job)]
    assert (len(made), len(refused)) == (3, 5)
    assert len(await service.all()) == 3

    # A paused one counts for nothing, and has to fit when it is resumed.
    await service.pause(made[0].id)
    fourth = await service.create(config)
    with pytest.raises(PlanExceeded):
        await service.resume(made[0].id)
    await service.delete(fourth.id)
    assert (await service.resume(made[0].id)).status is JobStatus.ACTIVE
    with pytest.raises(PlanExceeded):
        await service.change(made[0].id, {"interval": 59})
    assert (await service.get(made[0].id)).config.interval == 60
    with pytest.raises(NotFound):
        await service.get(fourth.id)


async def test_a_job_that_may_be_stretched_is(database: Database) -> None:
    service = service_of(SqlJobs(database), parse_budget("1/second,25/day"))
    config = JobConfig(symbols=("A", "B", "C", "D"), interval=60, stretch=True)
    assert (await service.create(config)).config.interval == 13_824
    with pytest.raises(PlanExceeded, match="leave no room"):
        await service.create(config)


async def test_a_lost_job_is_not_polled(database: Database) -> None:
    store = SqlJobs(database)
    job = await added(store)
    await execute(database, update(jobs).values(status=JobStatus.PAUSED.value))
    assert await store.next_run() is None
    assert await store.claim(NOW, LEASE, 9) == []
    assert await store.delete(job.id)
    assert not await store.delete(job.id)
