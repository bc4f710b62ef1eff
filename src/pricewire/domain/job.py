"""Polling jobs: what is polled, how often, and when next; pure decisions over given times.

`services.jobs` keeps jobs, `services.polling` polls them. A job's due times are its first one and
every `interval` seconds after it. Invariant: whatever happened, the next poll is for the latest due
time that has come: what was missed is made up by one poll, and no due time comes twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter

MAX_SYMBOLS = 500
MAX_INTERVAL = 31 * 86_400
"""A month: whoever wants a price less often asks for it."""
MAX_TRIES = 4
"""For one due time; each is a call of the budget."""
SHORTEST_BACKOFF = timedelta(seconds=5)
LONGEST_BACKOFF = timedelta(minutes=15)


class JobStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """What a caller asks for.

    Args:
        interval: seconds.
        provider: only this one; None: the default one and then the fallbacks.
        market_hours: a symbol whose market is closed is left out.
        jitter: the job begins up to so many seconds later, by its id, so that jobs which were
            made together do not poll together.
        stretch: where the plan cannot hold the interval, a longer one will do.

    Raises:
        InvalidParameter, InvalidSymbol: says what would be right.
    """

    symbols: tuple[str, ...]
    interval: int
    provider: str | None = None
    market_hours: bool = False
    jitter: int = 0
    stretch: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.interval <= MAX_INTERVAL:
            raise InvalidParameter(
                f"interval={_short(self.interval)} is no whole number of seconds from 1 to "
                f"{MAX_INTERVAL}"
            )
        if not 0 <= self.jitter <= self.interval:
            raise InvalidParameter(
                f"jitter={_short(self.jitter)} is no whole number of seconds from 0 to the "
                f"interval, {self.interval}"
            )
        check_symbols(self.symbols)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is kept.

    Args:
        epoch: raised by whoever polls it or changes it; who has an older one records nothing.
        next_due: the due time that is to be polled next.
        next_run: when that is to be tried.
        leased_until: until when somebody polls it; None: nobody does.
        tries: of `next_due` so far.
        failures: polls and tries in a row that did not give every price.
        made: polls that gave every price.
        failed: due times that were tried and given up.
        missed: due times that came and went without a try.
        last_poll: when a poll began last.
    """

    id: UUID
    config: JobConfig
    status: JobStatus
    epoch: int
    next_due: datetime
    next_run: datetime
    created_at: datetime
    leased_until: datetime | None = None
    tries: int = 0
    failures: int = 0
    made: int = 0
    failed: int = 0
    missed: int = 0
    last_poll: datetime | None = None
    last_error: str | None = None

    @property
    def interval(self) -> timedelta:
        return timedelta(seconds=self.config.interval)


@dataclass(frozen=True, slots=True)
class Failure:
    """What kept a poll from giving every price.

    Args:
        wait: for how long a provider that throttled wants to be left alone; None where it did not.
        retryable: the same call may succeed soon.
    """

    text: str
    wait: timedelta | None = None
    retryable: bool = False


def check_symbols(symbols: Sequence[str]) -> None:
    """Refuse what no job can have as its symbols.

    Raises:
        InvalidParameter, InvalidSymbol: says what would be right.
    """
    if not 1 <= len(symbols) <= MAX_SYMBOLS:
        raise InvalidParameter(f"symbols names {len(symbols)}; a job has 1 to {MAX_SYMBOLS}")
    for symbol in symbols:
        parse_symbol(symbol)
    [(symbol, times)] = Counter(symbols).most_common(1)
    if times > 1:
        raise InvalidParameter(f"symbols names {symbol} {times} times; once is enough")


def started(job: Job, now: datetime) -> Job:
    """Return the job with its due times beginning now; whoever polls it is fenced out."""
    begin = now + spread(job.id, job.config.jitter)
    return replace(
        job,
        status=JobStatus.ACTIVE,
        epoch=job.epoch + 1,
        next_due=begin,
        next_run=begin,
        leased_until=None,
        tries=0,
    )


def paused(job: Job) -> Job:
    """Return the job as nobody polls it; whoever does is fenced out."""
    return replace(job, status=JobStatus.PAUSED, epoch=job.epoch + 1, leased_until=None, tries=0)


def spread(job_id: UUID, jitter: int) -> timedelta:
    """Return the job's own part of `jitter` seconds."""
    digest = int.from_bytes(hashlib.sha256(job_id.bytes).digest()[:6], "big")
    return timedelta(microseconds=digest * jitter * 1_000_000 // 2**48)


def is_due(job: Job, now: datetime) -> bool:
    """Tell whether somebody should poll the job."""
    free = job.leased_until is None or job.leased_until <= now
    return job.status is JobStatus.ACTIVE and free and job.next_run <= now


def claimed(job: Job, now: datetime, lease: timedelta) -> Job:
    """Return the job as the one has it who polls it from now on, at `next_due`."""
    passed = max(0, (now - job.next_due) // job.interval)
    given_up = passed > 0 and job.tries > 0
    return replace(
        job,
        epoch=job.epoch + 1,
        next_due=job.next_due + passed * job.interval,
        leased_until=now + lease,
        tries=1 if passed else job.tries + 1,
        failed=job.failed + given_up,
        missed=job.missed + passed - given_up,
        last_poll=now,
    )


def completed(job: Job) -> Job:
    """Return the job after a poll that gave every price."""
    made = replace(job, made=job.made + 1, failures=0, last_error=None)
    return _moved_on(made, job.next_due + job.interval)


def after_failure(job: Job, now: datetime, failure: Failure) -> Job:
    """Return the job after a poll that did not give every price.

    Where a provider throttles, the rest of the poll waits for as long as it says. What may succeed
    soon is tried again while there is time before the next due time, a few times, ever later.
    """
    told = replace(job, failures=job.failures + 1, last_error=failure.text)
    if failure.wait is not None:
        return replace(told, next_run=now + failure.wait, leased_until=None)
    again = now + backoff(job.tries, job.interval)
    if failure.retryable and job.tries < MAX_TRIES and again < job.next_due + job.interval:
        return replace(told, next_run=again, leased_until=None)
    return _moved_on(replace(told, failed=job.failed + 1), job.next_due + job.interval)


def until_open(job: Job, now: datetime, opens: datetime | None) -> Job:
    """Return the job after a due time at which all of its markets were closed.

    Args:
        opens: when the first of them opens; None where that is not known.
    """
    next_due = job.next_due + job.interval
    if opens is not None and opens > max(now, next_due):
        next_due += -((next_due - opens) // job.interval) * job.interval
    return _moved_on(job, next_due)


def backoff(tries: int, interval: timedelta) -> timedelta:
    """Return how long to wait after so many tries of one due time."""
    wait = interval * (1 << (tries - 1)) / 16
    return min(max(wait, SHORTEST_BACKOFF), LONGEST_BACKOFF)


def _moved_on(job: Job, next_due: datetime) -> Job:
    return replace(job, next_due=next_due, next_run=next_due, leased_until=None, tries=0)


def missing(config: JobConfig, recorded: Set[str]) -> tuple[str, ...]:
    """Return the symbols of which a due time has no price yet."""
    return tuple(symbol for symbol in config.symbols if symbol not in recorded)


def _short(number: int) -> str:
    """Return a number so that a line stays one; huge ones have no text in Python."""
    return str(number) if abs(number) < 10**18 else "(over 18 digits)"
