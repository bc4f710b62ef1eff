"""A job's due times: none twice, what was missed is made up by one, failures wait and never end."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.job import (
    LONGEST_BACKOFF,
    MAX_INTERVAL,
    MAX_SYMBOLS,
    MAX_TRIES,
    Failure,
    Job,
    JobConfig,
    JobStatus,
    after_failure,
    backoff,
    claimed,
    completed,
    is_due,
    paused,
    spread,
    started,
    until_open,
)
from pricewire.errors import InvalidRequest

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
ID = UUID("01a208e5-dfe5-72bc-a42a-366b5fff1f57")


def make_config(**changes: Any) -> JobConfig:
    given: dict[str, Any] = {"symbols": ("AAPL",), "interval": 60}
    return JobConfig(**given | changes)


def make_job(**config: Any) -> Job:
    job = Job(
        id=ID,
        config=make_config(**config),
        status=JobStatus.ACTIVE,
        epoch=0,
        next_due=NOW,
        next_run=NOW,
        created_at=NOW,
    )
    return started(job, NOW)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"interval": -1},
        {"interval": MAX_INTERVAL + 1},
        {"interval": 10**5000},
        {"symbols": ()},
        {"symbols": ("AAPL", "AAPL")},
        {"symbols": tuple(f"S{n}" for n in range(MAX_SYMBOLS + 1))},
        {"symbols": ("A" * 1_000_000,)},
        {"symbols": ("\ud800",)},
        {"symbols": ("A~B",)},
        {"jitter": -1},
        {"jitter": 61},
    ],
)
def test_what_is_no_job_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        make_config(**wrong)
    assert len(refused.value.detail) < 300
    assert "\n" not in refused.value.detail


def test_it_is_polled_at_once_and_then_at_its_interval() -> None:
    job = make_job()
    for turn in range(3):
        assert not is_due(job, at(60 * turn - 1))
        assert is_due(job, at(60 * turn))
        job = completed(claimed(job, at(60 * turn), LEASE))
        assert job.next_run == at(60 * turn + 60)
    assert (job.made, job.missed, job.failed, job.failures) == (3, 0, 0, 0)


@given(st.integers(1, 3600), st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
def test_whatever_happens_each_due_time_is_made_missed_or_given_up_once(
    interval: int, gaps: list[int]
) -> None:
    """The counts add up to the due times that came, and the dues that are polled only rise."""
    job, now, dues = make_job(interval=interval), NOW, []
    for number, gap in enumerate(gaps):
        now += timedelta(seconds=gap)
        if not is_due(job, now):
            continue
        job = claimed(job, now, LEASE)
        assert 0 <= (now - job.next_due).total_seconds() < interval or job.tries > 1
        dues.append((job.next_due, job.tries))
        if number % 3 == 1:
            wait = timedelta(seconds=gap % 100) if number % 2 else None
            job = after_failure(job, now, Failure("no", wait, retryable=True))
        else:
            job = completed(job)
    first_tries = [due for due, tries in dues if tries == 1]
    assert first_tries == sorted(set(first_tries))
    assert all((due - NOW).total_seconds() % interval == 0 for due, _ in dues)
    came = (job.next_due - NOW) // job.interval
    assert job.made + job.failed + job.missed == came


def test_after_a_downtime_one_poll_makes_up_for_all() -> None:
    job = claimed(make_job(), at(605), LEASE)
    assert (job.next_due, job.missed) == (at(600), 10)
    assert completed(job).next_run == at(660)


def test_a_frozen_owner_is_succeeded_at_the_same_due_time_under_another_epoch() -> None:
    first = claimed(make_job(), at(0), LEASE)
    assert not is_due(first, at(29))
    assert is_due(first, at(30))
    second = claimed(first, at(30), LEASE)
    assert (second.next_due, second.epoch, second.missed) == (at(0), first.epoch + 1, 0)


def test_a_failure_is_tried_again_a_few_times_ever_later_but_before_the_next_due_time() -> None:
    job, now, tried = make_job(interval=3600), NOW, []
    while job.next_due == NOW:
        tried.append((now - NOW).total_seconds())
        job = after_failure(claimed(job, now, LEASE), now, Failure("down", retryable=True))
        now = job.next_run
    assert tried == [0, 225, 675, 1575]
    assert len(tried) == MAX_TRIES
    assert (job.next_run, job.failed, job.failures) == (at(3600), 1, 4)
    assert job.last_error == "down"
    done = completed(claimed(job, now, LEASE))
    assert (done.failures, done.last_error, done.failed) == (0, None, 1)


def test_what_waiting_does_not_help_is_not_tried_again_before_the_next_due_time() -> None:
    job = after_failure(claimed(make_job(interval=3600), NOW, LEASE), NOW, Failure("bad key"))
    assert (job.next_run, job.failed) == (at(3600), 1)


def test_a_throttled_poll_waits_as_it_is_told_and_goes_on_where_it_was() -> None:
    job = claimed(make_job(interval=3600), NOW, LEASE)
    waits = after_failure(job, NOW, Failure("enough", timedelta(seconds=50), retryable=True))
    assert (waits.next_run, waits.next_due, waits.failed) == (at(50), at(0), 0)
    day = after_failure(job, NOW, Failure("enough", timedelta(hours=12), retryable=True))
    later = claimed(day, day.next_run, LEASE)
    assert (later.next_due, later.failed, later.missed) == (at(12 * 3600), 1, 11)


@given(st.integers(1, 100), st.integers(1, MAX_INTERVAL))
def test_backoff_is_bounded(tries: int, interval: int) -> None:
    wait = backoff(min(tries, MAX_TRIES), timedelta(seconds=interval))
    assert timedelta(seconds=5) <= wait <= LONGEST_BACKOFF


@given(st.uuids(), st.integers(0, MAX_INTERVAL))
def test_jitter_is_the_jobs_own_and_below_what_was_asked(job_id: UUID, jitter: int) -> None:
    own = spread(job_id, jitter)
    assert own == spread(job_id, jitter)
    assert timedelta(0) <= own < timedelta(seconds=jitter) or (jitter == 0 and not own)


def test_jitter_spreads() -> None:
    ids = [UUID(int=number) for number in range(1000)]
    seconds = sorted(spread(one, 100).total_seconds() for one in ids)
    assert seconds[0] < 2
    assert seconds[-1] > 98
    assert 45 < seconds[500] < 55


def test_whoever_polls_it_is_fenced_out_by_pause_and_a_new_beginning() -> None:
    job = claimed(make_job(jitter=30), NOW, LEASE)
    stopped = paused(job)
    assert stopped.epoch == job.epoch + 1
    assert not is_due(stopped, at(10_000))
    again = started(stopped, at(100))
    assert again.epoch == stopped.epoch + 1
    assert at(100) <= again.next_due == again.next_run < at(130)


@given(st.integers(0, 100_000), st.integers(1, 5_000))
def test_a_closed_market_is_polled_at_the_first_due_time_after_it_opens(
    opens: int, interval: int
) -> None:
    job = claimed(make_job(interval=interval), NOW, LEASE)
    waits = until_open(job, NOW, at(opens))
    seconds = (waits.next_due - NOW).total_seconds()
    assert seconds == max(interval, math.ceil(opens / interval) * interval)
    assert (waits.missed, waits.failed, waits.made) == (0, 0, 0)
    unknown = until_open(job, NOW, None)
    assert unknown.next_due == at(interval)


def test_a_clock_that_goes_back_gives_no_due_time_again() -> None:
    job = completed(claimed(make_job(), NOW, LEASE))
    assert not is_due(job, at(-3600))
    forced = claimed(replace(job, next_run=at(-3600)), at(-3600), LEASE)
    assert forced.next_due == at(60)
