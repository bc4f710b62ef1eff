"""The composition root's half for processors: settings in, a running processor out.

`bootstrap` calls it for `up` and for `pricewire processor`. Which processors there are is in
`PROCESSORS`, and nowhere else. Invariant: a processor has one thread and lives inside
`running_processor`; leaving makes its last checkpoint and leaves the group.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from pricewire.domain.average import parse_averages
from pricewire.domain.candle import Series
from pricewire.kafka.client import Connection
from pricewire.kafka.dead_letters import KafkaDeadLetters
from pricewire.kafka.ends import TopicEnds
from pricewire.kafka.follower import AveragesFollower
from pricewire.kafka.group import GroupReader, GroupRules, consumer_config
from pricewire.kafka.outputs import MAX_DEAD_LETTER_BYTES, KafkaOutputs, outputs_config
from pricewire.kafka.producer import ProducerRules
from pricewire.kafka.records import RecordReader
from pricewire.kafka.topic import KafkaTopic, TopicPlan
from pricewire.services.averages import Averages, Explanation
from pricewire.services.candles import Candles
from pricewire.services.dead_letters import DeadLetters
from pricewire.services.lag import Lag
from pricewire.services.processing import Inputs
from pricewire.settings import Settings
from pricewire.storage.candles import SqlCandles
from pricewire.storage.checkpoints import SqlCheckpoints
from pricewire.storage.database import Database
from pricewire.storage.dead_letters import SqlOutcomes
from pricewire.storage.reads import SqlReads
from pricewire.streams.averages import MOVED, AveragesStep
from pricewire.streams.candles import CLOSED, CandlesStep
from pricewire.streams.explained import explained
from pricewire.streams.partition import Step
from pricewire.streams.runner import Processor, Rules
from pricewire.streams.store import LoopStore

HOUR_MS = 3_600_000
COLLECT_AFTER = 50_000

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One processor: what it reads, what computes, what it puts out.

    Args:
        origin: the topic that it reads, and
        output: the one that it writes, by the settings.
        event_type: `ce_type` of what it puts out.
        mark: begins the number in an id on `origin`; see `kafka.records`.
    """

    step: Callable[[Settings], Step[Any]]
    origin: Callable[[Settings], str]
    output: Callable[[Settings], str]
    event_type: str
    mark: str = ""


def _averages_step(settings: Settings) -> AveragesStep:
    only_new_times = settings.averages_count == "new_times"
    return AveragesStep(parse_averages(settings.averages), only_new_times=only_new_times)


PROCESSORS: Mapping[str, Recipe] = {
    "averages": Recipe(
        step=_averages_step,
        origin=lambda settings: settings.kafka_price_events_topic,
        output=lambda settings: settings.kafka_moving_averages_topic,
        event_type=MOVED,
    ),
    # Apart, for two topics have no order between them: what came out of both in one state would
    # be another thing each time.
    "candles": Recipe(
        step=lambda _: CandlesStep("candles", Series.LIVE),
        origin=lambda settings: settings.kafka_price_events_topic,
        output=lambda settings: settings.kafka_candles_topic,
        event_type=CLOSED,
    ),
    "candles-history": Recipe(
        step=lambda _: CandlesStep("candles-history", Series.HISTORY),
        origin=lambda settings: settings.kafka_price_history_topic,
        output=lambda settings: settings.kafka_candles_topic,
        event_type=CLOSED,
        mark="h",
    ),
}
"""All processors, by the name that `pricewire processor` and the consumer groups have for them."""


def _rest_the_collector() -> None:
    """Have Python look for cycles less often than after each 700 new objects.

    A batch of records is tens of thousands of lists and tuples, none of them in a cycle, that live
    for milliseconds; what was made until now lives as long as the process.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


@asynccontextmanager
async def running_processor(
    name: str, settings: Settings, connection: Connection, database: Database, partitions: int
) -> AsyncIterator[tuple[Processor[Any], asyncio.Task[None]]]:
    """Run a processor while inside; its task ends with what it died of."""
    _rest_the_collector()
    recipe = PROCESSORS[name]
    topics = _Topics(recipe, settings, connection, partitions)
    processor = _processor(recipe, settings, connection, database, topics, partitions)
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


def candles_answers(database: Database, partition_of: Callable[[str], int]) -> Candles:
    """Return what answers for candles."""
    series = {"candles": Series.LIVE, "candles-history": Series.HISTORY}
    return Candles(SqlCandles(database, series), partition_of=partition_of)


@dataclass(frozen=True, slots=True)
class Processing:
    """What answers for processors that may be in other processes.

    Args:
        dead_letters: of each topic that a processor reads, `price-events` first.
    """

    lag: Lag
    dead_letters: Mapping[str, DeadLetters]
    close: Callable[[], None]


def processing_answers(
    settings: Settings, connection: Connection, database: Database, partitions: int, clock: Clock
) -> Processing:
    """Return what answers for lag and dead letters; somebody must close it."""
    origins = {name: recipe.origin(settings) for name, recipe in PROCESSORS.items()}
    topics = tuple(dict.fromkeys(origins.values()))
    ends = {topic: TopicEnds(connection, topic, partitions) for topic in topics}
    dead = {topic: _dead_letter_topic(topic, settings, connection, partitions) for topic in topics}

    def close() -> None:
        for topic in topics:
            ends[topic].close()
            dead[topic].close()

    return Processing(
        lag=Lag(SqlCheckpoints(database), topics=origins, ends=ends, clock=clock),
        dead_letters={
            topic: DeadLetters(
                KafkaDeadLetters(connection, dead[topic], topic, partitions),
                SqlOutcomes(database),
                clock,
            )
            for topic in topics
        },
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


def _plan(name: str, settings: Settings, partitions: int) -> TopicPlan:
    return TopicPlan(
        name=name,
        partitions=partitions,
        replication_factor=settings.kafka_topic_replication_factor,
        min_insync_replicas=settings.kafka_topic_min_insync_replicas,
        retention_hours=settings.kafka_topic_retention_hours,
    )


def _dead_letter_topic(
    origin: str, settings: Settings, connection: Connection, partitions: int
) -> KafkaTopic:
    plan = replace(
        _plan(f"{origin}.dlq", settings, partitions),
        retention_hours=-1,
        max_message_bytes=MAX_DEAD_LETTER_BYTES,
    )
    return KafkaTopic(connection, plan)


class _Topics:
    """The topics of a processor, made where they are missing."""

    def __init__(
        self, recipe: Recipe, settings: Settings, connection: Connection, partitions: int
    ) -> None:
        name = recipe.origin(settings)
        self.origin = KafkaTopic(connection, _plan(name, settings, partitions))
        self.output = KafkaTopic(connection, _plan(recipe.output(settings), settings, partitions))
        self._dead_letters = _dead_letter_topic(name, settings, connection, partitions)

    def require_outputs(self) -> None:
        self.output.require()
        self._dead_letters.require()

    def close(self) -> None:
        for topic in (self.origin, self.output, self._dead_letters):
            topic.close()


def _processor(
    recipe: Recipe,
    settings: Settings,
    connection: Connection,
    database: Database,
    topics: _Topics,
    partitions: int,
) -> Processor[Any]:
    step = recipe.step(settings)
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
        config = consumer_config(connection, group)
        records = partial(RecordReader, mark=recipe.mark, processor=step.name)
        return GroupReader(config, topics.origin, open_records=records, **callbacks)

    def open_outputs() -> KafkaOutputs:
        topics.require_outputs()
        return KafkaOutputs(
            outputs_config(connection, rules),
            topic=topics.output.name,
            origin=topics.origin.name,
            processor=step.name,
            event_type=recipe.event_type,
        )

    hours = settings.kafka_topic_retention_hours
    return Processor(
        step,
        open_inputs=open_inputs,
        open_outputs=open_outputs,
        store=LoopStore(
            SqlCheckpoints(database, partitions), step.name, asyncio.get_running_loop()
        ),
        rules=Rules(
            checkpoint_seconds=settings.checkpoint_seconds,
            retention_ms=None if hours < 0 else hours * HOUR_MS,
        ),
    )
