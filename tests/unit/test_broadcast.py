"""Readers at the head of the stream: each gets all, in order, unless it does not read."""

from __future__ import annotations

from dataclasses import dataclass, field

from pricewire.domain.position import Place, StreamTopic
from pricewire.services.live.broadcast import Broadcast, Counts, Pace
from pricewire.services.live.events import LiveEvent, Slow, Subscription
from pricewire.services.live.readers import ROOM_BYTES, EndReason, Reader
from pricewire.services.live.recent import Recent
from tests.stream_tools import LINES, FakeWire, event

PRICES = (StreamTopic.PRICES,)
ALL = Subscription(PRICES)
BIG = ROOM_BYTES // 2


@dataclass
class Stage:
    """A broadcast of one partition of prices, with a clock that is set by hand."""

    max_series: int = 1_000
    now: float = 0.0
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        start = {StreamTopic.PRICES: Place("tag", (0,))}
        recent = Recent(start, max_bytes=10_000_000, max_series=self.max_series)
        self.broadcast = Broadcast(recent, Pace(15, 60), lambda: self.now, counts=self.counts)
        self.offset = 0

    def reader(
        self,
        wanted: Subscription = ALL,
        slow: Slow = Slow.CONFLATE,
        *,
        takes_all: bool = True,
    ) -> tuple[Reader, FakeWire]:
        wire = FakeWire(takes_all=takes_all)
        reader = Reader(wire, LINES, wanted, slow)
        self.broadcast.join(reader)
        return reader, wire

    def take(self, *symbols: str, padding: int = 0) -> None:
        events: list[LiveEvent] = []
        for symbol in symbols:
            events.append(event(self.offset, symbol, padding=padding))
            self.offset += 1
        self.broadcast.take(events, {})

    async def give(self, *symbols: str, padding: int = 0) -> None:
        self.take(*symbols, padding=padding)
        await self.broadcast.flush()


def offsets(wire: FakeWire) -> list[int]:
    return [one[2] for one in wire.given()]


async def test_everybody_gets_what_it_asked_for_with_the_position_behind_it() -> None:
    stage = Stage()
    _, everything = stage.reader()
    _, some = stage.reader(Subscription(PRICES, frozenset({"B", "C"})))
    _, nothing = stage.reader(Subscription((StreamTopic.AVERAGES,)))
    await stage.give("A", "B", "A", "C")
    assert [line[1] for line in everything.lines] == [f"p.tag.{n}" for n in (1, 2, 3, 4)]
    assert offsets(everything) == [0, 1, 2, 3]
    assert offsets(some) == [1, 3]
    assert [line[1] for line in some.lines] == ["p.tag.2", "p.tag.4"]
    assert nothing.frames == []


async def test_who_asked_for_the_same_gets_the_same_bytes() -> None:
    stage = Stage()
    wires = [stage.reader()[1] for _ in range(5)]
    await stage.give("A")
    await stage.give("B", "C")
    assert len({id(wire.frames[1]) for wire in wires}) == 1


async def test_who_joins_between_two_events_gets_the_second_only() -> None:
    stage = Stage()
    stage.reader()
    stage.take("A")
    _, late = stage.reader()
    stage.take("B")
    await stage.broadcast.flush()
    await stage.give("C")
    assert offsets(late) == [1, 2]


async def test_a_reader_that_does_not_read_holds_up_nobody_and_gets_the_newest_later() -> None:
    stage = Stage()
    _, good = stage.reader()
    _, frozen = stage.reader(takes_all=False)
    await stage.give("A", padding=BIG)
    await stage.give("A", padding=BIG)
    assert offsets(frozen) == [0, 1]
    for _ in range(50):
        await stage.give("A", "B", padding=100)
    await stage.give("C")
    assert offsets(good) == list(range(103))
    assert offsets(frozen) == [0, 1]
    assert stage.broadcast.behind == 1
    frozen.take(10)
    await stage.broadcast.flush()
    assert offsets(frozen) == [0, 1]
    frozen.take()
    await stage.broadcast.flush()
    # 101 came since: the newest of each of three symbols, and 98 left out.
    assert frozen.given("conflated") == [{"left_out": 98}]
    assert offsets(frozen) == [0, 1, 100, 101, 102]
    assert [line[1] for line in frozen.lines][-1] == "p.tag.103"
    assert stage.broadcast.behind == 0
    await stage.give("A", "B")
    assert offsets(frozen)[-2:] == [103, 104]
    assert stage.counts.left_out == 98


async def test_what_is_left_out_is_counted_while_the_newest_do_not_fit_at_once() -> None:
    stage = Stage()
    _, slow = stage.reader(takes_all=False)
    await stage.give("A", padding=3 * ROOM_BYTES)
    await stage.give(*"ABCD", padding=BIG)
    for _ in range(10):
        await stage.give(*"ABCD", padding=BIG)
    for _ in range(20):
        slow.take()
        await stage.broadcast.flush()
    told = sum(one["left_out"] for one in slow.given("conflated"))
    assert told + len(offsets(slow)) == stage.offset
    assert offsets(slow) == [0, *range(41, 45)]
    assert slow.most_waiting < 4 * ROOM_BYTES
    assert stage.broadcast.behind == 0


async def test_series_of_one_symbol_do_not_take_each_others_place() -> None:
    start = {topic: Place("tag", (0,)) for topic in StreamTopic}
    broadcast = Broadcast(
        Recent(start, max_bytes=10**6, max_series=100), Pace(), lambda: 0.0, counts=Counts()
    )
    wire = FakeWire(takes_all=False)
    broadcast.join(Reader(wire, LINES, Subscription(tuple(StreamTopic))))
    broadcast.take([event(0, padding=2 * ROOM_BYTES)], {})
    await broadcast.flush()
    averages = [
        event(n, topic=StreamTopic.AVERAGES, series=("sma:5", "ema:5")[n % 2]) for n in range(6)
    ]
    broadcast.take([*averages, event(1)], {})
    await broadcast.flush()
    wire.take()
    await broadcast.flush()
    assert [one[2] for one in wire.given("average")] == [4, 5]
    assert [one[2] for one in wire.given("price")] == [0, 1]
    assert wire.lines[-1][1] == "p.tag.2~a.tag.6~c.tag.0"


async def test_a_reader_that_asked_to_be_cut_is_cut() -> None:
    stage = Stage()
    _, good = stage.reader(slow=Slow.CUT)
    _, frozen = stage.reader(slow=Slow.CUT, takes_all=False)
    await stage.give("A", padding=2 * ROOM_BYTES)
    await stage.give("A")
    assert (frozen.ended, good.ended) == (EndReason.TOO_SLOW, None)
    await stage.give("A")
    assert offsets(frozen) == [0]
    assert offsets(good) == [0, 1, 2]
    assert stage.counts.cut == 1


async def test_a_reader_that_never_takes_anything_is_ended_one_that_takes_little_is_not() -> None:
    stage = Stage()
    _, dead = stage.reader(takes_all=False)
    _, slow = stage.reader(takes_all=False)
    await stage.give("A", padding=2 * ROOM_BYTES)
    await stage.give("A")
    for _ in range(10):
        stage.now += 20
        slow.take(100)
        await stage.broadcast.flush()
    assert (dead.ended, slow.ended) == (EndReason.TOO_SLOW, None)


async def test_a_reader_for_which_newest_events_are_not_known_any_more_is_ended() -> None:
    stage = Stage(max_series=3)
    _, frozen = stage.reader(takes_all=False)
    await stage.give("A", padding=2 * ROOM_BYTES)
    await stage.give(*"ABCDE")
    frozen.take()
    await stage.broadcast.flush()
    assert frozen.ended is EndReason.TOO_SLOW


async def test_who_is_silent_is_told_its_position_now_and_then() -> None:
    stage = Stage()
    _, quiet = stage.reader(Subscription(PRICES, frozenset({"Z"})))
    await stage.give("A")
    stage.now = 14
    await stage.broadcast.flush()
    assert quiet.lines == []
    stage.now = 16
    await stage.broadcast.flush()
    await stage.broadcast.flush()
    assert quiet.lines == [["heartbeat", "p.tag.1", None]]


async def test_who_left_is_forgotten() -> None:
    stage = Stage()
    reader, wire = stage.reader(Subscription(PRICES, frozenset({"A"})))
    _, stays = stage.reader()
    await stage.give("A")
    reader.gone()
    stage.broadcast.leave(reader)
    await stage.give("A")
    assert offsets(wire) == [0]
    assert offsets(stays) == [0, 1]
