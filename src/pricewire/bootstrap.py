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

from pricewire.bootstrap_jobs import polling_jobs
from pricewire.bootstrap_latest import Guards, latest_prices
from pricewire.bootstrap_providers import Listed, listed, made
from pricewire.bootstrap_relay import Relays
from pricewire.bootstrap_sessions import market_sessions
from pricewire.bootstrap_streams import (
    PROCESSORS,
    Processing,
    averages_answers,
    candles_answers,
    following_averages,
    processing_answers,
    running_processor,
)
from pricewire.domain.event import Source
from pricewire.errors import StartupError
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import encode_price_event
from pricewire.kafka.memory import MEMORY_PARTITIONS
from pricewire.observe.health import Health
from pricewire.observe.logs import configure_logs
from pricewire.observe.metrics import Metrics
from pricewire.services.averages import Averages
from pricewire.services.backfilling import Backfilling
from pricewire.services.candles import Candles
from pricewire.services.history import HistoryDoor
from pricewire.services.jobs import Jobs
from pricewire.services.latest import LatestPrice
from pricewire.services.polling import Polling
from pricewire.services.prices import StoredSeries
from pricewire.services.processing import ProcessorStatus
from pricewire.services.receipts import Receipts
from pricewire.services.recent_lag import RecentLag
from pricewire.services.recording import Door
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.event_tables import HISTORY
from pricewire.storage.history import SqlHistoryStore
from pricewire.storage.migrate import migrate
from pricewire.storage.ownership import owned
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.prices_by_time import SqlPricesByTime
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
        history: the door's entrance for past prices; `backfilling` fetches them.
        prices: the stored ones, live and past.
        averages: answers for them; None in a process without an API, as are `candles` and
        processing: lag and dead letters, and jobs.
        providers: all there are, configured or not.
        crashed: ends with the error of a background task that died; never ends otherwise.
    """

    latest: LatestPrice
    guards: Guards
    history: HistoryDoor
    backfilling: Backfilling
    prices: StoredSeries
    jobs: Jobs | None
    receipts: Receipts
    health: Health
    metrics: Metrics
    averages: Averages | None
    candles: Candles | None
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
    crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def shard_of(symbol: str) -> int:
        return int(murmur2(symbol.encode(), partitions))

    async with AsyncExitStack() as stack:
        # First of all: a file that cannot be played keeps the rest from starting.
        providers = made(settings, now)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        database = await stack.enter_async_context(opened_database(settings, parts))
        reads = SqlReads(database)
        await _adopt_partitions(reads, connection, partitions)
        receipts = _receipts(settings, reads)
        room = _Room(settings, connection, database, partitions)
        # Before the relay, so that what is asked of a Kafka that is away does not hold its end up.
        answers = _answers(stack, room, crashed) if parts.api else None
        relays = Relays(
            settings,
            connection,
            database,
            partitions,
            run=parts.relay,
            published=receipts.published,
            clock=now,
        )
        stack.callback(relays.close)
        stack.push_async_callback(_stop, _start(relays.run(), crashed), relays.stop)
        processors = await _run_processors(stack, room, parts, crashed)
        candles = candles_answers(database, shard_of) if parts.api else None
        door = Door(
            SqlRecordingStore(database, partitions),
            encode=encode_price_event,
            shard_of=shard_of,
            clock=now,
            committed=relays.wake,
        )
        stack.push_async_callback(_stop, _start(door.run(), crashed), door.close)
        sessions = await stack.enter_async_context(
            market_sessions(settings, database, now, watching=parts.api)
        )
        main = await stack.enter_async_context(
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
        jobs = polling = None
        if parts.api:
            jobs, polling = polling_jobs(
                settings, main, database=database, sessions=sessions, clock=now
            )
            stack.push_async_callback(_stop, _start(polling.run(), crashed), polling.close)
        history = HistoryDoor(
            SqlHistoryStore(database, partitions),
            encode=encode_price_event,
            shard_of=shard_of,
            clock=now,
            committed=relays.wake_history,
        )
        if answers is not None:
            stack.callback(answers.recent_lag.close)
        yield Services(
            latest=main.latest,
            guards=main.guards,
            jobs=jobs,
            history=history,
            backfilling=_backfilling(settings, main.guards, history),
            prices=StoredSeries(SqlPricesByTime(database)),
            receipts=receipts,
            health=_health(reads, relays, processors, polling),
            metrics=Metrics(
                relay=lambda: [*relays.statuses, *relays.history_statuses],
                recorded=lambda: door.recorded,
                processors=lambda: processors,
                polling=polling.status if polling else None,
                lag=answers.recent_lag.read if answers else None,
            ),
            averages=answers.averages if answers else None,
            candles=candles,
            processing=answers.processing if answers else None,
            providers=tuple(listed(settings)),
            source=await reads.source(),
            topic=settings.kafka_price_events_topic,
            crashed=crashed,
        )


@dataclass(frozen=True, slots=True)
class _Room:
    """What the parts of one process share."""

    settings: Settings
    connection: Connection
    database: Database
    partitions: int


async def _adopt_partitions(reads: SqlReads, connection: Connection, partitions: int) -> None:
    if connection.in_memory:
        await reads.adopt_partitions(partitions, "the in-memory cluster always has")
    else:
        await reads.adopt_partitions(partitions)


def _receipts(settings: Settings, reads: SqlReads) -> Receipts:
    return Receipts(
        reads,
        attempt=timedelta(seconds=settings.kafka_producer_attempt_seconds),
        attempts=settings.kafka_producer_attempts,
        clock=now,
    )


def _backfilling(settings: Settings, guards: Guards, door: HistoryDoor) -> Backfilling:
    having = {one.name for one in listed(settings) if one.history}
    return Backfilling(
        {name: guard for name, guard in guards.by_name.items() if name in having},
        default=settings.provider,
        door=door,
        seconds=settings.provider_total_seconds,
        clock=now,
    )


async def _run_processors(
    stack: AsyncExitStack, room: _Room, parts: Parts, crashed: asyncio.Future[None]
) -> list[ProcessorStatus]:
    """Run the processors of this process; return what they tell of themselves."""
    statuses = []
    for name in parts.processors:
        processor, task = await stack.enter_async_context(
            running_processor(name, room.settings, room.connection, room.database, room.partitions)
        )
        # Beside others a processor dies alone: prices must still be recorded and published.
        task.add_done_callback(_tell_broken) if parts.api else _watch(task, crashed)
        statuses.append(processor.status)
    return statuses


@dataclass(frozen=True, slots=True)
class _Answers:
    """What answers for processors, wherever those run."""

    averages: Averages
    processing: Processing
    recent_lag: RecentLag


def _answers(stack: AsyncExitStack, room: _Room, crashed: asyncio.Future[None]) -> _Answers:
    processing = processing_answers(
        room.settings, room.connection, room.database, room.partitions, now
    )
    stack.callback(processing.close)
    recent_lag = RecentLag(processing.lag.report)
    stack.push_async_callback(_stop, _start(recent_lag.run(), crashed), recent_lag.close)
    follower = following_averages(room.settings, room.connection, room.partitions)
    stack.push_async_callback(asyncio.to_thread, follower.close)
    averages = averages_answers(room.settings, room.database, follower, now)
    return _Answers(averages, processing, recent_lag)


def _health(
    reads: SqlReads, relays: Relays, processors: list[ProcessorStatus], polling: Polling | None
) -> Health:
    return Health(
        outbox=reads.outbox_depth,
        history_outbox=lambda: reads.outbox_depth(HISTORY),
        kafka=relays.trouble,
        relay=lambda: relays.statuses,
        history_relay=lambda: relays.history_statuses,
        processors=lambda: processors,
        polling=polling.status if polling else None,
        clock=now,
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
