"""One spell of following the topics, with the readers that came meanwhile.

`streaming` begins one with the first reader. Invariant: when the topics are no longer those that
are followed, every reader is ended and told so, since its next request says where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from pricewire.domain.position import Position, StreamTopic
from pricewire.services.live.broadcast import Broadcast, Counts, Pace
from pricewire.services.live.catching_up import CatchingUp, Gap, Log, known, taken_up
from pricewire.services.live.events import LiveEvent, Passed
from pricewire.services.live.readers import EndReason, Reader
from pricewire.services.live.recent import Recent

RECENT_BYTES = 16_777_216
MAX_SERIES = 100_000
BUG = "a bug of ours; the log has it"

log = structlog.get_logger()


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

    def died(self, error: Exception) -> None:
        """A bug of the follower's; nothing more comes."""
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


class Following:
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

    def died(self, error: Exception) -> None:
        log.critical("stream.broken", exc_info=error)
        self.over = True
        self.at_end.clear()
        self.end_all(EndReason.BROKEN, BUG)

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
