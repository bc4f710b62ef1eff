"""Streaming jobs in both databases: kept beside polling ones, within what a vendor takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.job import JobStatus
from pricewire.domain.stream_job import StreamConfig, StreamJob, Want, wanted
from pricewire.errors import FeedFull, InvalidParameter, InvalidSymbol, NotFound
from pricewire.services.jobs import Jobs
from pricewire.services.stream_jobs import Streamable, StreamJobs
from pricewire.storage.database import Database
from pricewire.storage.jobs import SqlJobs
from pricewire.storage.stream_jobs import SqlStreamJobs

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def streams(database: Database, changed: Callable[[], None] = lambda: None) -> StreamJobs:
    feeds = [
        Streamable("acme", 3, lambda symbol: symbol != "NOPE"),
        Streamable("wide", None, lambda _: True),
        Streamable("keyed", None, lambda _: True, ("KEYED_API_KEY",)),
    ]
    return StreamJobs(
        SqlStreamJobs(database),
        feeds={feed.name: feed for feed in feeds},
        clock=Clock(),
        changed=changed,
    )


def config(*symbols: str, provider: str = "acme", conflate: int | None = None) -> StreamConfig:
    return StreamConfig(symbols=symbols, provider=provider, conflate=conflate)


async def test_a_job_is_kept_changed_paused_resumed_and_forgotten(database: Database) -> None:
    told: list[None] = []
    jobs = streams(database, lambda: told.append(None))
    made = await jobs.create(config("A", "B", conflate=250))
    assert await jobs.find(made.id) == made
    assert made.since == made.created_at
    changed = await jobs.change(made.id, {"conflate": None})
    assert (changed.config.conflate, changed.since) == (None, made.since)
    moved = await jobs.change(made.id, {"symbols": ("C",)})
    assert moved.since > made.since
    paused = await jobs.pause(made.id)
    assert (paused.status, wanted(await jobs.all())) == (JobStatus.PAUSED, {})
    resumed = await jobs.resume(made.id)
    assert resumed.since > moved.since
    assert await jobs.resume(made.id) == resumed
    assert wanted(await jobs.all()) == {"acme": {"C": Want(0, resumed.since)}}
    await jobs.delete(made.id)
    assert await jobs.find(made.id) is None
    for work in (jobs.pause(made.id), jobs.resume(made.id), jobs.delete(made.id)):
        with pytest.raises(NotFound):
            await work
    assert len(told) == 7


async def test_no_more_symbols_than_the_vendor_takes(database: Database) -> None:
    jobs = streams(database)
    first = await jobs.create(config("A", "B"))
    second = await jobs.create(config("B", "C"))
    with pytest.raises(FeedFull, match="takes 3 symbols on its connection, and with this job 4"):
        await jobs.create(config("D"))
    with pytest.raises(FeedFull):
        await jobs.change(second.id, {"symbols": ("C", "D")})
    await jobs.pause(first.id)
    await jobs.create(config("D"))
    with pytest.raises(FeedFull):
        await jobs.resume(first.id)
    assert [job.config.symbols for job in await jobs.all()] == [("A", "B"), ("B", "C"), ("D",)]
    await jobs.create(config(*(f"S{number}" for number in range(100)), provider="wide"))


async def test_two_at_once_never_count_on_the_same_room(database: Database) -> None:
    jobs = streams(database)
    made = await asyncio.gather(
        *(jobs.create(config(f"S{number}")) for number in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, StreamJob) for one in made) == 3
    assert sum(isinstance(one, FeedFull) for one in made) == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda: config("A", provider="nobody"), "no feed of 'nobody'; of acme, keyed, wide"),
        (lambda: config("A", provider="keyed"), "needs KEYED_API_KEY"),
        (lambda: config("NOPE"), "has no symbols such as NOPE"),
    ],
)
async def test_what_no_feed_can_have_is_refused(
    database: Database, given: Callable[[], StreamConfig], told: str
) -> None:
    jobs = streams(database)
    with pytest.raises(InvalidParameter, match=told):
        await jobs.create(given())
    assert await jobs.all() == []


def test_what_is_no_job_is_refused() -> None:
    for wrong in ((), ("A", "A"), tuple(f"S{number}" for number in range(501))):
        with pytest.raises(InvalidParameter):
            config(*wrong)
    with pytest.raises(InvalidSymbol):
        config("A B")
    for milliseconds in (0, 9, 3_600_001, -1):
        with pytest.raises(InvalidParameter):
            config("A", conflate=milliseconds)


async def test_polling_knows_nothing_of_streaming_jobs_and_the_other_way_round(
    database: Database,
) -> None:
    made = await streams(database).create(config("A"))
    polls = SqlJobs(database)
    assert await polls.next_run() is None
    assert await polls.claim(START + timedelta(days=1), timedelta(seconds=30), 10) == []
    assert await polls.all() == []
    assert await polls.get(made.id) is None
    jobs = Jobs(polls, providers={}, default="acme", clock=Clock(), changed=lambda: None)
    with pytest.raises(NotFound):
        await jobs.pause(made.id)
    assert not await polls.delete(made.id)
    assert await streams(database).find(made.id) == made


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("ABC"), min_size=1),
            st.sampled_from([None, 10, 500]),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_a_symbol_is_conflated_only_as_far_as_all_its_active_jobs_want_it(
    given: list[tuple[set[str], int | None, bool]],
) -> None:
    jobs = [
        StreamJob(
            id=uuid4(),
            config=config(*sorted(symbols), conflate=conflate),
            status=JobStatus.ACTIVE if active else JobStatus.PAUSED,
            created_at=START,
            since=START + timedelta(seconds=turn),
        )
        for turn, (symbols, conflate, active) in enumerate(given)
    ]
    found = wanted(jobs).get("acme", {})
    active = [job for job in jobs if job.active]
    assert set(found) == {symbol for job in active for symbol in job.config.symbols}
    for symbol, want in found.items():
        mine = [job for job in active if symbol in job.config.symbols]
        assert want.conflate == min(job.config.conflate or 0 for job in mine)
        assert want.since == min(job.since for job in mine)
