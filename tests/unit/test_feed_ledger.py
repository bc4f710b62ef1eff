"""Which ticks are new, late or repeated, which numbers are missing; the last price at times."""

from __future__ import annotations

import itertools
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.conflation import Conflation
from pricewire.domain.feed import Tick
from pricewire.domain.feed_ledger import MAX_IDS, MAX_RANGES, FeedLedger, Judgement, count
from tests.builders import MARKET_TIME, make_quote

NEW, LATE, REPEAT = Judgement.NEW, Judgement.LATE, Judgement.REPEAT


def numbered(number: int, seconds: float = 0, *, old: bool = False) -> Tick:
    moment = MARKET_TIME + timedelta(seconds=seconds)
    return Tick(quote=make_quote(trade_id=str(number), timestamp=moment), number=number, old=old)


def judged(ledger: FeedLedger, *numbers: int) -> list[Judgement]:
    return [ledger.judge(numbered(number)) for number in numbers]


def test_the_first_begins_and_each_next_one_is_new() -> None:
    ledger = FeedLedger()
    assert judged(ledger, 100, 101, 102) == [NEW, NEW, NEW]
    assert (ledger.missing, ledger.gaps, ledger.ticks) == ([], 0, 3)


def test_a_jump_is_a_gap_that_is_named_and_a_late_one_heals_it() -> None:
    ledger = FeedLedger()
    assert judged(ledger, 1, 2, 6, 4) == [NEW, NEW, NEW, LATE]
    assert ledger.missing == [(3, 3), (5, 5)]
    assert (ledger.gaps, ledger.missing_now, ledger.healed) == (1, 2, 1)
    assert judged(ledger, 4, 6, 2) == [REPEAT] * 3
    assert ledger.repeats == 3


def test_what_was_told_at_subscribing_is_a_repeat_or_shows_the_gap() -> None:
    ledger = FeedLedger()
    ledger.judge(numbered(10))
    assert ledger.judge(numbered(10, 5, old=True)) is REPEAT
    assert ledger.judge(numbered(13, 5, old=True)) is NEW
    assert ledger.missing == [(11, 12)]


def test_a_vendor_that_counts_anew_is_followed() -> None:
    ledger = FeedLedger()
    judged(ledger, 5_000, 5_003)
    assert ledger.judge(numbered(7, 0.9)) is REPEAT
    assert ledger.judge(numbered(8, 1.1)) is NEW
    assert judged(ledger, 9) == [NEW]
    assert (ledger.missing, ledger.lost) == ([], 2)


def test_a_number_out_of_this_world_is_none() -> None:
    ledger = FeedLedger()
    assert judged(ledger, 10**30, 10**30, -1) == [NEW, REPEAT, NEW]
    assert ledger.last_number is None


def by_id(trade: str | None, exchange: str | None = None) -> Tick:
    return Tick(quote=make_quote(trade_id=trade, exchange=exchange))


def test_ids_tell_repetitions_within_an_exchange() -> None:
    ledger = FeedLedger()
    assert ledger.judge(by_id("7", "V")) is NEW
    assert ledger.judge(by_id("7", "V")) is REPEAT
    assert ledger.judge(by_id("7", "X")) is NEW
    for number in range(2 * MAX_IDS):
        ledger.judge(by_id(f"n{number}"))
    assert len(ledger.ids) == MAX_IDS


def test_without_any_id_each_is_new() -> None:
    ledger = FeedLedger()
    assert [ledger.judge(by_id(None)) for _ in range(3)] == [NEW] * 3


def test_what_is_given_up_is_looked_out_for_no_more() -> None:
    ledger = FeedLedger()
    judged(ledger, 1, 10, 20)
    assert ledger.give_up(5, 12) == 7
    assert ledger.missing == [(2, 4), (13, 19)]
    assert judged(ledger, 6, 13) == [REPEAT, LATE]


@given(st.lists(st.integers(0, 300), max_size=300))
def test_each_number_is_taken_once_and_the_missing_ones_are_exactly_those(
    numbers: list[int],
) -> None:
    ledger = FeedLedger()
    taken = [number for number in numbers if ledger.judge(numbered(number)) is not REPEAT]
    assert len(set(taken)) == len(taken) == ledger.ticks
    assert len(ledger.missing) <= MAX_RANGES
    assert ledger.missing == sorted(ledger.missing)
    if not ledger.lost and numbers:
        span = set(range(numbers[0], max(numbers) + 1))
        named = {one for first, last in ledger.missing for one in range(first, last + 1)}
        assert named == span - set(taken)
        assert count(ledger.missing) == len(named)
        assert set(taken) == span & set(numbers)


@given(st.lists(st.integers(0, 400), max_size=60, unique=True).map(sorted), st.integers(1, 100))
def test_the_last_price_comes_in_the_end_and_never_too_often(
    times: list[int], seconds: int
) -> None:
    line: Conflation[int] = Conflation(seconds)
    given_out: list[tuple[int, int]] = []
    left_out = 0
    for now in range(max(times, default=0) + seconds + 1):
        if (due := line.due(now)) is not None:
            given_out.append((now, due))
        if now in times:
            item, missed = line.offer(now, now)
            left_out += missed
            if item is not None:
                given_out.append((now, item))
    moments = [moment for moment, _ in given_out]
    assert all(after - before >= seconds for before, after in itertools.pairwise(moments))
    assert [item for _, item in given_out][-1:] == times[-1:]
    assert len(given_out) + left_out == len(times)
    assert [item for _, item in given_out] == sorted({item for _, item in given_out})


def test_at_the_end_what_is_held_is_given_out_at_once() -> None:
    line: Conflation[str] = Conflation(10)
    assert line.offer("a", 0) == ("a", 0)
    assert line.offer("b", 1) == (None, 0)
    assert line.offer("c", 2) == (None, 1)
    assert line.due(9.9) is None
    assert line.flush(3) == "c"
    assert line.flush(3) is None
