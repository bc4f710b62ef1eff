"""The composition root's half for processors: settings in, a running processor out.

`bootstrap` calls it for `up` and for `pricewire processor`. Invariant: a processor has one thread
and lives inside `running_processor`; leaving makes its last checkpoint and leaves the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pricewire.domain.average import parse_averages
from pricewire.kafka.client import Connection
from pricewire.kafka.dead_letters import KafkaDeadLetters
from pricewire.kafka.ends import TopicEnds
from pricewire.kafka.follower import AveragesFollower
from pricewire.kafka.group import GroupReader, GroupRules, consumer_config
from pricewire.kafka.outputs import MAX_DEAD_LETTER_BYTES, KafkaOutputs, outputs_config
from pricewire.kafka.producer import ProducerRules
from pricewire.kafka.topic import KafkaTopic, TopicPlan
from pricewire.services.averages import Averages, Explanation
from pricewire.services.dead_letters import DeadLetters
from pricewire.services.lag import Lag
from pricewire.services.processing import Inputs
from pricewire.settings import Settings
from pricewire.storage.checkpoints import SqlCheckpoints
from pricewire.storage.database import Database
from pricewire.storage.dead_letters import SqlOutcomes
from pricewire.storage.reads import SqlReads
from pricewire.streams.averages import AveragesStep
from pricewire.streams.explained import explained
from pricewire.streams.runner import Processor, Rules
from pricewire.streams.store import LoopStore

HOUR_MS = 3_600_000

Clock = Callable[[], datetime]


@asynccontextmanager
async def running_averages(
    settings: Settings, connection: Connection, database: Database, partitions: int
) -> AsyncIterator[tuple[Processor[Any], asyncio.Task[None]]]:
    """Run the processor `averages` while inside; its task ends with what it died of."""
    topics = _Topics(settings, connection, partitions)
    processor = _averages(settings, connection, database, topics)
    task = asyncio.create_task(asyncio.to_thread(processor.run))
    try:
        yield processor, task
    finally:
        processor.stop()
        await asyncio.wait([task])
        topics.close()


def following_averages(
    settings: Settings, connection: Connection, partitions: int
) -> AveragesFollower:
    """Return a follower of the topic of averages; somebody must close it."""
    return AveragesFollower(connection, settings.kafka_moving_averages_topic, partitions)


def averages_answers(
    settings: Settings, database: Database, follower: AveragesFollower, clock: Clock
) -> Averages:
    """Return what answers for averages; the follower must outlive it."""
    return Averages(
        parse_averages(settings.averages),
        published=follower,
        explanations=_Explanations(SqlCheckpoints(database)),
        prices=SqlReads(database),
        clock=clock,
    )


@dataclass(frozen=True, slots=True)
class Processing:
    """What answers for processors that may be in other processes."""

    lag: Lag
    dead_letters: DeadLetters
    close: Callable[[], None]


def processing_answers(
    settings: Settings, connection: Connection, database: Database, partitions: int, clock: Clock
) -> Processing:
    """Return what answers for lag and dead letters; somebody must close it."""
    topics = _Topics(settings, connection, partitions)
    ends = TopicEnds(connection, topics.origin.name, partitions)
    letters = KafkaDeadLetters(connection, topics.dead_letters, topics.origin.name, partitions)

    def close() -> None:
        ends.close()
        topics.close()

    return Processing(
        lag=Lag(SqlCheckpoints(database), ends, clock=clock),
        dead_letters=DeadLetters(letters, SqlOutcomes(database)),
        close=close,
    )


class _Explanations:
    """Fulfils `Explanations`: the checkpoint's bytes, read as the step wrote them."""

    def __init__(self, checkpoints: SqlCheckpoints) -> None:
        self._checkpoints = checkpoints

    async def of(self, symbol: str) -> dict[str, Explanation]:
        states = await self._checkpoints.states(AveragesStep.name, symbol)
        # One row, but where another producer put a symbol into two partitions.
        return {
            name: window for stored in states for name, window in explained(stored.state).items()
        }

    async def symbols(self) -> set[str]:
        return await self._checkpoints.symbols(AveragesStep.name)


class _Topics:
    """The topics of the processor, made where they are missing."""

    def __init__(self, settings: Settings, connection: Connection, partitions: int) -> None:
        def topic(name: str, **changes: Any) -> KafkaTopic:
            plan: dict[str, Any] = {
                "name": name,
                "partitions": partitions,
                "replication_factor": settings.kafka_topic_replication_factor,
                "min_insync_replicas": settings.kafka_topic_min_insync_replicas,
                "retention_hours": settings.kafka_topic_retention_hours,
            }
            return KafkaTopic(connection, TopicPlan(**plan | changes))

        self.origin = topic(settings.kafka_price_events_topic)
        self.averages = topic(settings.kafka_moving_averages_topic)
        self.dead_letters = topic(
            f"{settings.kafka_price_events_topic}.dlq",
            retention_hours=-1,
            max_message_bytes=MAX_DEAD_LETTER_BYTES,
        )

    def require_outputs(self) -> None:
        self.averages.require()
        self.dead_letters.require()

    def close(self) -> None:
        for topic in (self.origin, self.averages, self.dead_letters):
            topic.close()


def _averages(
    settings: Settings, connection: Connection, database: Database, topics: _Topics
) -> Processor[Any]:
    step = AveragesStep(
        parse_averages(settings.averages), only_new_times=settings.averages_count == "new_times"
    )
    rules = ProducerRules(
        compression=settings.kafka_producer_compression,
        linger_ms=settings.kafka_producer_linger_ms,
        batch_bytes=settings.kafka_producer_batch_bytes,
    )
    group = GroupRules(
        group=f"{settings.kafka_group_prefix}-{step.name}",
        protocol=settings.kafka_group_protocol,
        session_seconds=settings.kafka_session_seconds,
    )

    def open_inputs(**callbacks: Any) -> Inputs:
        topics.origin.require()
        return GroupReader(consumer_config(connection, group), topics.origin, **callbacks)

    def open_outputs() -> KafkaOutputs:
        topics.require_outputs()
        return KafkaOutputs(
            outputs_config(connection, rules),
            topic=topics.averages.name,
            origin=topics.origin.name,
            processor=step.name,
            event_type="average.moved",
        )

    hours = settings.kafka_topic_retention_hours
    return Processor(
        step,
        open_inputs=open_inputs,
        open_outputs=open_outputs,
        store=LoopStore(SqlCheckpoints(database), step.name, asyncio.get_running_loop()),
        rules=Rules(
            checkpoint_seconds=settings.checkpoint_seconds,
            retention_ms=None if hours < 0 else hours * HOUR_MS,
        ),
    )
