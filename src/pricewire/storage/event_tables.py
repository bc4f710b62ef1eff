"""Which tables hold the events of which topic; the one place that lists what the relay publishes.

`outbox`, `reads`, `verification` and whatever must look at every topic take their tables from here.
Invariant: events, outbox, publications and shards of one topic are never joined with another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, literal

from pricewire.domain.event import PRICE_BACKFILLED, EventId
from pricewire.storage.database import Rank
from pricewire.storage.tables import (
    events,
    history_outbox,
    history_prices,
    history_publications,
    history_shards,
    outbox,
    publications,
    shards,
)


@dataclass(frozen=True, slots=True, eq=False)
class EventTables:
    """The tables of one topic's events.

    Args:
        events: has symbol, sequence, raw_response_id, recorded_at, value, headers.
        type: the events' `ce_type`.
        rank: of the relay's marks.
        lock_class: first key of the advisory locks of its shards; the second is the shard.
    """

    backfilled: bool
    events: Table
    type: ColumnElement[str]
    outbox: Table
    publications: Table
    shards: Table
    rank: Rank
    lock_class: int

    def event_id(self, symbol: str, sequence: int) -> EventId:
        return EventId(symbol, sequence, self.backfilled)

    def own(self, ids: Sequence[EventId]) -> Sequence[EventId]:
        """Return those that these tables may have: an id of the other series is another event."""
        return [one for one in ids if one.backfilled == self.backfilled]

    def same_event(self, left: Table, right: Table) -> ColumnElement[bool]:
        """Return the condition that rows of two of these tables are of one event."""
        return (left.c.symbol == right.c.symbol) & (left.c.sequence == right.c.sequence)


LIVE = EventTables(
    backfilled=False,
    events=events,
    type=events.c.type,
    outbox=outbox,
    publications=publications,
    shards=shards,
    rank=Rank.RELAY,
    lock_class=0x50_57,
)
HISTORY = EventTables(
    backfilled=True,
    events=history_prices,
    type=literal(PRICE_BACKFILLED).label("type"),
    outbox=history_outbox,
    publications=history_publications,
    shards=history_shards,
    # Behind whatever live prices need written.
    rank=Rank.OTHER,
    lock_class=0x50_48,
)
ALL_EVENT_TABLES = (LIVE, HISTORY)


def tables_of(event_id: EventId) -> EventTables:
    return HISTORY if event_id.backfilled else LIVE
