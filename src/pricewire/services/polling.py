"""Polls what is due: claims jobs, asks their provider, records by their fence, says when next.

The composition root runs one in every process that has an API; several share the jobs. What is due
and when next is decided by `domain.job`; this is the loop around it. Invariants: one failure never
ends a job or the loop; a price is recorded only while its claim holds (`recording.Fence`); what is
held when the loop ends is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from pricewire.domain.job import (
    Failure,
    Job,
    after_failure,
    completed,
    missing,
    until_open,
)
from pricewire.domain.session import Session
from pricewire.errors import (
    PollOvertaken,
    PricewireError,
    ProviderDown,
    ProviderError,
    StoreError,
    Throttled,
)
from pricewire.services.asking import Asking, Outcome, Wanted
from pricewire.services.jobs import Claim, JobStore
from pricewire.services.recording import Fence
from pricewire.services.sessions import Sessions

LEASE = timedelta(seconds=30)
"""For how long a claim holds without being renewed. A process that is frozen for longer has its
jobs taken over, and what it then brings is not recorded."""
RENEW_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""How often is looked for jobs that other processes made or left."""
LATE = timedelta(seconds=5)
MAX_POLLS = 16
"""At the same time in one process."""
CALLS_AT_ONCE = 4
"""Of one poll, where a call names one symbol."""

log = structlog.get_logger()


@dataclass(slots=True)
class PollingStatus:
    """What polling does in this process; health and metrics read it.

    Args:
        made: polls that gave every price.
        failed: tries that did not.
        late: polls that began over five seconds after they were due.
        missed: due times that came and went without a try, as found here.
        overtaken: polls whose prices came after somebody else had taken the job.
        running: polls under way.
        last_error: why jobs cannot be looked for; None while they can.
    """

    made: int = 0
    failed: int = 0
    late: int = 0
    missed: int = 0
    overtaken: int = 0
    running: int = 0
    last_error: str | None = None


class Polling:
    """See the module.

    Args:
        sessions: of markets, for jobs that keep to their hours.
        grace_seconds: how long polls under way may go on once `close` was called.
    """

    def __init__(
        self,
        store: JobStore,
        asking: Asking,
        *,
        sessions: Sessions,
        clock: Callable[[], datetime],
        grace_seconds: float,
    ) -> None:
        self._store = store
        self._asking = asking
        self._sessions = sessions
        self._clock = clock
        self._grace = grace_seconds
        self._held: dict[UUID, tuple[Job, asyncio.Task[None]]] = {}
        self._lost: set[tuple[UUID, int]] = set()
        """What is held and was taken over: the call under way may end, none is begun."""
        self._renewed = 0.0
        self._news = asyncio.Event()
        self._closed = False
        self.status = PollingStatus()

    def look(self) -> None:
        """Look for due jobs at once."""
        self._news.set()

    def close(self) -> None:
        """Begin no poll any more; `run` returns once those under way are done or given back."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Poll until `close`."""
        try:
            while not self._closed:
                self._news.clear()
                wait = await self._turn()
                await self._news_or(wait)
        finally:
            await self._let_go()

    async def _turn(self) -> float:
        """Begin what is due and keep what is held; return the seconds until there is more."""
        try:
            await self._renew()
            free = MAX_POLLS - len(self._held)
            next_run = await self._store.next_run()
            if next_run is not None and next_run <= self._clock() and free > 0:
                claims = await self._store.claim(self._clock(), LEASE, free)
                for claim in claims:
                    self._begin(claim)
                # Nothing to be had: somebody else is about to take it.
                next_run = await self._store.next_run() if claims else None
        except StoreError as error:
            self._say_away(error)
            return LOOK_SECONDS
        self._say_back()
        if next_run is None or len(self._held) >= MAX_POLLS:
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max(0.0, (next_run - self._clock()).total_seconds()))

    async def _news_or(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.005, seconds)):
                await self._news.wait()

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._held or now - self._renewed < RENEW_SECONDS:
            return
        self._renewed = now
        jobs = [job for job, _ in self._held.values()]
        ours = await self._store.renew(jobs, self._clock() + LEASE)
        self._lost.update((job.id, job.epoch) for job in jobs if job.id not in ours)

    def _begin(self, claim: Claim) -> None:
        job = claim.job
        if not self._held:
            self._renewed = asyncio.get_running_loop().time()
        if job.last_poll is not None and job.tries == 1 and job.last_poll - job.next_due > LATE:
            self.status.late += 1
        self.status.missed += claim.missed
        before = self._held.get(job.id)
        if before is not None:
            # It was held so long that it was taken anew: by epoch the older one records nothing.
            before[1].cancel()
        task = asyncio.create_task(self._poll(claim))
        self._held[job.id] = (job, task)
        task.add_done_callback(lambda done: self._ended(job, done))
        self.status.running = len(self._held)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        held = self._held.get(job.id)
        if held is not None and held[1] is task:
            del self._held[job.id]
        self._lost.discard((job.id, job.epoch))
        self.status.running = len(self._held)
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("poll.crashed", job=str(job.id), exc_info=error)

    async def _poll(self, claim: Claim) -> None:
        job = claim.job
        try:
            after = await self._after(claim)
        except PollOvertaken as error:
            self.status.overtaken += 1
            log.info("poll.overtaken", job=str(job.id), due=str(job.next_due), why=error.detail)
            return
        except PricewireError as error:
            text = f"{error.code}: {error.detail}"
            after = self._failed(job, Failure(text, retryable=error.retryable))
        await self._finish(after)

    async def _after(self, claim: Claim) -> Job:
        """Poll; return the job as it is then."""
        job = claim.job
        wanted = self._asking.wanted(job.config.provider, None)
        symbols = missing(job.config, claim.recorded)
        if job.config.market_hours:
            open_now = self._open(symbols, wanted.names[0])
            if not open_now and not claim.recorded:
                return until_open(job, self._clock(), self._opens(symbols, wanted.names[0]))
            symbols = open_now
        outcomes = await self._ask(job, symbols, wanted)
        failure = failure_of(symbols, outcomes)
        if failure is None:
            self.status.made += 1
            return completed(job)
        return self._failed(job, failure)

    def _failed(self, job: Job, failure: Failure) -> Job:
        self.status.failed += 1
        log.info("poll.failed", job=str(job.id), due=str(job.next_due), error=failure.text)
        return after_failure(job, self._clock(), failure)

    async def _ask(self, job: Job, symbols: Sequence[str], wanted: Wanted) -> dict[str, Outcome]:
        """Ask for the symbols by as few calls as there can be.

        Once nobody is to be asked for a while, the rest is left for later.
        """
        fence = Fence(job.id, job.epoch, job.next_due)
        outcomes: dict[str, Outcome] = {}
        left = tuple(symbols)
        while left and not _stopped(outcomes):
            if (job.id, job.epoch) in self._lost:
                raise PollOvertaken(f"the job {job.id} was taken over")
            size = await wanted.sources[0].room()
            parts = [left[:size]] if size > 1 else [(one,) for one in left[:CALLS_AT_ONCE]]
            left = left[sum(map(len, parts)) :]
            for told in await _all(self._asking.poll(part, wanted, fence) for part in parts):
                outcomes |= told
        return outcomes

    def _open(self, symbols: Sequence[str], provider: str) -> tuple[str, ...]:
        now = self._clock()
        return tuple(
            symbol
            for symbol in symbols
            if self._sessions.session_at(symbol, provider, now) is not Session.CLOSED
        )

    def _opens(self, symbols: Sequence[str], provider: str) -> datetime | None:
        """Return when the first market opens; None where one does not say."""
        now = self._clock()
        found = [self._sessions.next_open(symbol, provider, now) for symbol in symbols]
        known = [one for one in found if one is not None]
        return min(known) if known and len(known) == len(found) else None

    async def _finish(self, job: Job) -> None:
        try:
            await self._store.finish(job)
        except StoreError as error:
            # Its lease ends by itself, and then its prices are found to be recorded.
            log.warning("poll.not_finished", job=str(job.id), error=error.detail)

    async def _let_go(self) -> None:
        """Wait for polls under way, a while; give back those that do not end."""
        tasks = [task for _, task in self._held.values()]
        if not tasks:
            return
        held = {task: job for job, task in self._held.values()}
        _, slow = await asyncio.wait(tasks, timeout=self._grace)
        for task in slow:
            task.cancel()
        if slow:
            await asyncio.wait(slow)
        for task in slow:
            job = held[task]
            await self._finish(replace(job, next_run=self._clock(), leased_until=None))

    def _say_away(self, error: StoreError) -> None:
        if self.status.last_error is None:
            log.warning("polling.interrupted", error=error.detail)
        self.status.last_error = error.detail

    def _say_back(self) -> None:
        if self.status.last_error is not None:
            log.warning("polling.resumed")
        self.status.last_error = None


def failure_of(symbols: Sequence[str], outcomes: Mapping[str, Outcome]) -> Failure | None:
    """Return what kept a poll from giving the prices of all symbols; None: nothing did."""
    errors = {name: one for name, one in outcomes.items() if isinstance(one, ProviderError)}
    if not errors:
        return None
    symbol, error = next(iter(errors.items()))
    lacking = len(errors) + len(symbols) - len(outcomes)
    more = f" (no price of {lacking} of {len(symbols)} symbols)" if len(symbols) > 1 else ""
    waits = [one.retry_after or 1 for one in errors.values() if isinstance(one, Throttled)]
    return Failure(
        f"{symbol}: {error.code}: {error.detail}{more}",
        timedelta(seconds=max(waits)) if waits else None,
        any(one.retryable for one in errors.values()),
    )


def _stopped(outcomes: Mapping[str, Outcome]) -> bool:
    """Tell whether asking on is of no use for now."""
    return any(isinstance(one, Throttled | ProviderDown) for one in outcomes.values())


async def _all(work: Iterable[Coroutine[Any, Any, dict[str, Outcome]]]) -> list[dict[str, Outcome]]:
    """Await all; none goes on once one has failed."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
