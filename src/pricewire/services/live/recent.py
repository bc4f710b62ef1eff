"""The newest events of the followed topics, in memory; pure.

`following` makes one for each spell of following; `broadcast` fills it, `catching_up` gives out of
it. Invariant: it holds every event from its `start` to its `head`, each partition in the log's
order, and the newest of each series besides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pricewire.domain.position import (
    Cursor,
    Offsets,
    Place,
    Position,
    StreamTopic,
    place_text,
)
from pricewire.services.live.events import LiveEvent, Passed, Subscription

EVENT_BYTES = 500
"""What an event takes in memory besides its data."""
MARK_EVERY = 64


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the topics stood before the event of an index."""

    index: int
    offsets: Mapping[StreamTopic, tuple[int, ...]]


def _index_of(mark: _Mark) -> int:
    return mark.index


@dataclass(frozen=True, slots=True)
class Span:
    """Some events in a row.

    Args:
        end: the index behind them.
        before: where the topics stood before them, if that is known, and
        behind: where behind them.
    """

    events: Sequence[LiveEvent]
    end: int
    before: Offsets | None
    behind: Offsets


class Recent:
    """See the module.

    Args:
        start: where following begins.
        max_bytes: of events that are kept; the oldest go.
        max_series: of which the newest event is kept; the ones that were quiet longest go.
    """

    def __init__(self, start: Position, *, max_bytes: int, max_series: int) -> None:
        self.tags = {topic: place.tag for topic, place in start.items()}
        self.head = {topic: list(place.offsets) for topic, place in start.items()}
        self.places = {topic: self._text(topic) for topic in start}
        self.forgotten = -1
        """The index of the newest event that was the newest of a series that is gone."""
        self._max_bytes = max_bytes
        self._max_series = max_series
        self._events: list[LiveEvent] = []
        self._first = 0
        self._bytes = 0
        self._marks = [self._mark()]
        self._newest: dict[tuple[StreamTopic, str, str], LiveEvent] = {}

    @property
    def next_index(self) -> int:
        return self._first + len(self._events)

    @property
    def start(self) -> Mapping[StreamTopic, tuple[int, ...]]:
        return self._marks[0].offsets

    def position(self, topics: tuple[StreamTopic, ...]) -> dict[StreamTopic, Place]:
        return {topic: Place(self.tags[topic], tuple(self.head[topic])) for topic in topics}

    def text(self, topics: tuple[StreamTopic, ...]) -> str:
        return "~".join([self.places[topic] for topic in topics])

    def add(self, event: LiveEvent) -> None:
        """Take the next event; gives it its index and the position behind it."""
        if self.next_index % MARK_EVERY == 0 and self.next_index > self._marks[-1].index:
            self._marks.append(self._mark())
        self._pass(event.topic, event.partition, event.offset + 1)
        event.index = self.next_index
        event.places = self.places
        self._events.append(event)
        self._bytes += len(event.data) + EVENT_BYTES
        key = (event.topic, event.symbol, event.series)
        # Put in anew, so that the order is that of the newest events.
        self._newest.pop(key, None)
        self._newest[key] = event
        if self._bytes > self._max_bytes:
            self._forget_oldest()
        if len(self._newest) > self._max_series:
            self.forgotten = self._newest.pop(next(iter(self._newest))).index

    def pass_(self, passed: Passed) -> None:
        """Note how far the topics were read where what was read is no event."""
        for (topic, partition), next_offset in passed.items():
            if next_offset > self.head[topic][partition]:
                self._pass(topic, partition, next_offset)

    def covers(self, cursor: Cursor) -> bool:
        """Tell whether all that is to come for a reader, up to the head, is in memory."""
        return cursor.is_at_or_after(self.start)

    def index_for(self, cursor: Cursor) -> int:
        """Return an index before which there is nothing for a reader that is covered."""
        low, high = 0, len(self._marks) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if cursor.is_at_or_after(self._marks[middle].offsets):
                low = middle
            else:
                high = middle - 1
        return max(self._marks[low].index, self._first)

    def has(self, index: int) -> bool:
        return index >= self._first

    def span(self, index: int) -> Span:
        """Return the events from an index to the next mark, or to the head."""
        at = bisect_right(self._marks, index, key=_index_of)
        before = self._marks[at - 1]
        end = self._marks[at].index if at < len(self._marks) else self.next_index
        return Span(
            events=self._events[index - self._first : end - self._first],
            end=end,
            before=before.offsets if before.index == index else None,
            behind=self._marks[at].offsets if at < len(self._marks) else self.head,
        )

    def newest_since(self, index: int, wanted: Subscription) -> list[LiveEvent]:
        """Return the newest event of each wanted series, of those from `index` on; oldest first."""
        found: list[LiveEvent] = []
        for event in reversed(self._newest.values()):
            if event.index < index:
                break
            if wanted.wants(event):
                found.append(event)
        found.reverse()
        return found

    def _pass(self, topic: StreamTopic, partition: int, next_offset: int) -> None:
        self.head[topic][partition] = next_offset
        # A new mapping: events keep the one of their time.
        self.places = {**self.places, topic: self._text(topic)}

    def _text(self, topic: StreamTopic) -> str:
        return place_text(topic, self.tags[topic], self.head[topic])

    def _mark(self) -> _Mark:
        offsets = {topic: tuple(offsets) for topic, offsets in self.head.items()}
        return _Mark(self.next_index, offsets)

    def _forget_oldest(self) -> None:
        """Forget up to a mark, at least an eighth of what there is."""
        wanted = self._first + max(len(self._events) // 8, MARK_EVERY)
        at = next((n for n, mark in enumerate(self._marks) if mark.index >= wanted), None)
        if at is None:
            return
        gone = self._marks[at].index - self._first
        self._bytes -= sum(len(event.data) + EVENT_BYTES for event in self._events[:gone])
        del self._events[:gone]
        del self._marks[:at]
        self._first += gone
