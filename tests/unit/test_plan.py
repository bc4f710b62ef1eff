"""The planner against a simulation that counts with the budgets' own code, window by window."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pricewire.domain.budget import Counters, Exhausted, parse_budget
from pricewire.domain.plan import Load, calls_of, plan, told

NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2024, 3, 20, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Begun:
    """A job and how many seconds after the simulation it begins."""

    load: Load
    after: int


def simulated(
    budget_text: str, jobs: Sequence[Begun], start: datetime, seconds: int, zone: ZoneInfo | None
) -> Iterator[tuple[int, int]]:
    """Make every call as soon as the budget has room, first come, first served.

    Gives, for each second at which something is due, how many calls wait after those that could be
    made were made.
    """
    budget = parse_budget(budget_text, zone or UTC)
    counters: Counters = {}
    waiting = 0
    times = [(job.after, number) for number, job in enumerate(jobs)]
    heapq.heapify(times)
    wakes: list[int] = []
    while times:
        second = min(times[0][0], wakes[0] if wakes else times[0][0])
        if second >= seconds:
            return
        while wakes and wakes[0] == second:
            heapq.heappop(wakes)
        while times[0][0] == second:
            _, number = heapq.heappop(times)
            load = jobs[number].load
            waiting += load.calls
            heapq.heappush(times, (second + load.interval, number))
        now = start + timedelta(seconds=second)
        while waiting:
            outcome = budget.spend(counters, now, waiting)
            if isinstance(outcome, Exhausted):
                heapq.heappush(wakes, math.ceil((outcome.until - start).total_seconds()))
                break
            waiting -= outcome.calls
            counters = outcome.counters
        yield second, waiting


def most_waiting(*args: object, **kwargs: object) -> int:
    return max(waiting for _, waiting in simulated(*args, **kwargs))  # type: ignore[arg-type]


def one_poll_each(jobs: Sequence[Begun]) -> int:
    return sum(job.load.calls for job in jobs)


LENGTHS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


def planned(budget: str, jobs: Sequence[Begun]) -> bool:
    first, *others = [job.load for job in jobs]
    return plan(parse_budget(budget), first, others).lasts


def horizon(jobs: Sequence[Begun], length: int) -> int:
    """After so many seconds everything comes again as it was, if it ever does."""
    return math.lcm(length, *(job.load.interval for job in jobs))


@st.composite
def small(draw: st.DrawFn) -> tuple[str, list[Begun], int]:
    """One window and jobs whose times come again soon, of all shades of too much and enough."""
    period = draw(st.sampled_from(["second", "minute", "hour", "day"]))
    length = LENGTHS[period]
    step = max(1, length // 12)
    jobs = [
        Begun(
            Load(draw(st.integers(1, 9)), step * draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))),
            draw(st.integers(0, 2 * length)),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    rate = sum((job.load.rate for job in jobs), Fraction(0)) * length
    calls = max(1, math.ceil(rate) + draw(st.integers(-2, 1)))
    return f"{calls}/{period}", jobs, length


@given(small(), st.integers(0, 86_399))
@settings(max_examples=100)
def test_it_says_what_a_simulation_finds(case: tuple[str, list[Begun], int], phase: int) -> None:
    """Where it lasts there never waits as much as one poll of each job; else it comes to that."""
    budget, jobs, length = case
    start = datetime(2024, 3, 20, tzinfo=UTC) + timedelta(seconds=phase)
    # What does not last has a call more left over each time that everything comes again.
    turns = one_poll_each(jobs) + 3
    found = simulated(budget, jobs, start, turns * horizon(jobs, length) + 3 * length, None)
    piles_up = any(waiting >= one_poll_each(jobs) for _, waiting in found)
    assert piles_up == (not planned(budget, jobs))


BUDGETS = ["1/second,25/day", "8/minute,60/hour", "2/second,20/minute,100/hour", "3/minute,40/day"]


@given(
    st.sampled_from(BUDGETS),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5000)), min_size=1, max_size=3),
    st.integers(0, 86_399),
    st.sampled_from([0, 1]),
)
@settings(max_examples=30)
def test_several_windows_last_with_the_shortest_interval_and_not_with_a_shorter(
    budget: str, given_jobs: list[tuple[int, int]], phase: int, less: int
) -> None:
    """The last job gets the interval that fits beside the others, or a second less."""
    others = [Load(calls, 3 * calls * 3600) for calls, _ in given_jobs[1:]]
    calls, after = given_jobs[0]
    shortest = plan(parse_budget(budget), Load(calls, 1), others).shortest
    assume(shortest is not None and shortest > 1)
    assert shortest is not None
    mine = Load(calls, shortest - less)
    result = plan(parse_budget(budget), mine, others)
    assert result.lasts == (less == 0)
    jobs = [Begun(mine, after), *(Begun(*one) for one in zip(others, range(9), strict=False))]
    start = datetime(2024, 3, 20, tzinfo=UTC) + timedelta(seconds=phase)
    if result.lasts:
        assert most_waiting(budget, jobs, start, 2 * 86_400, None) < one_poll_each(jobs)
    else:
        [window] = [one for one in result.windows if not one.lasts][:1]
        assert window.needed > window.allowance.calls


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(0, 86_399),
    st.sampled_from(
        [
            (NEW_YORK, datetime(2024, 3, 8, tzinfo=UTC), 0),  # a day of 23 hours
            (NEW_YORK, datetime(2024, 11, 1, tzinfo=UTC), 1),  # a day of 25 hours
            (BERLIN, datetime(2024, 3, 29, tzinfo=UTC), 0),
            (BERLIN, datetime(2024, 10, 25, tzinfo=UTC), 1),
        ]
    ),
)
@settings(max_examples=40)
def test_where_the_clocks_change_a_full_plan_is_late_by_an_hour_of_calls_at_most(
    calls_a_day: int, calls: int, phase: int, change: tuple[ZoneInfo, datetime, int]
) -> None:
    """A day of 23 hours has room for all; one of 25 leaves an hour's share waiting."""
    zone, start, hours = change
    shortest = plan(parse_budget(f"{calls_a_day}/day"), Load(calls, 1), []).shortest
    assert shortest is not None
    jobs = [Begun(Load(calls, shortest), phase)]
    extra = Fraction(hours * calls_a_day, 24)
    most = most_waiting(f"{calls_a_day}/day", jobs, start, 6 * 86_400, zone)
    assert most < calls + extra


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 28), st.sampled_from([1, 7, 12]))
@settings(max_examples=40)
def test_a_month_counts_as_the_longest(
    calls_a_month: int, calls: int, day: int, month: int
) -> None:
    """Two months of 31 days in a row (July, December) have room; a second less overflows one."""
    budget = f"{calls_a_month}/month"
    shortest = plan(parse_budget(budget), Load(calls, 1), []).shortest
    assert shortest is not None
    jobs = [Begun(Load(calls, shortest), day * 86_400)]
    start = datetime(2024, month, 1, tzinfo=UTC)
    assert most_waiting(budget, jobs, start, 130 * 86_400, None) < calls
    if shortest > 1:
        window = plan(parse_budget(budget), Load(calls, shortest - 1), []).windows[0]
        assert not window.lasts
        assert Fraction(31 * 86_400 * calls, shortest - 1) > calls_a_month


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1))
def test_it_is_gone_when_counting_says_so(calls: int, given_jobs: list[tuple[int, int]]) -> None:
    loads = [Load(*one) for one in given_jobs[:4]]
    [window] = plan(parse_budget(f"{calls}/minute"), loads[0], loads[1:]).windows
    if window.gone_after is None:
        return
    made = 0
    for second in range(60):
        made += sum(load.calls for load in loads if second % load.interval == 0)
        if made > calls:
            assert window.gone_after == second
            return
    pytest.fail(f"{made} calls in a minute are not more than {calls}")


def test_the_free_plan_of_25_calls_a_day() -> None:
    made = plan(parse_budget("1/second,25/day", NEW_YORK), Load(4, 60), [])
    assert made.shortest == 13_824
    assert told(made, 4) == (
        "25 calls a day, 4 symbols every 60 s: gone after 6 minutes; "
        "the shortest interval that lasts is 13,824 s"
    )
    assert plan(parse_budget("1/second,25/day"), Load(4, 13_824), []).lasts
    assert not plan(parse_budget("1/second,25/day"), Load(4, 13_823), []).lasts


def test_others_take_their_share_and_may_leave_nothing() -> None:
    budget = parse_budget("10/minute")
    assert plan(budget, Load(1, 6), []).lasts
    beside = plan(budget, Load(1, 12), [Load(5, 60)])
    assert (beside.lasts, beside.shortest) == (True, 12)
    full = plan(budget, Load(1, 86_400), [Load(10, 60)])
    assert (full.lasts, full.shortest) == (False, None)
    assert "no room for it at any interval" in told(full, 1)


def test_without_a_budget_everything_lasts() -> None:
    made = plan(parse_budget("off"), Load(500, 1), [Load(500, 1)])
    assert (made.lasts, made.shortest, made.windows) == (True, 1, ())


@pytest.mark.parametrize(
    ("symbols", "batch", "credit", "calls"),
    [(4, 1, False, 4), (101, 100, False, 2), (100, 100, False, 1), (9, 8, True, 9)],
)
def test_a_poll_costs_its_calls_or_its_credits(
    symbols: int, batch: int, credit: bool, calls: int
) -> None:
    assert calls_of(symbols, batch, credit_per_symbol=credit) == calls
