"""What a shard tells of itself, and of an event that the broker does not take.

The relay feeds it, health and metrics read the status. Invariant: attempts are computed from the
time of the hand-over and change nothing in what is published; an outage is one error line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from pricewire.domain.event import EventId, failed_attempts
from pricewire.services.publishing import ShardStore

log = structlog.get_logger()


@dataclass(slots=True)
class ShardStatus:
    """What a shard is doing, for health, metrics and the log."""

    shard: int
    phase: str = "waiting for the lock"
    generation: int = 0
    published: int = 0
    found_on_topic: int = 0
    rebuilds: int = 0
    attempts: int = 0
    stuck: EventId | None = None
    last_error: str | None = None


class Outage:
    """Counts how long a shard's first unpublished event has been tried.

    Args:
        attempt: how long one attempt lasts.
        attempts: how many failed ones make the event stuck.
    """

    def __init__(self, status: ShardStatus, *, attempt: timedelta, attempts: int) -> None:
        self._status = status
        self._attempt = attempt
        self._attempts = attempts
        self._first: tuple[EventId, datetime] | None = None
        self._told = 0
        self._inherited: datetime | None = None

    def resume(self, blocked_since: datetime | None) -> None:
        """Take over what a former owner told the database; it holds until an event is published."""
        self._inherited = blocked_since

    async def goes_on(
        self,
        store: ShardStore,
        event_id: EventId,
        tried_since: datetime,
        now: datetime,
        error: str | None,
    ) -> None:
        """Note that `event_id` is the first that is not published yet."""
        moved_on = self._first is not None and self._first[0] != event_id
        if self._first is None or moved_on:
            self._first = (event_id, tried_since)
        since = self._first[1]
        attempts = failed_attempts(
            now=now, blocked_since=since, recorded_at=since, attempt=self._attempt
        )
        self._status.last_error = error or self._status.last_error
        if attempts == 0:
            if moved_on or self._inherited is None:
                await self._ended(store)
            return
        self._status.attempts = attempts
        if attempts > self._told:
            self._told = attempts
            await store.tell_blocked(self._inherited or since, self._status.last_error)
        if attempts >= self._attempts and self._status.stuck is None:
            self._say_stuck(event_id)

    async def over(self, store: ShardStore) -> None:
        """Note that nothing is unpublished."""
        self._first = None
        await self._ended(store)

    async def _ended(self, store: ShardStore) -> None:
        self._status.attempts = 0
        if self._told or self._inherited:
            self._told = 0
            self._inherited = None
            await store.tell_blocked(None, None)
        if self._status.stuck is not None:
            log.info("relay.recovered", shard=self._status.shard, event_id=str(self._status.stuck))
            self._status.stuck = None

    def _say_stuck(self, event_id: EventId) -> None:
        self._status.stuck = event_id
        log.error(
            "event.stuck",
            shard=self._status.shard,
            event_id=str(event_id),
            attempts=self._status.attempts,
            reason=self._status.last_error or "no report from the broker",
            meaning="kept, and published in order as soon as the broker takes it",
        )
