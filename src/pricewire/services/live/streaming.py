"""Live streams of prices, averages and candles: who may read, from where, and when it is over.

`web` gives it readers, `kafka` follows the topics for it. The topics are followed while somebody
reads: a process without readers reads nothing. Invariant: there are never more than `most` readers,
and none once it was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pricewire.domain.position import Position, StreamTopic
from pricewire.errors import KafkaUnavailable, ShuttingDown, TooManyReaders
from pricewire.services.live.broadcast import Counts, Pace
from pricewire.services.live.events import Slow
from pricewire.services.live.following import Following, OpenFollower
from pricewire.services.live.readers import EndReason, Reader

READY_SECONDS = 5.0
IDLE_SECONDS = 30.0


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
        self._following: Following | None = None
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

    def _followed(self) -> Following:
        if self._following is not None and self._following.over:
            self._let_go()
        if self._following is None:
            self._following = Following(self._open_follower, self._pace, self._clock, self._counts)
        return self._following

    def _let_go(self) -> None:
        """Follow the topics no longer."""
        following, self._following = self._following, None
        if following is not None:
            task = asyncio.create_task(following.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
