"""The composition root's part for publishing: which topics the relay has, their shards and loops.

`bootstrap` runs what is made here; checks and the contract take the plans of the topics from here.
Invariant: `event_topics` is the one list that joins a topic's name with its tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pricewire.domain.event import Publication
from pricewire.kafka.check import OpenProducer
from pricewire.kafka.client import Connection
from pricewire.kafka.producer import ProducerRules, ShardProducer, producer_config
from pricewire.kafka.topic import KafkaTopic, TopicPlan
from pricewire.services.outage import Interruption, ShardStatus
from pricewire.services.publishing import Report
from pricewire.services.relay import Relay, RelayRules, ShardRelay
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.event_tables import HISTORY, LIVE, EventTables
from pricewire.storage.outbox import SqlShards


@dataclass(frozen=True, slots=True)
class EventTopic:
    """A topic that the relay publishes; one that `sleeps` is made with its first event."""

    name: str
    tables: EventTables
    sleeps: bool


def event_topics(settings: Settings) -> tuple[EventTopic, EventTopic]:
    """Return the topics of live and of past prices, in this order."""
    return (
        EventTopic(settings.kafka_price_events_topic, LIVE, sleeps=False),
        EventTopic(settings.kafka_price_history_topic, HISTORY, sleeps=True),
    )


def topic_plan(settings: Settings, partitions: int, name: str | None = None) -> TopicPlan:
    """Return what a topic of events shall be like; price-events unless another is named."""
    return TopicPlan(
        name=name or settings.kafka_price_events_topic,
        partitions=partitions,
        replication_factor=settings.kafka_topic_replication_factor,
        min_insync_replicas=settings.kafka_topic_min_insync_replicas,
        retention_hours=settings.kafka_topic_retention_hours,
    )


def open_producer(
    settings: Settings, connection: Connection, topic: str | None = None
) -> OpenProducer:
    """Return what makes a shard's producer; for price-events unless another topic is named."""
    rules = ProducerRules(
        compression=settings.kafka_producer_compression,
        linger_ms=settings.kafka_producer_linger_ms,
        batch_bytes=settings.kafka_producer_batch_bytes,
    )
    name = topic or settings.kafka_price_events_topic

    def open_publisher(
        shard: int, *, single: bool, reported: Callable[[list[Report]], None]
    ) -> ShardProducer:
        config = producer_config(connection, rules, single=single)
        return ShardProducer(config, topic=name, shard=shard, reported=reported)

    return open_publisher


class Relays:
    """The relay of each topic; close it, and stop it before.

    Args:
        run: whether this process relays; if it does not, there are no shards.
        published: called for each live event that the broker has.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        database: Database,
        partitions: int,
        *,
        run: bool,
        published: Callable[[Publication], None],
        clock: Callable[[], datetime],
    ) -> None:
        interruption = Interruption()
        # Bulk would only push out of the memory for receipts what somebody waits for.
        told = (published, lambda _: None)
        self._topics: list[KafkaTopic] = []
        relays = []
        for planned, tell in zip(event_topics(settings), told, strict=True):
            topic = KafkaTopic(connection, topic_plan(settings, partitions, planned.name))
            self._topics.append(topic)
            shards = [
                ShardRelay(
                    shard,
                    shards=SqlShards(database, planned.tables),
                    topic=topic,
                    open_publisher=open_producer(settings, connection, planned.name),
                    published=tell,
                    rules=_rules(settings, planned),
                    clock=clock,
                )
                for shard in range(partitions if run else 0)
            ]
            relays.append(Relay(shards, interruption))
        self._runs = run
        self._live, self._history = relays

    @property
    def statuses(self) -> list[ShardStatus]:
        return self._live.statuses

    @property
    def history_statuses(self) -> list[ShardStatus]:
        return self._history.statuses

    async def trouble(self) -> str | None:
        """Return why no broker answers, None while one does."""
        return await self._topics[0].trouble()

    def wake(self, shards: set[int]) -> None:
        if self._runs:
            self._live.wake(shards)

    def wake_history(self, shards: set[int]) -> None:
        if self._runs:
            self._history.wake(shards)

    async def run(self) -> None:
        """Run until `stop`; a bug in one shard ends all, loudly."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._live.run())
            group.create_task(self._history.run())

    def stop(self) -> None:
        self._live.stop()
        self._history.stop()

    def close(self) -> None:
        for topic in self._topics:
            topic.close()


def _rules(settings: Settings, topic: EventTopic) -> RelayRules:
    return RelayRules(
        topic=topic.name,
        attempt=timedelta(seconds=settings.kafka_producer_attempt_seconds),
        attempts=settings.kafka_producer_attempts,
        flush_seconds=settings.shutdown_seconds,
        sleeps=topic.sleeps,
    )
