"""How far a reader of the live stream has come in the log: one number for each partition; pure.

`services` compares positions, `web` hands them out with each event and takes them back. Invariant:
what a reader was given is exactly what lies before its position, so that nobody has to remember it.

As text: `p.<tag>.<next offset>.<next offset>…`, one such part for each topic (`p` prices, `a`
averages, `c` candles), `~` between them. The tag is the end of the topic's id: in a topic that was
made anew the same numbers mean something else. Nothing in it needs quoting in a URL or a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pricewire.errors import InvalidParameter

TAG_LENGTH = 8
MAX_POSITION_LENGTH = 65_536
_PART = re.compile(r"([pac])\.([A-Za-z0-9_-]{1,8})((?:\.(?:0|[1-9][0-9]{0,17}))+)")


class StreamTopic(StrEnum):
    PRICES = "prices"
    AVERAGES = "averages"
    CANDLES = "candles"


_LETTERS = {one: one.value[0] for one in StreamTopic}
_TOPICS = {letter: one for one, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """How far one topic was read: which one it was, and the next offset of each partition."""

    tag: str
    offsets: tuple[int, ...]


Position = Mapping[StreamTopic, Place]
Offsets = Mapping[StreamTopic, Sequence[int]]


def tag_of(topic_id: str) -> str:
    """Return the tag of a topic; librdkafka writes ids with `+` and `/`, Kafka with `-` and `_`."""
    return topic_id[-TAG_LENGTH:].replace("+", "-").replace("/", "_")


def place_text(topic: StreamTopic, tag: str, offsets: Iterable[int]) -> str:
    return f"{_LETTERS[topic]}.{tag}.{'.'.join(map(str, offsets))}"


def position_text(position: Position) -> str:
    return "~".join(place_text(topic, one.tag, one.offsets) for topic, one in position.items())


def parse_position(text: str) -> dict[StreamTopic, Place]:
    """Return the position that `text` is.

    Raises:
        InvalidParameter: it is none.
    """
    found: dict[StreamTopic, Place] = {}
    for part in text[: MAX_POSITION_LENGTH + 1].split("~"):
        match = _PART.fullmatch(part)
        if match is None or len(text) > MAX_POSITION_LENGTH or _TOPICS[match[1]] in found:
            raise InvalidParameter(
                f"{text[:64]!r} is no position in the stream: give the id of an event of it"
            )
        offsets = tuple(int(number) for number in match[3][1:].split("."))
        found[_TOPICS[match[1]]] = Place(match[2], offsets)
    return found


class Cursor:
    """Where one reader is; moves as it is given events."""

    def __init__(self, position: Position) -> None:
        self._tags = {topic: place.tag for topic, place in position.items()}
        self.next = {topic: list(place.offsets) for topic, place in position.items()}

    def wants(self, topic: StreamTopic, partition: int, offset: int) -> bool:
        """Tell whether a record is still to come for this reader."""
        return offset >= self.next[topic][partition]

    def pass_(self, topic: StreamTopic, partition: int, next_offset: int) -> None:
        """Note that everything before an offset was given, or is nothing for this reader."""
        offsets = self.next[topic]
        offsets[partition] = max(offsets[partition], next_offset)

    def pass_all(self, offsets: Offsets) -> None:
        for topic, own in self.next.items():
            own[:] = map(max, own, offsets[topic])

    def text(self) -> str:
        return "~".join(
            place_text(topic, self._tags[topic], offsets) for topic, offsets in self.next.items()
        )

    def is_at_or_after(self, offsets: Offsets) -> bool:
        """Tell whether all before `offsets` was given, in the topics of this reader."""
        return all(
            mine >= other
            for topic, own in self.next.items()
            for mine, other in zip(own, offsets[topic], strict=True)
        )

    def is_at_or_before(self, offsets: Offsets) -> bool:
        return all(
            mine <= other
            for topic, own in self.next.items()
            for mine, other in zip(own, offsets[topic], strict=True)
        )
