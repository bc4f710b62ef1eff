"""Live events, and who wants which; pure.

Everything that serves the live streams uses it. Invariant: an event's data is encoded before it is
made, and what two readers are given of it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pricewire.domain.position import StreamTopic

EVENT_NAMES = {
    StreamTopic.PRICES: "price",
    StreamTopic.AVERAGES: "average",
    StreamTopic.CANDLES: "candle",
}

Passed = Mapping[tuple[StreamTopic, int], int]
"""Next offsets, by topic and partition."""


class Slow(StrEnum):
    """What becomes of a reader that does not read as fast as events come."""

    CONFLATE = "conflate"
    CUT = "cut"


@dataclass(slots=True, eq=False)
class LiveEvent:
    """A record as readers are given it.

    Args:
        series: what the newest one replaces is of the same topic, symbol and series: an average's
            kind and window, a candle's interval.
        data: the JSON object that readers get; encoded once, whoever gets it.
        index: its number since the topics are followed, and
        places: each topic's part of the position behind it; both given by `Recent`.
    """

    topic: StreamTopic
    partition: int
    offset: int
    symbol: str
    series: str
    data: bytes
    index: int = -1
    places: Mapping[StreamTopic, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return EVENT_NAMES[self.topic]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a reader asked for.

    Args:
        topics: in the order of `StreamTopic`.
        symbols: None for all.
    """

    topics: tuple[StreamTopic, ...]
    symbols: frozenset[str] | None = None

    def wants(self, event: LiveEvent) -> bool:
        return event.topic in self.topics and (self.symbols is None or event.symbol in self.symbols)

    def position(self, event: LiveEvent) -> str:
        """Return the position behind `event`, as far as it concerns these topics."""
        places = event.places
        return "~".join([places[topic] for topic in self.topics])
