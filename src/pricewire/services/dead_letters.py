"""Dead letters: what processors set aside, looked at, put back once, or given up.

`GET` and `POST /v1/dead-letters…` ask. Invariant: a dead letter is put back at most once: it is
claimed in the database before it is produced, and where it was broken off in between, the topic is
read from where it ended before, to see whether it arrived (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from pricewire.domain.event import EventId, Source, parse_event_id, parse_source
from pricewire.errors import InvalidParameter, KafkaTrouble, NotFound

MAX_LISTED = 1_000
REDRIVE_SECONDS = 15.0
"""After so long nothing of a redrive that was broken off can arrive any more: its producer gives up
before. Then somebody else may go on with it."""


class Outcome(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVING = "redriving"
    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, order=True)
class DeadLetterId:
    """Where it stands on the topic of dead letters."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


def parse_dead_letter_id(text: str) -> DeadLetterId:
    """Return the id in `text`.

    Raises:
        InvalidParameter: `text` is not `<partition>/<offset>`.
    """
    partition, _, offset = text.partition("/")
    for number in (partition, offset):
        if not (number.isascii() and number.isdigit() and len(number) <= 18):
            raise InvalidParameter(f"{text[:64]!r} is no dead letter: it is partition/offset, 3/12")
    return DeadLetterId(int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a processor could not use, as it came, and why.

    Args:
        headers: without those that say why.
        logged_at: Kafka's timestamp of the record that it was, milliseconds.
    """

    id: DeadLetterId
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    logged_at: int
    origin_topic: str
    origin_partition: int
    origin_offset: int
    processor: str
    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class Lost:
    """An event that a processor will never count."""

    processor: str
    source: Source
    event_id: EventId


def lost_with(letter: DeadLetter) -> Lost | None:
    """Return which event is lost if a dead letter is dropped; None if it is none of ours."""
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in letter.headers}
    source = parse_source(headers.get("ce_source", ""))
    try:
        event_id = parse_event_id(headers.get("ce_id", ""))
    except InvalidParameter:
        return None
    return Lost(letter.processor, source, event_id) if source is not None else None


class DeadLetterTopic(Protocol):
    """The topic of dead letters. All raise `KafkaTrouble`."""

    @property
    def origin(self) -> str:
        """The topic that dead letters are put back on."""
        ...

    async def topic_id(self) -> str: ...

    def read(self, last: int | None) -> AsyncIterator[DeadLetter]:
        """Give the last so many of each partition, or all, in the order of each."""
        ...

    async def find(self, letter: DeadLetterId) -> DeadLetter | None: ...

    async def origin_ends(self) -> Mapping[int, int]:
        """Return where the partitions of `origin` end now."""
        ...

    async def find_put_back(self, letter: DeadLetter, start: int) -> int | None:
        """Return where it was put back, at `start` or behind; None if it was not."""
        ...

    async def put_back(self, letter: DeadLetter) -> int:
        """Produce it where it came from, marked as redriven; return its new offset."""
        ...


class Outcomes(Protocol):
    """What became of dead letters. All raise `StoreError`."""

    async def of(self, topic_id: str) -> Mapping[DeadLetterId, Outcome]: ...

    async def claim(
        self, topic_id: str, letter: DeadLetterId, outcome: Outcome, lost: Lost | None = None
    ) -> bool:
        """Note an outcome, and which event its processor waits for in vain from now on.

        False, and nothing is noted, if there is an outcome already.
        """
        ...

    async def begin(
        self, topic_id: str, letter: DeadLetterId, look_from: int, now: datetime
    ) -> bool:
        """Claim a letter for a redrive; False if it has an outcome, or somebody began already."""
        ...

    async def take_over(
        self, topic_id: str, letter: DeadLetterId, before: datetime, now: datetime
    ) -> int | None:
        """Go on with a redrive that began before a time; return where to look for what it did.

        None if there is none, or somebody else goes on with it.
        """
        ...

    async def let_go(self, topic_id: str, letter: DeadLetterId) -> None:
        """Let anybody go on with a redrive at once."""
        ...

    async def finish(self, topic_id: str, letter: DeadLetterId, new_offset: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which dead letters: by id, or the open ones of a class; `None` in both: all open ones."""

    ids: Sequence[DeadLetterId] | None = None
    error_class: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A dead letter, what became of it, and where it is now if it was put back just now."""

    letter: DeadLetter
    outcome: Outcome
    new_offset: int | None = None


def _is_open(outcome: Outcome | None, wanted: Outcome) -> bool:
    """Whether there is something to do; a redrive may have been broken off."""
    return outcome is None or (outcome is Outcome.REDRIVING and wanted is Outcome.REDRIVEN)


class DeadLetters:
    """The use cases."""

    def __init__(
        self, topic: DeadLetterTopic, outcomes: Outcomes, clock: Callable[[], datetime]
    ) -> None:
        self._topic = topic
        self._outcomes = outcomes
        self._clock = clock

    async def listed(
        self, *, limit: int, outcome: Outcome | None, error_class: str | None
    ) -> list[Told]:
        """Return the newest, newest first."""
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidParameter(f"limit={limit} is not from 1 to {MAX_LISTED}")
        outcomes = await self._outcomes.of(await self._topic.topic_id())
        last = None if outcome or error_class else limit
        found = [
            Told(letter, outcomes.get(letter.id, Outcome.OPEN))
            async for letter in self._topic.read(last)
        ]
        kept = [
            told
            for told in found
            if outcome in (None, told.outcome) and error_class in (None, told.letter.error_class)
        ]
        return sorted(kept, key=lambda told: told.letter.logged_at, reverse=True)[:limit]

    async def show(self, letter: DeadLetterId) -> Told:
        outcomes = await self._outcomes.of(await self._topic.topic_id())
        return Told(await self._found(letter), outcomes.get(letter, Outcome.OPEN))

    async def redrive(self, chosen: Chosen, *, dry_run: bool) -> list[Told]:
        """Put dead letters back on the topic that they came from, each at most once."""
        return await self._settle(chosen, Outcome.REDRIVEN, dry_run=dry_run)

    async def drop(self, chosen: Chosen, *, dry_run: bool) -> list[Told]:
        """Give dead letters up: they stay on their topic, but are open no more.

        An event of ours among them is lost for good: the gap that it left is closed and counted.
        """
        return await self._settle(chosen, Outcome.DROPPED, dry_run=dry_run)

    async def _settle(self, chosen: Chosen, outcome: Outcome, *, dry_run: bool) -> list[Told]:
        topic_id = await self._topic.topic_id()
        outcomes = await self._outcomes.of(topic_id)
        told = []
        # Before anything is put back: what is put back lies behind this.
        redrives = outcome is Outcome.REDRIVEN and not dry_run
        ends = await self._topic.origin_ends() if redrives else {}
        for letter in await self._chosen(chosen, outcomes):
            if dry_run or not _is_open(outcomes.get(letter.id), outcome):
                told.append(Told(letter, outcomes.get(letter.id, Outcome.OPEN)))
            elif outcome is Outcome.REDRIVEN:
                told.append(await self._put_back(topic_id, letter, ends))
            else:
                claimed = await self._outcomes.claim(
                    topic_id, letter.id, outcome, lost_with(letter)
                )
                told.append(Told(letter, outcome) if claimed else await self.show(letter.id))
        return told

    async def _chosen(
        self, chosen: Chosen, outcomes: Mapping[DeadLetterId, Outcome]
    ) -> Sequence[DeadLetter]:
        if chosen.ids is not None:
            return [await self._found(one) for one in dict.fromkeys(chosen.ids)]
        return [
            letter
            async for letter in self._topic.read(None)
            if outcomes.get(letter.id) in (None, Outcome.REDRIVING)
            and chosen.error_class in (None, letter.error_class)
        ]

    async def _put_back(self, topic_id: str, letter: DeadLetter, ends: Mapping[int, int]) -> Told:
        if letter.origin_topic != self._topic.origin or letter.origin_partition not in ends:
            raise InvalidParameter(
                f"dead letter {letter.id} came from {letter.origin_topic[:64]}, not from "
                f"{self._topic.origin}: nothing is put back there"
            )
        now, offset = self._clock(), None
        look_from = ends[letter.origin_partition]
        if not await self._outcomes.begin(topic_id, letter.id, look_from, now):
            before = now - timedelta(seconds=REDRIVE_SECONDS)
            begun = await self._outcomes.take_over(topic_id, letter.id, before, now)
            if begun is None:
                return await self.show(letter.id)
            offset = await self._topic.find_put_back(letter, begun)
        try:
            offset = await self._topic.put_back(letter) if offset is None else offset
        except KafkaTrouble:
            await self._outcomes.let_go(topic_id, letter.id)
            raise
        await self._outcomes.finish(topic_id, letter.id, offset)
        return Told(letter, Outcome.REDRIVEN, offset)

    async def _found(self, letter: DeadLetterId) -> DeadLetter:
        found = await self._topic.find(letter)
        if found is None:
            raise NotFound(f"there is no dead letter {letter}")
        return found
