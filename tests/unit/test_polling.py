"""The polling loop in virtual time: few calls, waits that providers ask for, market hours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from pricewire.domain.job import Job, JobConfig, JobStatus, claimed, is_due, started
from pricewire.domain.session import Session
from pricewire.errors import NotAPrice, StoreUnavailable, Throttle, Throttled, UnknownSymbol
from pricewire.services.jobs import Claim
from pricewire.services.kept_jobs import Change
from pricewire.services.polling import CALLS_AT_ONCE, LEASE, MAX_POLLS, Polling
from tests.fakes import in_virtual_time, until
from tests.vendor_fakes import KeepingStore, Market, Said, Vendor, market, now

GRACE = 5.0


class MemoryJobs:
    """Jobs in memory; fulfils `JobStore`. What polls recorded is what `store` has."""

    def __init__(self, store: KeepingStore) -> None:
        self._store = store
        self.jobs: dict[UUID, Job] = {}
        self.away = False

    def put(self, *symbols: str, interval: int = 60, market_hours: bool = False) -> UUID:
        job = Job(
            id=uuid7(),
            config=JobConfig(symbols=symbols, interval=interval, market_hours=market_hours),
            status=JobStatus.ACTIVE,
            epoch=0,
            next_due=now(),
            next_run=now(),
            created_at=now(),
        )
        self.jobs[job.id] = started(job, now())
        return job.id

    async def add(self, job: Job, change: Change[Job]) -> Job:
        raise NotImplementedError

    async def change(self, job_id: UUID, change: Change[Job]) -> Job | None:
        self.jobs[job_id] = change(self.jobs[job_id], [])
        return self.jobs[job_id]

    async def delete(self, job_id: UUID) -> bool:
        return self.jobs.pop(job_id, None) is not None

    async def get(self, job_id: UUID) -> Job | None:
        return self.jobs.get(job_id)

    async def all(self) -> list[Job]:
        return list(self.jobs.values())

    async def next_run(self) -> datetime | None:
        self._answer()
        free = [one for one in self.jobs.values() if one.leased_until is None]
        return min((one.next_run for one in free), default=None)

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Claim]:
        self._answer()
        due = [one for one in self.jobs.values() if is_due(one, now)][:limit]
        return [self._claimed(job, now, lease) for job in due]

    def _claimed(self, job: Job, now: datetime, lease: timedelta) -> Claim:
        taken = self.jobs[job.id] = claimed(job, now, lease)
        recorded = [
            symbol
            for job_id, due, symbol in self._store.polled
            if (job_id, due) == (job.id, taken.next_due)
        ]
        return Claim(taken, frozenset(recorded), taken.missed - job.missed)

    async def renew(self, jobs: Sequence[Job], until: datetime) -> set[UUID]:
        self._answer()
        ours = [one for one in jobs if self._is_ours(one)]
        for one in ours:
            self.jobs[one.id] = replace(self.jobs[one.id], leased_until=until)
        return {one.id for one in ours}

    async def finish(self, job: Job) -> bool:
        self._answer()
        if self._is_ours(job):
            self.jobs[job.id] = job
            return True
        return False

    def _is_ours(self, job: Job) -> bool:
        return job.id in self.jobs and self.jobs[job.id].epoch == job.epoch

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("no connection")


class Hours:
    """Which markets are closed, and when they open, as the test says; fulfils `Sessions`."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.opens: Mapping[str, datetime] = {}

    def session_at(self, symbol: str, provider: str, moment: datetime) -> Session:  # noqa: ARG002
        return self.sessions.get(symbol, Session.OPEN)

    def next_open(self, symbol: str, provider: str, moment: datetime) -> datetime | None:  # noqa: ARG002
        return self.opens.get(symbol)


class Loop:
    """A loop that polls, and what it polls with."""

    def __init__(self, made: Market) -> None:
        self.hours = Hours()
        self.jobs = MemoryJobs(made.store)
        self.polling = Polling(
            self.jobs, made.asking, sessions=self.hours, clock=now, grace_seconds=GRACE
        )

    def job(self, job_id: UUID) -> Job:
        return self.jobs.jobs[job_id]


@asynccontextmanager
async def polling(made: Market) -> AsyncIterator[Loop]:
    loop = Loop(made)
    run = asyncio.create_task(loop.polling.run())
    yield loop
    loop.polling.close()
    await asyncio.wait_for(run, GRACE + 1)


class Scripted(Vendor):
    """Says one thing after the other; when all is said, a price."""

    def __init__(self, *script: Said, batch: int = 1) -> None:
        super().__init__("vendor")
        self.script = list(script)
        self.batch = batch

    async def fetch_many(self, symbols: Sequence[str]) -> object:  # type: ignore[override]
        self.says = self.script.pop(0) if self.script else "USD"
        return await super().fetch_many(symbols)


def throttled(seconds: float) -> Throttled:
    return Throttled("enough for now", throttle=Throttle.MINUTE, retry_after=seconds)


SEVEN = tuple(f"S{number}" for number in range(7))


# Few calls.


@in_virtual_time
async def test_a_poll_makes_as_few_calls_as_its_provider_allows() -> None:
    vendor = Scripted(batch=3)
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put(*SEVEN)
        await asyncio.sleep(150)
        assert vendor.calls == [SEVEN[:3], SEVEN[3:6], SEVEN[6:]] * 3
        dues = {due for _, due, _ in made.store.polled}
        assert sorted(made.store.polled) == sorted((job_id, due, s) for due in dues for s in SEVEN)
        assert (len(dues), loop.job(job_id).made, loop.polling.status.made) == (3, 3, 3)


@in_virtual_time
async def test_where_a_call_names_one_symbol_a_few_are_made_at_once() -> None:
    vendor = Scripted()
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put(*SEVEN)
        await asyncio.sleep(30)
        assert (vendor.calls, vendor.most) == ([(one,) for one in SEVEN], CALLS_AT_ONCE)
        assert loop.job(job_id).made == 1


@in_virtual_time
async def test_of_a_batch_only_what_has_no_price_yet_is_asked_for_again() -> None:
    vendor = Scripted(batch=9)
    vendor.refuses = {"S3": throttled(10)}
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put(*SEVEN)
        await asyncio.sleep(5)
        told = loop.job(job_id).last_error
        assert told == "S3: rate_limited_minute: enough for now (no price of 1 of 7 symbols)"
        vendor.refuses = {}
        await asyncio.sleep(25)
        assert vendor.calls == [SEVEN, ("S3",)]
        assert (loop.job(job_id).made, loop.job(job_id).last_error) == (1, None)


@in_virtual_time
async def test_where_each_symbol_costs_a_call_names_what_the_budget_has_left() -> None:
    vendor = Scripted(batch=50)
    vendor.credit_per_symbol = True
    async with market(vendor, vendor="5/minute") as made, polling(made) as loop:
        await made.latest("A"), await made.latest("B")
        job_id = loop.jobs.put(*SEVEN, interval=600)
        await asyncio.sleep(5)
        assert vendor.calls[2:] == [SEVEN[:3]]
        assert (loop.job(job_id).made, loop.job(job_id).tries) == (0, 1)
        # The rest is for the same due time, once the minute is over.
        await asyncio.sleep(60)
        assert vendor.calls[2:] == [SEVEN[:3], SEVEN[3:]]
        assert len({due for _, due, _ in made.store.polled}) == 1
        assert loop.job(job_id).made == 1


# Waits.


@pytest.mark.parametrize("cools_off", [True, False])
@in_virtual_time
async def test_who_throttles_is_left_alone_for_as_long_as_he_says(cools_off: bool) -> None:
    """Also where there is no budget, so that nothing but the loop keeps from asking."""
    vendor = Scripted("USD", throttled(100), batch=3)
    vendor.cools_off = cools_off
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put(*SEVEN, interval=600)
        await asyncio.sleep(5)
        # The rest of the poll is not begun: it would be refused as well.
        assert vendor.calls == [SEVEN[:3], SEVEN[3:6]]
        wait = (loop.job(job_id).next_run - now()).total_seconds()
        assert 90 < wait < 100
        await asyncio.sleep(wait - 2)
        assert len(vendor.calls) == 2
        await asyncio.sleep(4)
        assert vendor.calls[2:] == [SEVEN[3:6], SEVEN[6:]]
        assert len({due for _, due, _ in made.store.polled}) == 1
        assert (loop.job(job_id).made, loop.job(job_id).failures) == (1, 0)


@in_virtual_time
async def test_a_used_up_budget_makes_no_call_and_the_latest_due_time_is_polled_after_it() -> None:
    vendor = Scripted()
    async with market(vendor, vendor="2/hour") as made, polling(made) as loop:
        job_id = loop.jobs.put("S0", interval=60)
        await asyncio.sleep(150)
        assert (len(vendor.calls), loop.job(job_id).made) == (2, 2)
        assert "rate_limited_hour" in (loop.job(job_id).last_error or "")
        began = loop.job(job_id).next_run
        await asyncio.sleep((began - now()).total_seconds() - 1)
        assert len(vendor.calls) == 2
        await asyncio.sleep(2)
        # What was missed meanwhile is made up by one.
        assert len(vendor.calls) == 3
        last = max(due for _, due, _ in made.store.polled)
        assert timedelta(0) <= began - last < timedelta(seconds=60)
        assert loop.polling.status.missed == loop.job(job_id).missed > 20


@in_virtual_time
async def test_one_failure_ends_neither_the_job_nor_the_others() -> None:
    vendor = Scripted()
    vendor.refuses = {"BAD": UnknownSymbol("no such symbol")}
    async with market(vendor) as made, polling(made) as loop:
        bad, good = loop.jobs.put("BAD"), loop.jobs.put("GOOD")
        await asyncio.sleep(190)
        assert (loop.job(good).made, loop.job(good).failures) == (4, 0)
        assert (loop.job(bad).made, loop.job(bad).failed, loop.job(bad).failures) == (0, 4, 4)
        assert "unknown_symbol" in (loop.job(bad).last_error or "")
        vendor.refuses = {}
        await asyncio.sleep(700)
        assert (loop.job(bad).last_error, loop.job(bad).failures) == (None, 0)


@in_virtual_time
async def test_a_database_that_is_away_is_waited_for_and_said() -> None:
    vendor = Scripted()
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put("S0", interval=10)
        await asyncio.sleep(5)
        loop.jobs.away = True
        await asyncio.sleep(60)
        assert loop.polling.status.last_error == "no connection"
        assert len(vendor.calls) == 1
        loop.jobs.away = False
        await asyncio.sleep(4)
        assert len(vendor.calls) == 2
        assert not loop.polling.status.last_error
        assert loop.job(job_id).missed == loop.polling.status.missed > 3


@in_virtual_time
async def test_a_job_that_is_made_is_polled_at_once_when_the_loop_is_told() -> None:
    vendor = Scripted()
    async with market(vendor) as made, polling(made) as loop:
        await asyncio.sleep(0.3)
        loop.jobs.put("S0")
        loop.polling.look()
        await until(lambda: vendor.calls, 0.1)


@in_virtual_time
async def test_no_more_polls_than_so_many_run_at_once_and_all_have_their_turn() -> None:
    vendor = Scripted()
    vendor.seconds = 2
    async with market(vendor) as made, polling(made) as loop:
        ids = [loop.jobs.put(f"S{number}", interval=600) for number in range(3 * MAX_POLLS)]
        await asyncio.sleep(10)
        assert vendor.most == MAX_POLLS
        assert [loop.job(one).made for one in ids] == [1] * len(ids)


@in_virtual_time
async def test_a_call_that_takes_longer_than_the_lease_keeps_it() -> None:
    vendor = Scripted()
    vendor.seconds = 9
    async with market(vendor) as made, polling(made) as loop:
        # Two by two, by turns of four: five turns of nine seconds.
        job_id = loop.jobs.put(*(f"S{number}" for number in range(5 * CALLS_AT_ONCE)), interval=600)
        for _ in range(9):
            await asyncio.sleep(5)
            job = loop.job(job_id)
            assert job.leased_until is None or job.leased_until > now()
        assert LEASE.total_seconds() < 45
        await asyncio.sleep(5)
        assert (loop.job(job_id).made, loop.job(job_id).epoch, len(vendor.calls)) == (1, 2, 20)


@in_virtual_time
async def test_closing_gives_back_what_does_not_end_in_time() -> None:
    slow, quick = Scripted(None), Scripted()
    for vendor, made_polls in ((quick, 1), (slow, 0)):
        async with market(vendor) as made:
            async with polling(made) as loop:
                job_id = loop.jobs.put("S0")
                await until(lambda: vendor.running)  # noqa: B023
            job = loop.job(job_id)
            # Whoever looks next may poll it, with the same due time where it was given back.
            assert job.leased_until is None
            assert (job.made, job.next_run <= now()) == (made_polls, not made_polls)


# Market hours.


@in_virtual_time
async def test_a_symbol_whose_market_is_closed_is_left_out() -> None:
    vendor = Scripted(batch=9)
    async with market(vendor) as made, polling(made) as loop:
        loop.hours.sessions = {
            "OPEN": Session.OPEN,
            "HALF": Session.EARLY_CLOSE,
            "SHUT": Session.CLOSED,
            "WHO": Session.UNKNOWN,
        }
        names = ("SHUT", "OPEN", "HALF", "WHO")
        job_id = loop.jobs.put(*names, market_hours=True)
        await asyncio.sleep(5)
        assert vendor.calls == [("OPEN", "HALF", "WHO")]
        assert (loop.job(job_id).made, loop.job(job_id).last_error) == (1, None)
        # Without the option nobody's hours matter.
        loop.jobs.put(*names)
        await asyncio.sleep(5)
        assert vendor.calls[1:] == [names]


@in_virtual_time
async def test_while_all_markets_are_closed_the_job_sleeps_until_the_first_opens() -> None:
    vendor = Scripted(batch=9)
    async with market(vendor) as made, polling(made) as loop:
        loop.hours.sessions = dict.fromkeys(("A", "B"), Session.CLOSED)
        opens = now() + timedelta(hours=3, seconds=7)
        loop.hours.opens = {"A": opens + timedelta(hours=1), "B": opens}
        job_id = loop.jobs.put("A", "B", market_hours=True)
        begin = loop.job(job_id).next_due
        await asyncio.sleep(5)
        job = loop.job(job_id)
        assert opens <= job.next_due < opens + timedelta(seconds=60)
        assert (job.next_due - begin) % timedelta(seconds=60) == timedelta(0)
        assert (job.made, job.failed, job.missed) == (0, 0, 0)
        await asyncio.sleep(3 * 3_600 - 10)
        assert vendor.calls == []
        loop.hours.sessions["B"] = Session.OPEN
        await asyncio.sleep(75)
        assert vendor.calls == [("B",)]
        assert loop.job(job_id).missed == 0


@in_virtual_time
async def test_where_a_market_does_not_say_when_it_opens_each_due_time_looks_again() -> None:
    vendor = Scripted(batch=9)
    async with market(vendor) as made, polling(made) as loop:
        loop.hours.sessions = dict.fromkeys(("A", "B"), Session.CLOSED)
        loop.hours.opens = {"A": now() + timedelta(days=2)}
        loop.jobs.put("A", "B", market_hours=True)
        await asyncio.sleep(125)
        loop.hours.sessions["B"] = Session.OPEN
        await asyncio.sleep(60)
        assert vendor.calls == [("B",)]


@in_virtual_time
async def test_what_is_asked_for_again_is_recorded_though_its_market_has_closed_meanwhile() -> None:
    """The due time came while it was open: a job of one price is done, not put off."""
    vendor = Scripted(batch=9)
    vendor.refuses = {"B": throttled(20)}
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put("A", "B", market_hours=True, interval=600)
        await asyncio.sleep(5)
        vendor.refuses = {}
        loop.hours.sessions = dict.fromkeys(("A", "B"), Session.CLOSED)
        await asyncio.sleep(30)
        # B is left out by now, and nothing lacks of what is open.
        assert vendor.calls == [("A", "B")]
        assert (loop.job(job_id).made, loop.job(job_id).tries) == (1, 0)


@in_virtual_time
async def test_an_answer_without_a_price_is_told_and_the_raw_answer_kept() -> None:
    vendor = Scripted(NotAPrice("<html>"))
    async with market(vendor) as made, polling(made) as loop:
        job_id = loop.jobs.put("S0")
        await asyncio.sleep(5)
        assert "not_a_price" in (loop.job(job_id).last_error or "")
        assert len(made.store.raws) == 1
        assert loop.polling.status.failed == 1
