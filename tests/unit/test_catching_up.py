"""Readers that come back: they get each event once, wherever their connection broke."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from pricewire.domain.position import Place, StreamTopic, parse_position
from pricewire.services.live import catching_up, recent
from pricewire.services.live.broadcast import Broadcast, Counts, Pace
from pricewire.services.live.catching_up import CatchingUp, taken_up
from pricewire.services.live.events import LiveEvent, Slow, Subscription
from pricewire.services.live.readers import Reader
from pricewire.services.live.recent import Recent
from tests.stream_tools import LINES, FakeLog, FakeWire

PRICES, AVERAGES, CANDLES = StreamTopic
PARTITIONS = {PRICES: 3, AVERAGES: 2}
SYMBOLS = ["A", "B", "C"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small marks, so that memory forgets often, small pieces; and nothing is slept through."""
    monkeypatch.setattr(recent, "MARK_EVERY", 4)
    monkeypatch.setattr(catching_up, "ROOM_SECONDS", 0)
    monkeypatch.setattr(catching_up, "PIECE_BYTES", 150)


class Process:
    """One service process: it follows the log in an order of its own."""

    def __init__(self, log: FakeLog, dice: random.Random, kept: int = 20) -> None:
        self._log = log
        self._dice = dice
        self._read: Counter[tuple[StreamTopic, int]] = Counter()
        start = {topic: Place("tag", (0,) * count) for topic, count in PARTITIONS.items()}
        newest = Recent(start, max_bytes=kept * 560, max_series=100)
        self.broadcast = Broadcast(newest, Pace(), lambda: 0.0, counts=Counts())
        self.catching_up = CatchingUp(self.broadcast, log, lambda: 0.0, stalled_seconds=60)

    def follow(self, most: int) -> None:
        """Read on in one partition."""
        key = self._dice.choice([*self._log.high] or [(PRICES, 0)])
        records = self._log.records.get(key, [])[self._read[key] :][:most]
        self._read[key] += len(records)
        copies = [LiveEvent(one.topic, one.partition, one.offset, one.symbol, "", one.data)
                  for one in records]  # fmt: skip
        self.broadcast.take(copies, {})

    def follow_to_the_end(self) -> None:
        for key, records in self._log.records.items():
            while self._read[key] < len(records):
                self.follow(100)

    @property
    def now(self) -> dict[StreamTopic, Place]:
        return self.broadcast.recent.position(tuple(PARTITIONS))


class Client:
    """Reads some of what it was given, breaks off anywhere, comes back with its last position."""

    def __init__(self, wanted: Subscription) -> None:
        self.wanted = wanted
        self.got: list[tuple[str, int, int]] = []
        self.position: str | None = None
        self._wire = FakeWire()
        self._reader: Reader | None = None
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._seen = 0

    def connect(self, process: Process) -> None:
        self._wire = FakeWire()
        self._seen = 0
        self._process = process
        self._reader = Reader(self._wire, LINES, self.wanted, Slow.CONFLATE)
        now = process.broadcast.recent.position(self.wanted.topics)
        position = now if self.position is None else parse_position(self.position)
        places, gaps = taken_up(position, now)
        assert gaps == []
        if self.position is None:
            self.position = process.broadcast.recent.text(self.wanted.topics)
        self._task = asyncio.create_task(process.catching_up.bring(self._reader, places))

    def break_off(self) -> None:
        assert self._reader is not None
        assert self._process is not None
        assert self._task is not None
        self._reader.gone()
        self._process.broadcast.leave(self._reader)
        self._task.cancel()

    def read(self, most: int) -> None:
        for name, position, data in self._wire.lines[self._seen :][:most]:
            self._seen += 1
            assert name in ("price", "average"), name
            self.got.append((data[0], data[1], data[2]))
            self.position = position

    @property
    def has_joined(self) -> bool:
        return self._task is not None and self._task.done()


def due(log: FakeLog, client: Client, start: dict[StreamTopic, Place]) -> list[Any]:
    """Return what a client must have been given, partition by partition."""
    return [
        (topic.value, partition, one.offset)
        for (topic, partition), records in sorted(log.records.items())
        for one in records
        if client.wanted.wants(one) and one.offset >= start[topic].offsets[partition]
    ]


async def _step(
    dice: random.Random, log: FakeLog, processes: list[Process], clients: list[Client]
) -> None:
    """Let one thing happen that may happen."""
    client = dice.choice(clients)
    match dice.randrange(10):
        case 0 | 1 | 2 | 3:
            topic = dice.choice([*PARTITIONS])
            partition = dice.randrange(PARTITIONS[topic])
            log.append(topic, partition, dice.choice(SYMBOLS), dice.choice([0, 0, 0, 1, 5]))
        case 4 | 5:
            dice.choice(processes).follow(dice.choice([1, 2, 50]))
        case 6:
            await dice.choice(processes).broadcast.flush()
        case 7:
            client.read(dice.choice([1, 3, 1_000]))
        case 8:
            client.break_off()
            client.connect(dice.choice(processes))
        case _:
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(25))
async def test_each_event_once_wherever_readers_break_off_and_to_whichever_process_they_come(
    seed: int,
) -> None:
    dice = random.Random(seed)
    log = FakeLog(PARTITIONS, pieces=dice.choice([1, 3, 20]))
    processes = [Process(log, dice) for _ in range(2)]
    subscriptions = [
        Subscription((PRICES, AVERAGES)),
        Subscription((PRICES,), frozenset({"B"})),
        Subscription((AVERAGES,), frozenset({"A", "C"})),
    ]
    clients = [Client(wanted) for wanted in subscriptions for _ in range(2)]
    starts = {}
    for client in clients:
        process = dice.choice(processes)
        client.connect(process)
        assert client.position is not None
        starts[client] = parse_position(client.position)
    for _ in range(600):
        await _step(dice, log, processes, clients)
    for process in processes:
        process.follow_to_the_end()
        await process.broadcast.flush()
    await _until(lambda: all(client.has_joined for client in clients), processes)
    for client in clients:
        client.read(100_000)
        assert sorted(client.got) == sorted(due(log, client, starts[client])), seed
        assert _in_order(client.got)
    assert log.turns > 0


async def _until(holds: Any, processes: list[Process]) -> None:
    for _ in range(20_000):
        for process in processes:
            await process.broadcast.flush()
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("readers did not come to the head of the stream")


def _in_order(got: list[tuple[str, int, int]]) -> bool:
    places = {(topic, partition) for topic, partition, _ in got}
    each = [[o for t, p, o in got if (t, p) == place] for place in places]
    return all(offsets == sorted(set(offsets)) for offsets in each)


async def test_what_expired_is_told_and_the_rest_is_given() -> None:
    log = FakeLog(PARTITIONS)
    process = Process(log, random.Random(1))
    for _ in range(200):
        log.append(PRICES, 0, "A")
    process.follow_to_the_end()
    log.low[PRICES, 0] = 50
    wire = FakeWire()
    reader = Reader(wire, LINES, Subscription((PRICES,)))
    await process.catching_up.bring(reader, {PRICES: Place("tag", (20, 0, 0))})
    assert wire.lines[0] == [
        "gap",
        "p.tag.50.0.0",
        {"reason": "expired", "topic": "prices", "partition": 0, "position": 20, "next": 50,
         "lost": 30},
    ]  # fmt: skip
    assert [one[2] for one in wire.given()] == list(range(50, 200))


async def test_a_position_behind_the_end_of_the_log_is_told() -> None:
    log = FakeLog(PARTITIONS)
    process = Process(log, random.Random(1))
    for _ in range(10):
        log.append(PRICES, 1, "A")
    process.follow_to_the_end()
    wire = FakeWire()
    reader = Reader(wire, LINES, Subscription((PRICES,)))
    await process.catching_up.bring(reader, {PRICES: Place("tag", (0, 400, 0))})
    [[name, position, gap]] = wire.lines
    assert (name, position) == ("gap", "p.tag.0.10.0")
    assert gap == {"reason": "beyond_end", "topic": "prices", "partition": 1, "position": 400,
                   "next": 10}  # fmt: skip
    log.append(PRICES, 1, "A")
    process.follow_to_the_end()
    await process.broadcast.flush()
    assert [one[2] for one in wire.given()] == [10]


async def test_a_reader_that_comes_from_a_process_that_is_ahead_gets_nothing_twice() -> None:
    log = FakeLog(PARTITIONS)
    process = Process(log, random.Random(1))
    for _ in range(10):
        log.append(PRICES, 0, "A")
    wire = FakeWire()
    reader = Reader(wire, LINES, Subscription((PRICES,)))
    bringing = asyncio.create_task(
        process.catching_up.bring(reader, {PRICES: Place("tag", (6, 0, 0))})
    )
    for _ in range(10):
        process.follow(1)
        await process.broadcast.flush()
        await asyncio.sleep(0)
    process.follow_to_the_end()
    await bringing
    await process.broadcast.flush()
    assert [one[2] for one in wire.given()] == [6, 7, 8, 9]


async def test_a_slow_reader_is_given_all_that_it_lacks_at_its_own_pace() -> None:
    log = FakeLog(PARTITIONS, pieces=1_000)
    process = Process(log, random.Random(1))
    for _ in range(3_000):
        log.append(PRICES, 0, "A")
    process.follow_to_the_end()
    wire = FakeWire(takes_all=False)
    reader = Reader(wire, LINES, Subscription((PRICES,)))
    bringing = asyncio.create_task(
        process.catching_up.bring(reader, {PRICES: Place("tag", (0, 0, 0))})
    )
    while not bringing.done():
        await asyncio.sleep(0)
        wire.take(1_000)
    assert [one[2] for one in wire.given()] == list(range(3_000))
    assert wire.given("conflated") == []
    assert wire.most_waiting < 3 * 65_536


async def test_who_comes_back_after_the_same_outage_is_given_the_same_bytes() -> None:
    log = FakeLog(PARTITIONS)
    process = Process(log, random.Random(1), kept=1_000)
    for number in range(40):
        log.append(PRICES, number % 3, "A")
        process.follow_to_the_end()
    wires = [FakeWire() for _ in range(3)]
    for wire, read in zip(wires, [(1, 0, 0), (1, 1, 0), (2, 1, 0)], strict=True):
        reader = Reader(wire, LINES, Subscription((PRICES,)))
        await process.catching_up.bring(reader, {PRICES: Place("tag", read)})
    assert [len(wire.given()) for wire in wires] == [39, 38, 37]
    # But for the span in which they come in, which is each one's own.
    assert len({id(frame) for wire in wires for frame in wire.frames[1:]}) == 9
    assert all(len(wire.frames) == 10 for wire in wires)


def test_positions_of_other_topics_are_told() -> None:
    now = {
        PRICES: Place("new", (5, 5, 5)),
        AVERAGES: Place("same", (9, 9)),
        CANDLES: Place("same", (1,)),
    }
    position = {PRICES: Place("old", (70, 1, 2)), AVERAGES: Place("same", (3,))}
    places, gaps = taken_up(position, now)
    assert places == {
        PRICES: Place("new", (0, 0, 0)),
        AVERAGES: Place("same", (3, 0)),
        CANDLES: Place("same", (1,)),
    }
    assert [(one.reason, one.topic) for one in gaps] == [
        ("other_topic", PRICES),
        ("not_asked_before", CANDLES),
    ]


def test_fewer_partitions_than_the_position_has_are_another_topic() -> None:
    places, [gap] = taken_up({PRICES: Place("tag", (1, 2))}, {PRICES: Place("tag", (7,))})
    assert places == {PRICES: Place("tag", (0,))}
    assert gap.reason == "other_topic"
