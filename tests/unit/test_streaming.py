"""Who may read live streams, and when they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pricewire.domain.position import Place, StreamTopic
from pricewire.errors import KafkaUnavailable, ShuttingDown, TooManyReaders
from pricewire.services.live import streaming
from pricewire.services.live.broadcast import Pace
from pricewire.services.live.events import Slow, Subscription
from pricewire.services.live.following import Listener
from pricewire.services.live.readers import EndReason, Reader
from pricewire.services.live.streaming import Streaming
from tests.stream_tools import LINES, FakeLog, FakeWire, event

PRICES = (StreamTopic.PRICES,)
START = {StreamTopic.PRICES: Place("tag", (0,))}


class FakeFollower:
    """Fulfils `Follower`; does what the test says."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.log = FakeLog({StreamTopic.PRICES: 1})
        self.closed = False
        self.gone = threading.Event()

    def flushed(self, batches: int) -> None: ...

    def close(self) -> None:
        self.closed = True
        self.gone.set()


class Stage:
    def __init__(self, most: int = 2) -> None:
        self.followers: list[FakeFollower] = []
        self.streaming = Streaming(
            self.open, most=most, slow=Slow.CONFLATE, pace=Pace(), clock=lambda: 0.0
        )

    def open(self, listener: Listener) -> FakeFollower:
        follower = FakeFollower(listener)
        self.followers.append(follower)
        loop = asyncio.get_running_loop()
        loop.call_soon(listener.began, START, {StreamTopic.CANDLES: "no right to read it"})
        loop.call_soon(listener.at_the_end)
        return follower

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[FakeWire]:
        wire = FakeWire()
        reader = Reader(wire, LINES, Subscription(PRICES))
        with self.streaming.place():
            await self.streaming.ready(PRICES)
            self.streaming.begin(reader, None)
            yield wire
            self.streaming.leave(reader)


async def test_there_are_never_more_readers_than_may_be() -> None:
    stage = Stage(most=1)
    with stage.streaming.place(), pytest.raises(TooManyReaders), stage.streaming.place():
        pass
    with stage.streaming.place():
        assert stage.streaming.status.readers == 1
    assert stage.streaming.status.readers == 0
    await stage.streaming.aclose()


async def test_topics_are_followed_while_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IDLE_SECONDS", 0)
    stage = Stage()
    assert stage.followers == []
    async with stage.reader() as first, stage.reader():
        assert [name for name, _, _ in first.lines] == ["open"]
    assert len(stage.followers) == 1
    assert await asyncio.to_thread(stage.followers[0].gone.wait, 10)
    async with stage.reader():
        assert [one.closed for one in stage.followers] == [True, False]
    await stage.streaming.aclose()
    assert stage.followers[1].closed


async def test_a_topic_that_cannot_be_read_is_said_to_who_asks_for_it() -> None:
    stage = Stage()
    with pytest.raises(KafkaUnavailable, match="no right to read it"):
        await stage.streaming.ready([StreamTopic.PRICES, StreamTopic.CANDLES])
    await stage.streaming.aclose()


async def test_without_kafka_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "READY_SECONDS", 0)
    away = Streaming(FakeFollower, most=1, slow=Slow.CUT, pace=Pace(), clock=lambda: 0.0)
    with pytest.raises(KafkaUnavailable):
        await away.ready(PRICES)
    await away.aclose()


@pytest.mark.parametrize("change", ["changed", "died"])
async def test_other_topics_and_bugs_end_all_and_the_next_reader_begins_anew(change: str) -> None:
    stage = Stage()
    async with stage.reader() as wire:
        [follower] = stage.followers
        if change == "changed":
            follower.listener.changed("made anew")
        else:
            follower.listener.died(RuntimeError("a bug"))
        expected = {"changed": EndReason.TOPICS_CHANGED, "died": EndReason.BROKEN}
        assert wire.ended is expected[change]
        follower.listener.took([event(0)], {})
    async with stage.reader() as wire:
        assert wire.ended is None
        assert len(stage.followers) == 2
    await stage.streaming.aclose()
    assert all(one.closed for one in stage.followers)


async def test_a_stop_ends_all_and_lets_nobody_in() -> None:
    stage = Stage()
    async with stage.reader() as wire:
        stage.streaming.stop()
        assert wire.ended is EndReason.SHUTTING_DOWN
        late = FakeWire()
        assert stage.streaming.begin(Reader(late, LINES, Subscription(PRICES)), None) is None
        assert late.ended is EndReason.SHUTTING_DOWN
        with pytest.raises(ShuttingDown), stage.streaming.place():
            pass
    await stage.streaming.aclose()
