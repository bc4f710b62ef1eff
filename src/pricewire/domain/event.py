"""Events, their ids, and what is known of their publication.

The door makes events, the relay publishes them, the API tells their receipts. Invariant: an id is
`<symbol>~<sequence>`, of a past price `<symbol>~h<sequence>` (two series that know nothing of each
other), made once and never given to two different prices of one source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pricewire.domain.quote import Quote
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter, InvalidSymbol

PRICE_RECORDED = "price.recorded"
PRICE_BACKFILLED = "price.backfilled"
BACKFILLED_MARK = "h"
"""Begins the number in the id of a past price."""

_SOURCE = re.compile(r"/pricewire/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([0-9]{1,9})")

MAX_VALUE_BYTES = 8 * 1024
"""Bound of one record at the door: far above any price event, far below any broker's limit."""


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """The id of an event; `backfilled` ones are of past prices, numbered apart from live ones."""

    symbol: str
    sequence: int
    backfilled: bool = False

    def __str__(self) -> str:
        mark = BACKFILLED_MARK if self.backfilled else ""
        return f"{self.symbol}~{mark}{self.sequence}"


def parse_event_id(text: str) -> EventId:
    """Return the id in `text`.

    Raises:
        InvalidParameter: `text` is neither `<symbol>~<sequence>` nor `<symbol>~h<sequence>`.
    """
    symbol, _, marked = text.rpartition("~")
    number = marked.removeprefix(BACKFILLED_MARK)
    try:
        parse_symbol(symbol)
    except InvalidSymbol:
        number = ""
    if not (number.isascii() and number.isdigit() and len(number) <= 18 and number[0] != "0"):
        raise InvalidParameter(
            f"{text[:64]!r} is no event id: it is <symbol>~<sequence>, AAPL~12, or of a past price "
            "<symbol>~h<sequence>, AAPL~h12"
        )
    return EventId(symbol, int(number), number != marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A price on its way through the door, complete but for its number.

    Args:
        position: place of the quote in the raw answer; with the raw response's id it is the
            identity by which a repeated record is found.
        value: the record's bytes as they will be on the topic.
        headers: only those that say something beyond the five that every event has.
    """

    quote: Quote
    raw_response_id: UUID
    position: int
    provider: str
    shard: int
    value: bytes
    headers: tuple[tuple[str, str], ...]
    fetched_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedPrice:
    """A price that is committed, with the id of its event."""

    event_id: EventId
    draft: Draft


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event in the outbox, as the relay reads it."""

    outbox_id: int
    event_id: EventId
    type: str
    raw_response_id: UUID
    recorded_at: datetime
    value: bytes
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Publication:
    """Where an event is on the topic; `offset` is None where the broker reported none."""

    event_id: EventId
    generation: int
    topic: str
    partition: int
    offset: int | None
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Source:
    """The store an event comes from: `/pricewire/<store id>/<generation>`, header `ce_source`."""

    store_id: UUID
    generation: int

    def __str__(self) -> str:
        return f"/pricewire/{self.store_id}/{self.generation}"


def parse_source(text: str) -> Source | None:
    """Return the source in `text`, None where it is somebody else's."""
    match = _SOURCE.fullmatch(text)
    return Source(UUID(match[1]), int(match[2])) if match else None


class EventState(StrEnum):
    QUEUED = "queued"
    PUBLISHED = "published"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is known of an event's publication; `attempts` counts failed ones."""

    event_id: EventId
    type: str
    raw_response_id: UUID
    recorded_at: datetime
    state: EventState
    attempts: int = 0
    last_error: str | None = None
    publication: Publication | None = None


def failed_attempts(
    *, now: datetime, blocked_since: datetime | None, recorded_at: datetime, attempt: timedelta
) -> int:
    """Count the attempts that an unpublished event has behind it.

    An attempt is one span of `attempt` without a delivery report while the shard is blocked:
    librdkafka itself never gives up, so time is the only thing that can be counted.
    """
    if blocked_since is None:
        return 0
    # What was recorded later than now was recorded by a clock that has been set back since.
    since = blocked_since if recorded_at > now else max(blocked_since, recorded_at)
    return max(0, (now - since) // attempt)
