"""Budgets: what the text means, whose calendar counts, and that nothing is granted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.budget import (
    Allowance,
    Budget,
    Counters,
    Exhausted,
    Granted,
    Period,
    Used,
    parse_budget,
)
from pricewire.errors import InvalidParameter

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2024, 3, 20, 12, 34, 56, 789_000, tzinfo=UTC)


def spent(budget: Budget, counters: Counters, now: datetime, calls: int = 1) -> Granted:
    granted = budget.spend(counters, now, calls)
    assert isinstance(granted, Granted)
    return granted


def exhausted(budget: Budget, counters: Counters, now: datetime) -> Exhausted:
    refused = budget.spend(counters, now, 1)
    assert isinstance(refused, Exhausted)
    return refused


def test_the_text_of_a_plan_becomes_its_allowances() -> None:
    budget = parse_budget("5/minute, 25/day")
    assert budget.allowances == (Allowance(5, Period.MINUTE), Allowance(25, Period.DAY))
    assert str(budget) == "5/minute,25/day"
    assert parse_budget("off").unlimited
    assert str(parse_budget("off")) == "off"


@pytest.mark.parametrize(
    "text", ["", "0/day", "-1/day", "5/fortnight", "5", "5/day,", "x/day", "5/minute,6/minute"]
)
def test_what_is_no_budget_is_refused_with_a_word_on_what_would_be(text: str) -> None:
    with pytest.raises(InvalidParameter, match="budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        ("second", "2024-03-20T12:34:56Z", "2024-03-20T12:34:57Z"),
        ("minute", "2024-03-20T12:34:00Z", "2024-03-20T12:35:00Z"),
        ("hour", "2024-03-20T12:00:00Z", "2024-03-20T13:00:00Z"),
        ("day", "2024-03-20T00:00:00Z", "2024-03-21T00:00:00Z"),
        ("month", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"),
    ],
)
def test_windows_are_those_of_the_calendar(period: str, begin: str, end: str) -> None:
    one = Period(period)
    assert one.begin(NOON, UTC) == datetime.fromisoformat(begin)
    assert one.end(one.begin(NOON, UTC), UTC) == datetime.fromisoformat(end)


@pytest.mark.parametrize(("day", "hours"), [("2024-03-10", 23), ("2024-11-03", 25)])
def test_a_day_in_new_york_may_have_another_length(day: str, hours: int) -> None:
    noon = datetime.fromisoformat(f"{day}T16:30:00Z")
    begin = Period.DAY.begin(noon, NEW_YORK)
    assert Period.DAY.end(begin, NEW_YORK) - begin == timedelta(hours=hours)
    assert begin.astimezone(NEW_YORK).hour == 0


def test_december_ends_with_the_year() -> None:
    begin = Period.MONTH.begin(datetime(2024, 12, 31, 23, 59, tzinfo=UTC), UTC)
    assert Period.MONTH.end(begin, UTC) == datetime(2025, 1, 1, tzinfo=UTC)


def test_the_26th_call_of_a_day_has_to_wait_for_midnight() -> None:
    budget, counters = parse_budget("25/day"), dict[Period, Used]()
    for _ in range(25):
        counters = dict(spent(budget, counters, NOON).counters)
    refused = exhausted(budget, counters, NOON)
    assert refused.allowance == Allowance(25, Period.DAY)
    assert refused.until == datetime(2024, 3, 21, tzinfo=UTC)
    assert spent(budget, counters, refused.until).counters[Period.DAY].calls == 1


def test_of_two_that_are_used_up_the_longer_one_decides() -> None:
    budget = parse_budget("1/minute,1/day")
    counters = spent(budget, {}, NOON).counters
    assert exhausted(budget, counters, NOON).allowance.period is Period.DAY


def test_of_many_calls_those_that_fit_are_granted() -> None:
    budget = parse_budget("5/minute,25/day")
    assert spent(budget, {}, NOON, 100).calls == 5
    counted = {Period.DAY: Used(Period.DAY.begin(NOON, UTC), 23)}
    assert spent(budget, counted, NOON, 100).calls == 2
    assert spent(parse_budget("off"), {}, NOON, 100).calls == 100


def test_a_clock_that_goes_back_opens_no_window_again() -> None:
    budget = parse_budget("2/day")
    counters = spent(budget, {}, NOON, 2).counters
    yesterday = NOON - timedelta(days=1)
    assert exhausted(budget, counters, yesterday).until == datetime(2024, 3, 21, tzinfo=UTC)


def test_a_refusal_costs_nothing_in_the_other_windows() -> None:
    budget = parse_budget("1/minute,25/day")
    counters = spent(budget, {}, NOON).counters
    exhausted(budget, counters, NOON)
    left = {one.allowance.period: one.calls for one in budget.remaining(counters, NOON)}
    assert left == {Period.MINUTE: 0, Period.DAY: 24}


@given(
    st.lists(
        st.tuples(
            st.floats(0, 200_000, allow_nan=False), st.integers(1, 40), st.floats(-3600, 3600)
        ),
        max_size=60,
    )
)
def test_no_window_ever_grants_more_than_its_allowance(
    steps: list[tuple[float, int, float]],
) -> None:
    budget, counters = parse_budget("3/second,7/minute,20/day", NEW_YORK), dict[Period, Used]()
    granted: dict[tuple[Period, datetime], int] = {}
    now = NOON
    for forward, calls, shift in steps:
        now += timedelta(seconds=forward if forward < 100 else forward / 100)
        outcome = budget.spend(counters, now + timedelta(seconds=shift), calls)
        if isinstance(outcome, Granted):
            counters = dict(outcome.counters)
            for period, used in counters.items():
                key = (period, used.begin)
                granted[key] = granted.get(key, 0) + outcome.calls
    for allowance in budget.allowances:
        most = [calls for (period, _), calls in granted.items() if period is allowance.period]
        assert max(most, default=0) <= allowance.calls
