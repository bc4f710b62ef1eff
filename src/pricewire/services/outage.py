"""What a shard tells of itself, and of an event that the broker does not take.

The relay feeds it, health and metrics read the status. Invariant: attempts are computed from the
time of the hand-over and change nothing in what is published; an outage is one error line; a clock
that is set does not change what is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from pricewire.domain.event import EventId
from pricewire.errors import KafkaTrouble, TopicMismatch
from pricewire.services.publishing import Position, ShardStore

KAFKA_AWAY = "Kafka is away"
TOPIC_MISMATCH = "topic is not as configured"
_NO_REPORT = "no report from the broker"
_LACKS = "what was published before is not on it; `pricewire verify outbox` names what it lacks"

log = structlog.get_logger()


@dataclass(slots=True)
class ShardStatus:
    """What a shard is doing, for health, metrics and the log."""

    shard: int
    topic: str = ""
    phase: str = "waiting for the lock"
    generation: int = 0
    published: int = 0
    found_on_topic: int = 0
    rebuilds: int = 0
    attempts: int = 0
    stuck: EventId | None = None
    last_error: str | None = None


class Interruption:
    """Says once for all shards of all topics why Kafka takes nothing, and once that it does again.

    A shard is told by its number, and by its topic where there are several.
    """

    def __init__(self) -> None:
        self._shards: set[tuple[str, int]] = set()
        self._told: set[str] = set()

    def met(self, shard: int, reason: str, topic: str = "") -> None:
        """Note that `shard` cannot publish; another reason in the same interruption is told too."""
        self._shards.add((topic, shard))
        if reason not in self._told:
            self._told.add(reason)
            log.warning("relay.interrupted", shard=shard, reason=reason, meaning="events are kept")

    def over(self, shard: int, topic: str = "") -> None:
        """Note that `shard` publishes, or would if it had anything to publish."""
        self._shards.discard((topic, shard))
        if self._told and not self._shards:
            self._told.clear()
            log.info("relay.resumed")


class Outage:
    """Counts how long a shard's first unpublished event has been tried.

    Args:
        attempt: how long one attempt lasts.
        attempts: how many failed ones make the event stuck.
        clock: for what others read; time is counted by the event loop's, which nobody sets.
    """

    def __init__(
        self,
        status: ShardStatus,
        *,
        attempt: timedelta,
        attempts: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._status = status
        self._attempt = attempt
        self._attempts = attempts
        self._clock = clock
        self._first: tuple[EventId, float] | None = None
        self._told = 0
        self._told_since: datetime | None = None
        self._inherited: datetime | None = None
        self._mismatch: str | None = None
        self.interruption = Interruption()
        """Its own until it is given the one of all shards."""

    def resume(self, blocked_since: datetime | None) -> None:
        """Take over what a former owner told the database; it holds until an event is published."""
        self._inherited = blocked_since

    def interrupted(self, error: KafkaTrouble) -> None:
        """Note why nothing is published now; the same is said once."""
        self._status.last_error = error.detail
        mismatch = error.detail if isinstance(error, TopicMismatch) else None
        self._status.phase = TOPIC_MISMATCH if mismatch else KAFKA_AWAY
        if mismatch and mismatch != self._mismatch:
            log.error(
                "topic.mismatch",
                shard=self._status.shard,
                reason=mismatch,
                meaning="events are kept, and published in order once the topic is right",
            )
        elif not mismatch:
            self.interruption.met(self._status.shard, error.detail, self._status.topic)
        self._mismatch = mismatch

    def flows(self) -> None:
        """Note that an event was published, or that none waits."""
        self.interruption.over(self._status.shard, self._status.topic)

    async def goes_on(
        self,
        store: ShardStore,
        event_id: EventId,
        tried_since: float,
        now: float,
        error: str | None,
        complaint: str | None,
    ) -> None:
        """Note that `event_id` is the first that is not published yet.

        Args:
            tried_since, now: times of the event loop, in seconds.
            error: what the client complained about last, maybe of another broker.
            complaint: why the partition itself takes nothing; says more, once an attempt failed.
        """
        moved_on = self._first is not None and self._first[0] != event_id
        if self._first is None or moved_on:
            self._first = (event_id, tried_since)
        waited = timedelta(seconds=now - self._first[1])
        attempts = waited // self._attempt
        self._status.last_error = (
            (complaint if attempts else None) or error or self._status.last_error
        )
        if attempts == 0:
            if moved_on or self._inherited is None:
                await self._ended(store)
            return
        self._status.attempts = attempts
        self._status.last_error = self._status.last_error or _NO_REPORT
        if attempts > self._told:
            self._told = attempts
            await store.tell_blocked(self._blocked_since(waited), self._status.last_error)
        if attempts >= self._attempts and self._status.stuck is None:
            self._say_stuck(event_id)

    def _blocked_since(self, waited: timedelta) -> datetime:
        """Return since when, by the clock as it is now: it may have been set in between."""
        since = self._clock() - waited
        if self._inherited is not None and self._inherited < since:
            return self._inherited
        if self._told_since is None or abs(self._told_since - since) > self._attempt:
            self._told_since = since
        return self._told_since

    async def over(self, store: ShardStore) -> None:
        """Note that nothing is unpublished."""
        self._first = None
        await self._ended(store)

    async def _ended(self, store: ShardStore) -> None:
        self._status.attempts = 0
        if self._told or self._inherited:
            self._told = 0
            self._told_since = None
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
            reason=self._status.last_error,
            meaning="kept, and published in order as soon as the broker takes it",
        )


def tell_replaced(shard: int, kept: Position | None, found: Position | None) -> None:
    """Say that a partition lacks what was published to it, where that is to be seen.

    Args:
        kept: up to where it was published, as the database has it.
        found: where the partition ends now; None where that is not known.
    """
    if kept is None or found is None or kept.next_offset == 0:
        return
    if kept.topic_id != found.topic_id:
        log.warning(
            "topic.replaced",
            shard=shard,
            dropped_position=kept.next_offset,
            old_topic_id=kept.topic_id,
            topic_id=found.topic_id,
            meaning=f"this is a new topic: {_LACKS}",
        )
    elif found.next_offset < kept.next_offset:
        log.error(
            "topic.went_back",
            shard=shard,
            dropped_position=kept.next_offset,
            end=found.next_offset,
            meaning=f"the broker lost records that it had confirmed: {_LACKS}",
        )
