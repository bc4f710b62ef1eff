"""One connection of a feed, from opening to its end: speaks, listens, notices silence.

`services.feeds.run` makes one after the other. Nothing is read that has no room: then the vendor is
held up, and past a bound of time the connection is dropped rather than a tick. Invariant: every
frame that was read and says more than that the connection lives is in the intake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

import structlog

from pricewire.domain.feed import (
    Alive,
    Ended,
    Ready,
    Refused,
    Reply,
    Said,
    Subscribed,
    Tick,
    Unreadable,
)
from pricewire.errors import ProviderDown, ProviderError
from pricewire.services.feeds.intake import Intake
from pricewire.services.feeds.ports import Socket, VendorFeed
from pricewire.services.feeds.tally import STREAMING, Tally

SUBSCRIBING = "subscribing"
STALL_SECONDS = 10.0
"""For how long a vendor is held up before the connection is dropped."""

log = structlog.get_logger()


class Dropped(Exception):
    """What was read was not recorded fast enough: the connection was closed for that."""


class Link:
    """See the module.

    Args:
        room: set whenever something was recorded.
        heard: called after each frame that was put into the intake.
    """

    def __init__(
        self,
        feed: VendorFeed,
        intake: Intake,
        tally: Tally,
        *,
        clock: Callable[[], datetime],
        room: asyncio.Event,
        heard: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._intake = intake
        self._tally = tally
        self._clock = clock
        self._room = room
        self._heard = heard
        self._conversation = feed.converse()
        self._loop = asyncio.get_running_loop()
        self._socket: Socket | None = None
        self._outgoing: deque[str] = deque()
        self._has_outgoing = asyncio.Event()
        self._wanted: frozenset[str] = frozenset()
        self._asked: set[str] = set()
        self._ready = not feed.greets
        self._held_up = False
        self._why: ProviderError | None = None
        self._opened_at = self._alive_at = self._beat_at = self._loop.time()
        self.planned_end = False
        """It was ended because the vendor would have ended it."""
        self.ticked = False

    def want(self, symbols: Iterable[str]) -> None:
        """Subscribe to what is new, and end what is not wanted any more."""
        self._wanted = self._fitting(frozenset(symbols))
        if not self._ready or self._socket is None:
            return
        if over := sorted(self._asked - self._wanted):
            self._asked.difference_update(over)
            self._say(self._conversation.unsubscribe(over))
        if new := sorted(self._wanted - self._asked):
            self._asked.update(new)
            self._say(self._conversation.subscribe(new))
        self._tally.subscribed = len(self._asked)

    def _fitting(self, symbols: frozenset[str]) -> frozenset[str]:
        """Return as many as the vendor takes; jobs may be older than the limit."""
        most = self._feed.limits.symbols
        if most is None or len(symbols) <= most:
            return symbols
        self._tally.last_error = f"{len(symbols)} symbols are wanted; the vendor takes {most}"
        return frozenset(sorted(symbols)[:most])

    async def run(self) -> None:
        """Open the connection and listen until its end.

        Raises:
            ProviderError: how it ended.
            Dropped: the vendor was held up for too long.
        """
        socket = self._socket = await self._feed.open()
        self._opened_at = self._alive_at = self._beat_at = self._loop.time()
        self._tally.connections += 1
        self._tally.connected_since = self._clock()
        self._tally.state = SUBSCRIBING
        speaking = asyncio.create_task(self._speak(socket))
        try:
            self._say(self._conversation.opened())
            self.want(self._wanted)
            await self._listen(socket)
        except ProviderError as error:
            raise self._why or error from None
        finally:
            speaking.cancel()
            self._tally.connected_since = None
            self._tally.subscribed = 0
            await asyncio.wait([speaking])
            await socket.aclose()

    async def check(self) -> None:
        """See to silence, heartbeats and the vendor's bound of time; called every second."""
        if self._socket is None or self._why is not None:
            return
        now, limits = self._loop.time(), self._feed.limits
        if self._held_up:
            self._alive_at = now
        if self._tally.state == SUBSCRIBING and self._asked and not self._outgoing:
            # Not every vendor confirms what it takes, and at night no tick does.
            self._tally.state = STREAMING
        if limits.heartbeat_seconds is not None and now - self._beat_at >= limits.heartbeat_seconds:
            self._beat_at = now
            self._say([limits.heartbeat])
        if now - self._alive_at > limits.silence_seconds:
            await self._end(
                ProviderDown(
                    f"{self._feed.name} was silent for {limits.silence_seconds:g} s", retry_after=0
                )
            )
        elif limits.lifetime_seconds and now - self._opened_at > limits.lifetime_seconds:
            self.planned_end = True
            await self._end(ProviderDown(f"{self._feed.name} ends connections", retry_after=0))

    async def _end(self, why: ProviderError) -> None:
        self._why = self._why or why
        if self._socket is not None:
            await self._socket.aclose()

    def _say(self, texts: Sequence[str]) -> None:
        self._outgoing.extend(texts)
        self._has_outgoing.set()

    async def _speak(self, socket: Socket) -> None:
        """Send what is to be said, no faster than the vendor allows."""
        pause = 1 / self._feed.limits.messages_per_second
        with suppress(ProviderError):  # Whoever listens is told the same.
            while True:
                self._has_outgoing.clear()
                while self._outgoing:
                    await socket.send(self._outgoing.popleft())
                    await asyncio.sleep(pause)
                await self._has_outgoing.wait()

    async def _listen(self, socket: Socket) -> None:
        read, take, tally = self._conversation.read, self._intake.take, self._tally
        while True:
            if self._intake.full:
                await self._wait_for_room()
            frame = await socket.receive()
            now = self._alive_at = self._loop.time()
            if frame is None:
                continue
            received_at = tally.last_frame_at = self._clock()
            tally.frames += 1
            said = read(frame, received_at)
            ticks = [one for one in said if type(one) is Tick]
            if ticks or any(type(one) is not Alive for one in said):
                take((received_at, frame if ticks else self._feed.kept(frame)), ticks, now)
                self._heard()
            if ticks:
                tally.ticks += len(ticks)
                tally.last_tick_at = received_at
            if len(ticks) < len(said):
                self._hear(said)
            elif not self.ticked:
                self.ticked, tally.state = True, STREAMING

    def _hear(self, said: Sequence[Said]) -> None:
        for one in said:
            if isinstance(one, Reply):
                self._outgoing.appendleft(one.text)
                self._has_outgoing.set()
            elif isinstance(one, Ready):
                self._ready = True
                self.want(self._wanted)
            elif isinstance(one, Subscribed):
                self._tally.state = STREAMING
            elif isinstance(one, Refused):
                self._refused(one)
            elif isinstance(one, Unreadable):
                self._tally.unreadable += 1
                self._tally.last_error = one.detail
            elif isinstance(one, Ended):
                raise one.error

    def _refused(self, refused: Refused) -> None:
        self._tally.last_error = f"{refused.symbol}: {refused.error.code}: {refused.error.detail}"
        log.warning(
            "feed.symbol_refused",
            feed=self._feed.name,
            symbol=refused.symbol,
            error=refused.error.detail,
        )

    async def _wait_for_room(self) -> None:
        """Leave frames unread until there is room for them.

        Raises:
            Dropped: there is none for too long.
        """
        before = self._tally.state
        self._held_up, self._tally.state = True, "held up"
        try:
            async with asyncio.timeout(STALL_SECONDS):
                while self._intake.full:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise Dropped from None
        finally:
            self._held_up, self._tally.state = False, before
