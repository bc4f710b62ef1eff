"""Live streams of prices, averages and candles: who may read, from where, and when it is over.

`web` gives it readers, `kafka` follows the topics for it. The topics are followed while somebody
reads: a process without readers reads nothing. Invariants: there are never more than `most`
readers; when the topics are no longer those that were followed, every reader is ended and told so,
since its next request says where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from pricewire.domain.position import Position, StreamTopic
from pricewire.errors import KafkaUnavailable, ShuttingDown, TooManyReaders
from pricewire.services.broadcast import Broadcast, Counts, Pace
from pricewire.services.catching_up import CatchingUp, Gap, Log, known, taken_up
from pricewire.services.live import LiveEvent, Passed, Recent, Slow
from pricewire.services.readers import EndReason, Reader

log = structlog.get_logger()

READY_SECONDS = 5.0
IDLE_SECONDS = 30.0
RECENT_BYTES = 16_777_216
MAX_SERIES = 100_000
BUG = "a bug of ours; the log has it"


class Listener(Protocol):
    """What a follower tells; called by the event loop."""

    def began(self, start: Position, missing: Mapping[StreamTopic, str]) -> None:
        """The topics are followed from `start`; those that cannot be are `missing`, with why."""
        ...

    def took(self, events: Sequence[LiveEvent], passed: Passed) -> None: ...

    def at_the_end(self) -> None:
        """All that was on the topics when it began has been given."""
        ...

    def troubled(self, detail: str) -> None: ...

    def changed(self, detail: str) -> None:
        """The topics are others by now; nothing more comes."""
        ...


class Follower(Protocol):
    """Reads the topics as they grow, from shortly before their ends, in a thread of its own."""

    @property
    def log(self) -> Log: ...

    def flushed(self, batches: int) -> None:
        """So many batches were given out: as many more may come."""
        ...

    def close(self) -> None:
        """Stop; blocking."""
        ...


OpenFollower = Callable[[Listener], Follower]


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Readers of this process now, and what became of events since its start."""

    readers: int
    behind: int
    catching_up: int
    given: int
    left_out: int
    cut: int


class Streaming:
    """See the module.

    Args:
        most: readers at a time.
        slow: what becomes of a slow reader that does not say what it wants.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        open_follower: OpenFollower,
        *,
        most: int,
        slow: Slow,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self.slow = slow
        self._open_follower = open_follower
        self._most = most
        self._pace = pace
        self._clock = clock
        self._counts = Counts()
        self._admitted = 0
        self._stopped = False
        self._following: _Following | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> StreamStatus:
        broadcast = self._following.broadcast if self._following else None
        counts = self._counts
        return StreamStatus(
            readers=self._admitted,
            behind=broadcast.behind if broadcast else 0,
            catching_up=len(broadcast.catching_up) if broadcast else 0,
            given=counts.given,
            left_out=counts.left_out,
            cut=counts.cut,
        )

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a reader's place while inside.

        Raises:
            TooManyReaders: there is none.
            ShuttingDown: there will be none.
        """
        if self._stopped:
            raise ShuttingDown
        if self._admitted >= self._most:
            raise TooManyReaders(f"{self._most} readers are connected already (STREAM_READERS)")
        self._admitted += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            yield
        finally:
            self._admitted -= 1
            if self._admitted == 0 and not self._stopped:
                loop = asyncio.get_running_loop()
                self._idle = loop.call_later(IDLE_SECONDS, self._let_go)

    async def ready(self, topics: Sequence[StreamTopic]) -> None:
        """Return when these topics are followed.

        Raises:
            KafkaUnavailable: they cannot be.
        """
        following = self._followed()
        try:
            async with asyncio.timeout(READY_SECONDS):
                await following.at_end.wait()
        except TimeoutError:
            reason = following.trouble or "the topics could not be read to their ends yet"
            raise KafkaUnavailable(reason, retry_after=5) from None
        for topic in topics:
            if topic in following.missing:
                raise KafkaUnavailable(following.missing[topic], retry_after=5)

    def begin(self, reader: Reader, position: Position | None) -> asyncio.Task[None] | None:
        """Give a reader what comes after `position`, or from now on; `ready` was waited for.

        Args:
            position: what nobody can read as one is an empty one.

        Returns:
            What brings it to the head of the stream; None where it is there.
        """
        following = self._following
        if self._stopped:
            reader.end(EndReason.SHUTTING_DOWN, ShuttingDown().detail)
            return None
        if following is None or not following.at_end.is_set():
            reader.end(EndReason.TOPICS_CHANGED, "the topics are others by now; come again")
            return None
        return following.begin(reader, position)

    def leave(self, reader: Reader) -> None:
        """Forget a reader that is gone."""
        reader.gone()
        if self._following is not None:
            self._following.leave(reader)

    def stop(self) -> None:
        """Tell all readers that it is over, and let nobody in any more."""
        self._stopped = True
        if self._following is not None:
            self._following.end_all(EndReason.SHUTTING_DOWN, ShuttingDown().detail)

    async def aclose(self) -> None:
        self.stop()
        if self._idle is not None:
            self._idle.cancel()
        self._let_go()
        if self._closing:
            await asyncio.wait(self._closing)

    def _followed(self) -> _Following:
        if self._following is not None and self._following.over:
            self._let_go()
        if self._following is None:
            self._following = _Following(self._open_follower, self._pace, self._clock, self._counts)
        return self._following

    def _let_go(self) -> None:
        """Follow the topics no longer."""
        following, self._following = self._following, None
        if following is not None:
            task = asyncio.create_task(following.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Following:
    """One spell of following the topics, with its readers; fulfils `Listener`."""

    def __init__(
        self, open_follower: OpenFollower, pace: Pace, clock: Callable[[], float], counts: Counts
    ) -> None:
        self.at_end = asyncio.Event()
        self.over = False
        self.trouble: str | None = None
        self.missing: Mapping[StreamTopic, str] = {}
        self.broadcast: Broadcast | None = None
        self._catching_up: CatchingUp | None = None
        self._pace = pace
        self._clock = clock
        self._counts = counts
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self._follower = open_follower(self)

    def began(self, start: Position, missing: Mapping[StreamTopic, str]) -> None:
        self.missing = missing
        recent = Recent(start, max_bytes=RECENT_BYTES, max_series=MAX_SERIES)
        self.broadcast = Broadcast(
            recent,
            self._pace,
            self._clock,
            counts=self._counts,
            flushed=self._follower.flushed,
        )
        self._catching_up = CatchingUp(
            self.broadcast,
            self._follower.log,
            self._clock,
            stalled_seconds=self._pace.stalled_seconds,
        )
        self._task = asyncio.create_task(self.broadcast.run())
        self._task.add_done_callback(self._broadcast_ended)

    def took(self, events: Sequence[LiveEvent], passed: Passed) -> None:
        if self.broadcast is not None and not self.over:
            self.broadcast.take(events, passed)

    def at_the_end(self) -> None:
        self.at_end.set()

    def troubled(self, detail: str) -> None:
        self.trouble = detail

    def changed(self, detail: str) -> None:
        self.over = True
        self.at_end.clear()
        self.end_all(EndReason.TOPICS_CHANGED, detail)

    def begin(self, reader: Reader, position: Position | None) -> asyncio.Task[None] | None:
        assert self.broadcast is not None
        assert self._catching_up is not None
        self._readers.add(reader)
        now = self.broadcast.recent.position(reader.wanted.topics)
        if not position:
            self._open(reader, self.broadcast.recent.text(reader.wanted.topics))
            if position is not None:
                self._tell(reader, Gap("unknown_position"))
            self.broadcast.join(reader)
            return None
        places, gaps = taken_up(position, now)
        self._open(reader, None)
        for gap in gaps:
            self._tell(reader, gap)
        task = asyncio.create_task(self._catching_up.bring(reader, places))

        def ended(done: asyncio.Task[None]) -> None:
            if _crashed(done):
                reader.end(EndReason.BROKEN, BUG)

        task.add_done_callback(ended)
        return task

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        if self.broadcast is not None:
            self.broadcast.leave(reader)

    def end_all(self, reason: EndReason, detail: str) -> None:
        for reader in self._readers:
            reader.end(reason, detail)

    def _broadcast_ended(self, task: asyncio.Task[None]) -> None:
        if _crashed(task):
            self.over = True
            self.end_all(EndReason.BROKEN, BUG)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await asyncio.to_thread(self._follower.close)

    def _open(self, reader: Reader, position: str | None) -> None:
        symbols = None if reader.wanted.symbols is None else sorted(reader.wanted.symbols)
        data = {"topics": reader.wanted.topics, "symbols": symbols, "slow": reader.slow}
        reader.tell("open", position, data, self._clock())

    def _tell(self, reader: Reader, gap: Gap) -> None:
        reader.tell("gap", None, known(gap), self._clock())


def _crashed(task: asyncio.Task[None]) -> bool:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.critical("stream.broken", exc_info=error)
    return error is not None
