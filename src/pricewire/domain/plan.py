"""Whether polling jobs fit into a provider's budget for ever, and which interval would.

`services.jobs` asks before it takes a job. Pure. A poll's calls wait where a window has no room for
them and are made in the next one. A plan *lasts* if never more calls wait than one poll of each job
has, whenever the jobs begin; for a single job that is: each poll is complete before the next one is
due. Invariant: it lasts exactly if the calls that come due in the length of a window, on average,
are no more than the window allows (docs/decisions/0019 has the proof, tests simulate it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from pricewire.domain.budget import Allowance, Budget, Period

DAY_SECONDS = 86_400
WINDOW_SECONDS = {
    Period.SECOND: 1,
    Period.MINUTE: 60,
    Period.HOUR: 3_600,
    Period.DAY: DAY_SECONDS,
    Period.MONTH: 31 * DAY_SECONDS,
}
"""What a window counts with: a month as the longest one, a day with 24 hours although a change of
the clocks gives one of 25 hours a year, in which a plan that fills its days is late by an hour."""


@dataclass(frozen=True, slots=True)
class Load:
    """A job as a budget sees it: so many calls come due every so many seconds."""

    calls: int
    interval: int

    @property
    def rate(self) -> Fraction:
        """Calls a second."""
        return Fraction(self.calls, self.interval)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What one allowance says.

    Args:
        needed: calls that come due in a window, on average.
        gone_after: seconds from a window's beginning until its calls are used up where every job
            polls at once and then at its interval; None where they last.
        shortest: the shortest interval, in seconds, with which it lasts; None where there is none,
            as the other jobs leave nothing.
    """

    allowance: Allowance
    needed: Fraction
    gone_after: int | None
    shortest: int | None

    @property
    def lasts(self) -> bool:
        return self.gone_after is None


@dataclass(frozen=True, slots=True)
class Plan:
    """A job beside the others of its provider, against each allowance of the budget."""

    load: Load
    others: int
    windows: tuple[WindowPlan, ...]

    @property
    def lasts(self) -> bool:
        return all(window.lasts for window in self.windows)

    @property
    def shortest(self) -> int | None:
        """The shortest interval with which the plan lasts, in seconds; None: there is none."""
        found = [window.shortest for window in self.windows]
        if any(one is None for one in found):
            return None
        return max((one for one in found if one is not None), default=1)

    @property
    def tightest(self) -> WindowPlan | None:
        """The window that allows the least; None without a budget."""
        return max(self.windows, key=lambda one: one.shortest or float("inf"), default=None)


def calls_of(symbols: int, batch: int, *, credit_per_symbol: bool) -> int:
    """Return what one poll costs: calls, or credits where a provider counts each symbol."""
    return symbols if credit_per_symbol else ceil(symbols / batch)


def plan(budget: Budget, load: Load, others: Sequence[Load]) -> Plan:
    """Plan a job beside others of the same provider."""
    windows = tuple(_window(allowance, load, others) for allowance in budget.allowances)
    return Plan(load, len(others), windows)


def _window(allowance: Allowance, load: Load, others: Sequence[Load]) -> WindowPlan:
    seconds = WINDOW_SECONDS[allowance.period]
    taken = sum((other.rate for other in others), Fraction(0))
    left = Fraction(allowance.calls, seconds) - taken
    needed = (taken + load.rate) * seconds
    return WindowPlan(
        allowance,
        needed,
        _gone_after(allowance.calls, (load, *others), seconds) if load.rate > left else None,
        max(1, ceil(load.calls / left)) if left > 0 else None,
    )


def _gone_after(calls: int, loads: Sequence[Load], seconds: int) -> int:
    """Return the first second in which more calls have come due than `calls`.

    There is one within the window: by its end each job had its share of calls or more.
    """
    low, high = 0, seconds
    while low < high:
        middle = (low + high) // 2
        if sum(one.calls * (middle // one.interval + 1) for one in loads) > calls:
            high = middle
        else:
            low = middle + 1
    return low


def told(plan: Plan, symbols: int) -> str:
    """Return the plan in one sentence."""
    job = f"{symbols} symbol{'s' * (symbols != 1)} every {plan.load.interval:,} s"
    if plan.others:
        job += f" beside {plan.others} other job{'s' * (plan.others != 1)}"
    window = plan.tightest
    if window is None:
        return f"no budget, {job}: lasts"
    allowance = window.allowance
    job = f"{allowance.calls:,} call{'s' * (allowance.calls != 1)} a {allowance.period}, {job}"
    if plan.shortest is None:
        return f"{job}: the other jobs leave no room for it at any interval"
    shortest = f"the shortest interval that lasts is {plan.shortest:,} s"
    if window.gone_after is None:
        return f"{job}: lasts; {shortest}"
    return f"{job}: gone after {_words(window.gone_after)}; {shortest}"


def _words(seconds: int) -> str:
    """Return a time in the largest unit that keeps two digits, rounded down."""
    for unit, length in (("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length or seconds == length:
            count = seconds // length
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds} second{'s' * (seconds != 1)}"
