"""What waits to be recorded: bounded batches whose states fit what is recorded with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.feed import Tick
from pricewire.services.feeds import intake as feed_intake
from pricewire.services.feeds.intake import Batch, Intake, halves
from pricewire.services.feeds.kept import FeedSymbolState
from tests.builders import make_quote, make_raw
from tests.feed_fakes import START, want

NOW = 0.0


def tick(symbol: str, number: int) -> Tick:
    return Tick(quote=make_quote(symbol, str(number), trade_id=str(number)), number=number)


class Recorded:
    """What a database has after the batches of an intake."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {}
        self.states: dict[str, FeedSymbolState] = {}

    def take(self, intake: Intake, batches: int) -> None:
        for _ in range(batches):
            batch = intake.pop()
            if batch is None:
                return
            assert isinstance(batch, Batch)
            assert len(batch.ticks) <= feed_intake.MAX_BATCH_TICKS + 2
            for index, quote in batch.ticks:
                assert 0 <= index < len(batch.frames)
                self.numbers.setdefault(quote.symbol, []).append(int(quote.price))
            self.states |= {state.symbol: state for state in batch.states}
            intake.done(batch)


frames = st.lists(st.lists(st.tuples(st.sampled_from("AB"), st.booleans()), max_size=3))


@given(frames, frames, st.integers(0, 10))
def test_after_a_crash_what_is_recorded_and_what_is_missing_are_all_there_is(
    before: list[list[tuple[str, bool]]], after: list[list[tuple[str, bool]]], recorded: int
) -> None:
    """Each frame has some trades; those that are marked the vendor never sends."""
    numbers = {"A": 100, "B": 200}
    database = Recorded()

    def send(intake: Intake, batch: list[tuple[str, bool]]) -> None:
        ticks = []
        for symbol, lost in batch:
            numbers[symbol] += 1
            if not lost:
                ticks.append(tick(symbol, numbers[symbol]))
        intake.take((START, b"x"), ticks, NOW)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_intake, "MAX_BATCH_TICKS", 4)
        for sent, count in ((before, recorded), (after, 1_000)):
            intake = Intake(database.states.values())
            intake.want(want("A", "B"), NOW)
            for one in sent:
                send(intake, one)
            database.take(intake, count)
        assert intake.waiting_frames == intake.waiting_bytes == 0
    for symbol, state in database.states.items():
        missing = {one for first, last in state.missing for one in range(first, last + 1)}
        had = database.numbers[symbol]
        assert had == sorted(set(had))
        assert set(had) | missing == set(range(had[0], had[-1] + 1))
        assert not set(had) & missing
        assert (state.ticks, state.last_number) == (len(had), had[-1])


def test_batches_are_bounded_by_ticks_frames_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_intake, "MAX_BATCH_FRAMES", 10)
    monkeypatch.setattr(feed_intake, "MAX_BATCH_BYTES", 1_000)
    monkeypatch.setattr(feed_intake, "MAX_WAITING_BYTES", 5_000)
    intake = Intake(())
    intake.want(want("A"), NOW)
    for _ in range(25):
        intake.take((START, b"small"), [], NOW)
    for _ in range(5):
        assert not intake.full
        intake.take((START, b"x" * 1_000), [], NOW)
    assert intake.full
    sizes = []
    while (batch := intake.pop()) is not None:
        assert isinstance(batch, Batch)
        sizes.append(len(batch.frames))
        intake.done(batch)
    assert sizes == [10, 10, 6, 1, 1, 1, 1]
    assert not intake.full


def test_an_answer_brings_only_what_was_missing_and_its_place_in_the_order_is_kept() -> None:
    intake = Intake(())
    intake.want(want("A"), NOW)
    intake.take((START, b"1"), [tick("A", 1), tick("A", 4)], NOW)
    assert intake.missing() == [("A", 2, 3, tick("A", 1).quote.timestamp)]
    answer = [tick("A", number) for number in (1, 2, 4, 9)] + [tick("B", 2)]
    assert intake.take_filling(make_raw(), answer) == 1
    intake.take((START, b"2"), [tick("A", 2), tick("A", 5)], NOW)
    first, filled, second = intake.pop(), intake.pop(), intake.pop()
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert not isinstance(filled, Batch)
    assert filled is not None
    assert [state.missing for state in first.states] == [((2, 3),)]
    assert [quote.trade_id for quote in filled.quotes] == ["2"]
    assert [state.missing for state in filled.states] == [((3, 3),)]
    assert [quote.trade_id for _, quote in second.ticks] == ["5"]


def test_halves_keep_order_frames_and_the_states_at_the_end() -> None:
    state = FeedSymbolState(symbol="A")
    ticks = [(0, make_quote("A", "1")), (1, make_quote("A", "2")), (2, make_quote("A", "3"))]
    whole = Batch(NOW, [(START, b"0"), (START, b"1"), (START, b"2")], ticks, [state])
    first, second = halves(whole)
    assert [frame for _, frame in (*first.frames, *second.frames)] == [b"0", b"1", b"2"]
    assert (first.ticks, second.ticks) == (ticks[:1], [(0, ticks[1][1]), (1, ticks[2][1])])
    assert (first.states, second.states) == ([], [state])
