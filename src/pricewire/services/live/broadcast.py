"""Gives events to all readers that are at the head of the stream, each chunk made once.

`streaming` runs one in the event loop. Readers that asked for the same are a group: every
`FLUSH_SECONDS` what came for it becomes one chunk of bytes, which is handed to each connection as
it is. A reader whose connection has not taken what it was given is left out of its group until it
has (`Behind`), or ended, as it asked. Invariants: nobody's connection is ever waited for; only the
flush writes to readers that joined, so that chunks come in order; memory for a reader that does
not read is that of its connection and of one `Behind`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pricewire.services.live.events import LiveEvent, Passed, Slow, Subscription
from pricewire.services.live.readers import Behind, EndReason, Framing, Reader, framed
from pricewire.services.live.recent import Recent

FLUSH_SECONDS = 0.05
AT_ONCE = 100
"""Readers that are written to before others get their turn."""
PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Pace:
    """Args:
    heartbeat_seconds: after so much silence a reader is told its position.
    stalled_seconds: a reader that takes nothing for so long is ended.
    """

    heartbeat_seconds: float = 15
    stalled_seconds: float = 300


@dataclass(slots=True)
class Counts:
    """What became of events and readers here, since the start."""

    given: int = 0
    left_out: int = 0
    cut: int = 0


@dataclass(slots=True, eq=False)
class _Group:
    """Readers that asked for the same over the same kind of connection."""

    wanted: Subscription
    framing: Framing
    readers: set[Reader] = field(default_factory=set)
    fresh: list[Reader] = field(default_factory=list)
    """Joined since the last chunk: part of the next one may be before they came."""
    pending: list[LiveEvent] = field(default_factory=list)
    matched: int = 0


_Key = tuple[Subscription, Framing]


class Broadcast:
    """See the module.

    Args:
        flushed: called with the number of batches that were given out.
    """

    def __init__(
        self,
        recent: Recent,
        pace: Pace,
        clock: Callable[[], float],
        *,
        counts: Counts,
        flushed: Callable[[int], None] = lambda _batches: None,
    ) -> None:
        self.recent = recent
        self._pace = pace
        self._clock = clock
        self._counts = counts
        self._flushed = flushed
        self._groups: dict[_Key, _Group] = {}
        self._of_symbol: dict[str, list[_Group]] = defaultdict(list)
        self._of_all: list[_Group] = []
        self.catching_up: set[Reader] = set()
        """Readers that have not joined yet; they are told their positions meanwhile."""
        self._behind: set[Reader] = set()
        self._batches = 0
        self._came = asyncio.Event()

    @property
    def behind(self) -> int:
        return len(self._behind)

    # What comes in; called by the event loop, never waits.

    def take(self, events: Iterable[LiveEvent], passed: Passed) -> None:
        """Take a batch off the topics."""
        of_all, of_symbol, add = self._of_all, self._of_symbol, self.recent.add
        for event in events:
            add(event)
            for group in of_all:
                if event.topic in group.wanted.topics:
                    group.pending.append(event)
            for group in of_symbol.get(event.symbol, ()):
                if event.topic in group.wanted.topics:
                    group.pending.append(event)
        self.recent.pass_(passed)
        self._batches += 1
        self._came.set()

    def join(self, reader: Reader) -> None:
        """Give a reader what comes from now on; it has been given all before."""
        key = (reader.wanted, reader.framing)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(*key)
            self._list(group)
        reader.first_index = self.recent.next_index
        reader.behind = None
        group.fresh.append(reader)

    def leave(self, reader: Reader) -> None:
        self._behind.discard(reader)
        group = self._groups.get((reader.wanted, reader.framing))
        if group is None:
            return
        group.readers.discard(reader)
        if reader in group.fresh:
            group.fresh.remove(reader)
        if not group.readers and not group.fresh and not self._has_behind(group):
            del self._groups[reader.wanted, reader.framing]
            self._unlist(group)

    def _has_behind(self, group: _Group) -> bool:
        return any(
            one.wanted == group.wanted and one.framing is group.framing for one in self._behind
        )

    def _list(self, group: _Group) -> None:
        if group.wanted.symbols is None:
            self._of_all.append(group)
        for symbol in group.wanted.symbols or ():
            self._of_symbol[symbol].append(group)

    def _unlist(self, group: _Group) -> None:
        if group.wanted.symbols is None:
            self._of_all.remove(group)
        for symbol in group.wanted.symbols or ():
            self._of_symbol[symbol].remove(group)
            if not self._of_symbol[symbol]:
                del self._of_symbol[symbol]

    # What goes out; one task.

    async def run(self) -> None:
        """Give out what came, until cancelled."""
        while True:
            await _set_within(self._came, self._longest_wait())
            began = self._clock()
            await self.flush()
            # Connections take it meanwhile; and giving out has half of the time at most.
            await asyncio.sleep(max(FLUSH_SECONDS, self._clock() - began))

    def _longest_wait(self) -> float:
        return FLUSH_SECONDS if self._behind else min(1.0, self._pace.heartbeat_seconds / 4)

    async def flush(self) -> None:
        """Give out everything that came so far."""
        batches, self._batches = self._batches, 0
        self._came.clear()
        for group in list(self._groups.values()):
            await self._flush_group(group)
        for reader in list(self._behind):
            self._catch_up(reader)
        self._heartbeats_of_those_who_catch_up()
        self._flushed(batches)

    async def _flush_group(self, group: _Group) -> None:
        events, group.pending = group.pending, []
        fresh, group.fresh = group.fresh, []
        matched, group.matched = group.matched, group.matched + len(events)
        readers = list(group.readers)
        group.readers.update(fresh)
        if not events:
            self._heartbeats(group, readers)
            return
        for reader in fresh:
            self._offer_fresh(reader, events, group.matched)
        chunk = framed(group.framing, group.wanted, events) if readers else b""
        for number, reader in enumerate(readers, 1):
            self._offer(reader, events, chunk, matched)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _offer_fresh(self, reader: Reader, events: Sequence[LiveEvent], matched: int) -> None:
        news = [one for one in events if one.index >= reader.first_index]
        if news:
            chunk = framed(reader.framing, reader.wanted, news)
            self._offer(reader, news, chunk, matched - len(news))

    def _offer(
        self, reader: Reader, events: Sequence[LiveEvent], chunk: bytes, matched: int
    ) -> None:
        if reader.ended:
            return
        if reader.has_room:
            reader.write(chunk, self._clock())
            self._counts.given += len(events)
        elif reader.slow is Slow.CUT:
            self.cut(reader, "it did not read as fast as events came, and asked to be cut")
        else:
            self._fall_behind(reader, events[0].index, matched)

    def _fall_behind(self, reader: Reader, index: int, matched: int) -> None:
        reader.behind = Behind(index, matched, reader.waiting, self._clock())
        self._groups[reader.wanted, reader.framing].readers.discard(reader)
        self._behind.add(reader)

    def cut(self, reader: Reader, detail: str) -> None:
        self._counts.cut += 1
        self.leave(reader)
        reader.end(EndReason.TOO_SLOW, detail)

    def _heartbeats(self, group: _Group, readers: Sequence[Reader]) -> None:
        now = self._clock()
        due = now - self._pace.heartbeat_seconds
        quiet = [one for one in readers if one.spoken_at <= due and one.has_room]
        if quiet:
            position = self.recent.text(group.wanted.topics)
            chunk = group.framing.frame([group.framing.heartbeat(position)])
            for reader in quiet:
                reader.write(chunk, now)

    def _heartbeats_of_those_who_catch_up(self) -> None:
        now = self._clock()
        due = now - self._pace.heartbeat_seconds
        for reader in self.catching_up:
            if reader.spoken_at <= due and reader.has_room:
                heartbeat = reader.framing.heartbeat(reader.position())
                reader.write(reader.framing.frame([heartbeat]), now)

    # Readers that fell behind.

    def _catch_up(self, reader: Reader) -> None:
        """Give a reader that has room again the newest of each series, and what was left out."""
        behind, now = reader.behind, self._clock()
        assert behind is not None
        if not self._takes(reader, behind, now):
            return
        if behind.index <= self.recent.forgotten:
            self.cut(reader, "it was so far behind that the newest events are not all known")
            return
        newest = self.recent.newest_since(behind.index, reader.wanted)
        piece = _first_bytes(newest, PIECE_BYTES)
        group = self._groups[reader.wanted, reader.framing]
        behind.sent += len(piece)
        all_since = group.matched + len(group.pending) - behind.matched
        left_out = all_since - behind.sent - (len(newest) - len(piece))
        if left_out > behind.told:
            self._counts.left_out += left_out - behind.told
            reader.tell("conflated", None, {"left_out": left_out - behind.told}, now)
            behind.told = left_out
        reader.give(piece, now)
        self._counts.given += len(piece)
        if len(piece) == len(newest):
            self._behind.discard(reader)
            self.join(reader)
        else:
            behind.index = piece[-1].index + 1

    def _takes(self, reader: Reader, behind: Behind, now: float) -> bool:
        """Tell whether a reader has room again; ends one that takes nothing for too long."""
        waiting = reader.waiting
        if waiting == 0:
            return True
        if waiting < behind.waiting:
            behind.waiting, behind.since = waiting, now
        elif now - behind.since > self._pace.stalled_seconds:
            self.cut(reader, f"it took nothing for {self._pace.stalled_seconds:g} s")
        return False


def _first_bytes(events: Sequence[LiveEvent], most: int) -> Sequence[LiveEvent]:
    """Return the first events, up to so many bytes but at least one."""
    size = 0
    for number, event in enumerate(events):
        size += len(event.data)
        if size > most and number:
            return events[:number]
    return events


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
