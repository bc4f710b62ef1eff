"""The circuit breaker: when it opens, who is let through half open, and what decides nothing."""

from __future__ import annotations

from pricewire.services.breaker import Breaker, BreakerState


def fail(breaker: Breaker, times: int, now: float = 0) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(), now)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=3, cool_off=30)
    fail(breaker, 2)
    breaker.succeeded(breaker.admit())
    fail(breaker, 2)
    assert breaker.wait(0) == 0
    fail(breaker, 1)
    assert breaker.state(29.9) is BreakerState.OPEN
    assert breaker.wait(10) == 20


def test_half_open_lets_one_through_who_decides() -> None:
    breaker = Breaker(failures=1, cool_off=30)
    fail(breaker, 1)
    assert breaker.state(30) is BreakerState.HALF_OPEN
    assert breaker.wait(30) == 0
    probe = breaker.admit()
    assert breaker.wait(31) > 0
    breaker.failed(probe, 32)
    assert breaker.wait(33) == 29
    breaker.succeeded(breaker.admit())
    assert breaker.state(63) is BreakerState.CLOSED


def test_a_call_that_was_given_up_counts_nothing_and_lets_the_next_one_through() -> None:
    breaker = Breaker(failures=1, cool_off=30)
    breaker.given_up(breaker.admit())
    assert breaker.state(0) is BreakerState.CLOSED
    fail(breaker, 1)
    probe = breaker.admit()
    assert breaker.wait(31) > 0
    breaker.given_up(probe)
    assert breaker.wait(31) == 0


def test_calls_from_before_it_opened_decide_nothing() -> None:
    breaker = Breaker(failures=1, cool_off=30)
    late_one, late_two, late_three = breaker.admit(), breaker.admit(), breaker.admit()
    fail(breaker, 1)
    breaker.succeeded(late_one)
    assert breaker.state(1) is BreakerState.OPEN
    breaker.admit()
    breaker.failed(late_two, 31)
    breaker.given_up(late_three)
    assert breaker.wait(31) == 1
