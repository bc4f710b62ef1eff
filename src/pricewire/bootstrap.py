"""The composition root: settings in, running services out; the only importer of adapters.

The CLI calls it. Invariant: everything that is started here is stopped here, in the order in which
nothing is lost: the door first, then the relay, then the database, the local Kafka last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from confluent_kafka import murmur2

from pricewire.bootstrap_latest import Guards, latest_prices
from pricewire.bootstrap_providers import Listed, listed, made
from pricewire.bootstrap_sessions import market_sessions
from pricewire.bootstrap_streams import (
    PROCESSORS,
    Processing,
    averages_answers,
    following_averages,
    processing_answers,
    running_processor,
)
from pricewire.domain.event import Publication, Source
from pricewire.errors import StartupError
from pricewire.kafka.check import OpenProducer
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import encode_price_event
from pricewire.kafka.memory import MEMORY_PARTITIONS
from pricewire.kafka.producer import ProducerRules, ShardProducer, producer_config
from pricewire.kafka.topic import KafkaTopic, TopicPlan
from pricewire.observe.health import Health
from pricewire.observe.logs import configure_logs
from pricewire.observe.metrics import Metrics
from pricewire.services.averages import Averages
from pricewire.services.latest import LatestPrice
from pricewire.services.processing import ProcessorStatus
from pricewire.services.publishing import Report
from pricewire.services.receipts import Receipts
from pricewire.services.recording import Door
from pricewire.services.relay import Relay, RelayRules, ShardRelay
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.migrate import migrate
from pricewire.storage.outbox import SqlShards
from pricewire.storage.ownership import owned
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.reads import SqlReads
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.sqlite import SqliteDatabase, sqlite_path

__all__ = ["ALL_PARTS", "PROCESSORS", "Connection", "Parts", "Processing", "Services"]

log = structlog.get_logger()


def now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of the service a process runs; processors by name."""

    api: bool = False
    relay: bool = False
    processors: tuple[str, ...] = ()


ALL_PARTS = Parts(api=True, relay=True, processors=tuple(PROCESSORS))


@dataclass(frozen=True, slots=True)
class Services:
    """What the web and the CLI may use of a running service.

    Args:
        averages: answers for them; None in a process without an API, as is
        processing: lag and dead letters.
        providers: all there are, configured or not.
        crashed: ends with the error of a background task that died; never ends otherwise.
    """

    latest: LatestPrice
    guards: Guards
    receipts: Receipts
    health: Health
    metrics: Metrics
    averages: Averages | None
    processing: Processing | None
    providers: tuple[Listed, ...]
    source: Source
    topic: str
    crashed: asyncio.Future[None]


def start_logs(settings: Settings) -> None:
    configure_logs(settings.log_level, as_json=settings.log_format == "json")


@asynccontextmanager
async def running(
    settings: Settings, connection: Connection, parts: Parts = ALL_PARTS
) -> AsyncIterator[Services]:
    """Run the parts while inside; leaving stops them cleanly.

    Raises:
        StartupError: a setting or the database keeps them from starting.
    """
    partitions = MEMORY_PARTITIONS if connection.in_memory else settings.kafka_topic_partitions
    async with AsyncExitStack() as stack:
        # First of all: a file that cannot be played keeps the rest from starting.
        providers = made(settings, now)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        database = await stack.enter_async_context(opened_database(settings, parts))
        reads = SqlReads(database)
        if connection.in_memory:
            await reads.adopt_partitions(partitions, "the in-memory cluster always has")
        else:
            await reads.adopt_partitions(partitions)
        receipts = Receipts(
            reads,
            attempt=timedelta(seconds=settings.kafka_producer_attempt_seconds),
            attempts=settings.kafka_producer_attempts,
            clock=now,
        )
        crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        topic = _topic(settings, connection, partitions)
        stack.callback(topic.close)
        shards = []
        if parts.relay:
            shards = _shards(settings, connection, database, topic, receipts.published, partitions)
        relay = Relay(shards)
        stack.push_async_callback(_stop, _start(relay.run(), crashed), relay.stop)
        processors: list[ProcessorStatus] = []
        for name in parts.processors:
            processor, task = await stack.enter_async_context(
                running_processor(name, settings, connection, database, partitions)
            )
            # Beside others a processor dies alone: prices must still be recorded and published.
            task.add_done_callback(_tell_broken) if parts.api else _watch(task, crashed)
            processors.append(processor.status)
        averages = processing = None
        if parts.api:
            processing = processing_answers(settings, connection, database, partitions, now)
            stack.callback(processing.close)
            follower = following_averages(settings, connection, partitions)
            stack.push_async_callback(asyncio.to_thread, follower.close)
            averages = averages_answers(settings, database, follower, now)

        def shard_of(symbol: str) -> int:
            return int(murmur2(symbol.encode(), partitions))

        door = Door(
            SqlRecordingStore(database),
            encode=encode_price_event,
            shard_of=shard_of,
            clock=now,
            committed=relay.wake if parts.relay else lambda _: None,
        )
        stack.push_async_callback(_stop, _start(door.run(), crashed), door.close)
        sessions = await stack.enter_async_context(
            market_sessions(settings, database, now, watching=parts.api)
        )
        latest, guards = await stack.enter_async_context(
            latest_prices(
                settings,
                providers,
                database=database,
                door=door,
                receipts=receipts,
                sessions=sessions,
                shard_of=shard_of,
                clock=now,
            )
        )
        yield Services(
            latest=latest,
            guards=guards,
            receipts=receipts,
            health=Health(
                outbox=reads.outbox_depth,
                kafka=topic.trouble,
                relay=lambda: relay.statuses,
                processors=lambda: processors,
                clock=now,
            ),
            metrics=Metrics(
                relay=lambda: relay.statuses,
                recorded=lambda: door.recorded,
                processors=lambda: processors,
            ),
            averages=averages,
            processing=processing,
            providers=tuple(listed(settings)),
            source=await reads.source(),
            topic=settings.kafka_price_events_topic,
            crashed=crashed,
        )


@asynccontextmanager
async def opened_database(settings: Settings, parts: Parts) -> AsyncIterator[Database]:
    """Give the database, migrated.

    Raises:
        StartupError: it is SQLite and another process has it, or these parts need PostgreSQL.
    """
    url = settings.database
    async with AsyncExitStack() as stack:
        if settings.uses_sqlite:
            if parts != ALL_PARTS:
                raise StartupError(
                    "SQLite serves one `pricewire up`; parts as processes of their own need "
                    "PostgreSQL: DATABASE_URL=postgresql://user:password@host/name"
                )
            stack.enter_context(owned(sqlite_path(url)))
        database = SqliteDatabase(url) if settings.uses_sqlite else PostgresDatabase(url)
        stack.push_async_callback(database.aclose)
        await migrate(database)
        yield database


async def fork_store(settings: Settings) -> Source:
    """Start a new generation of the store by hand; return the new source."""
    async with opened_database(settings, ALL_PARTS) as database:
        return await SqlReads(database).fork()


def _start(work: Any, crashed: asyncio.Future[None]) -> asyncio.Task[None]:
    return _watch(asyncio.create_task(work), crashed)


def _watch(task: asyncio.Task[None], crashed: asyncio.Future[None]) -> asyncio.Task[None]:
    """Let `crashed` end with what `task` dies of."""

    def ended(done: asyncio.Task[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not crashed.done():
            crashed.set_exception(error)

    task.add_done_callback(ended)
    return task


def _tell_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("processor.broken", exc_info=error, meaning="it stopped; nothing was skipped")


async def _stop(task: asyncio.Task[None], tell: Callable[[], None]) -> None:
    """Tell a part to stop and let it finish; its crash was told already."""
    tell()
    await asyncio.wait([task])


def _topic(settings: Settings, connection: Connection, partitions: int) -> KafkaTopic:
    return KafkaTopic(connection, topic_plan(settings, partitions))


def topic_plan(settings: Settings, partitions: int) -> TopicPlan:
    return TopicPlan(
        name=settings.kafka_price_events_topic,
        partitions=partitions,
        replication_factor=settings.kafka_topic_replication_factor,
        min_insync_replicas=settings.kafka_topic_min_insync_replicas,
        retention_hours=settings.kafka_topic_retention_hours,
    )


def _shards(
    settings: Settings,
    connection: Connection,
    database: Database,
    topic: KafkaTopic,
    published: Callable[[Publication], None],
    partitions: int,
) -> list[ShardRelay]:
    rules = RelayRules(
        topic=settings.kafka_price_events_topic,
        attempt=timedelta(seconds=settings.kafka_producer_attempt_seconds),
        attempts=settings.kafka_producer_attempts,
        flush_seconds=settings.shutdown_seconds,
    )
    return [
        ShardRelay(
            shard,
            shards=SqlShards(database),
            topic=topic,
            open_publisher=open_producer(settings, connection),
            published=published,
            rules=rules,
            clock=now,
        )
        for shard in range(partitions)
    ]


def open_producer(settings: Settings, connection: Connection) -> OpenProducer:
    rules = ProducerRules(
        compression=settings.kafka_producer_compression,
        linger_ms=settings.kafka_producer_linger_ms,
        batch_bytes=settings.kafka_producer_batch_bytes,
    )
    topic = settings.kafka_price_events_topic

    def open_publisher(
        shard: int, *, single: bool, reported: Callable[[list[Report]], None]
    ) -> ShardProducer:
        config = producer_config(connection, rules, single=single)
        return ShardProducer(config, topic=topic, shard=shard, reported=reported)

    return open_publisher
