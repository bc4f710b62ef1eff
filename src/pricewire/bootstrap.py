"""The composition root: settings in, running services out; the only importer of adapters.

The CLI calls it. Invariant: everything that is started here is stopped here, in the order in which
nothing is lost: the door first, then the relay, then the database, the local Kafka last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from pricewire.bootstrap_feeds import Live, live_feeds
from pricewire.bootstrap_frames import frames_kept_for
from pricewire.bootstrap_jobs import polling_jobs
from pricewire.bootstrap_latest import Guards, Main, latest_prices
from pricewire.bootstrap_providers import Listed, listed, made
from pricewire.bootstrap_relay import Relays
from pricewire.bootstrap_room import (
    ALL_PARTS,
    Parts,
    Room,
    fork_store,
    opened_database,
    opened_room,
    watch,
)
from pricewire.bootstrap_sessions import market_sessions
from pricewire.bootstrap_streaming import live_streams
from pricewire.bootstrap_streams import (
    PROCESSORS,
    Processing,
    averages_answers,
    candles_answers,
    following_averages,
    processing_answers,
    running_processor,
)
from pricewire.domain.event import Publication, Source
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import encode_price_event
from pricewire.observe.health import Health
from pricewire.observe.logs import configure_logs
from pricewire.observe.metrics import Metrics, Watched
from pricewire.services.averages import Averages
from pricewire.services.backfilling import Backfilling
from pricewire.services.candles import Candles
from pricewire.services.fetching import Provider
from pricewire.services.history import HistoryDoor
from pricewire.services.jobs import Jobs
from pricewire.services.latest import LatestPrice
from pricewire.services.live.streaming import Streaming
from pricewire.services.polling import Polling
from pricewire.services.prices import StoredSeries
from pricewire.services.processing import ProcessorStatus
from pricewire.services.receipts import Receipts
from pricewire.services.recent_lag import RecentLag
from pricewire.services.recording import Door
from pricewire.services.sessions import Sessions
from pricewire.settings import Settings
from pricewire.storage.event_tables import HISTORY
from pricewire.storage.history import SqlHistoryStore
from pricewire.storage.prices_by_time import SqlPricesByTime
from pricewire.storage.reads import SqlReads
from pricewire.storage.recording import SqlRecordingStore

__all__ = [
    "ALL_PARTS",
    "PROCESSORS",
    "Connection",
    "Parts",
    "Processing",
    "Services",
    "fork_store",
    "opened_database",
]

log = structlog.get_logger()


def now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """What the web and the CLI may use of a running service.

    Args:
        history: the door's entrance for past prices; `backfilling` fetches them.
        prices: the stored ones, live and past.
        averages: answers for them; None in a process without an API, as are `candles`,
        streaming: live ones for whoever reads, and
        processing: lag and dead letters, jobs, and live feeds.
        providers: all there are, configured or not.
        crashed: ends with the error of a background task that died; never ends otherwise.
    """

    latest: LatestPrice
    guards: Guards
    history: HistoryDoor
    backfilling: Backfilling
    prices: StoredSeries
    jobs: Jobs | None
    live: Live | None
    receipts: Receipts
    health: Health
    metrics: Metrics
    averages: Averages | None
    candles: Candles | None
    streaming: Streaming | None
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
    async with AsyncExitStack() as stack:
        # First of all: a file that cannot be played keeps the rest from starting.
        providers = made(settings, now)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        room = await opened_room(stack, settings, connection, parts)
        receipts = _receipts(room)
        # Before the relay, so that what is asked of a Kafka that is away does not hold its end up.
        answers = _answers(room) if parts.api else None
        relays = _relays(room, run=parts.relay, published=receipts.published)
        processors = await _run_processors(room, parts)
        streaming = _streaming(room) if parts.api else None
        door = _door(room, relays)
        sessions = await stack.enter_async_context(
            market_sessions(settings, room.database, now, watching=parts.api)
        )
        main = await stack.enter_async_context(
            latest_prices(
                settings,
                providers,
                database=room.database,
                door=door,
                receipts=receipts,
                sessions=sessions,
                shard_of=room.shard_of,
                clock=now,
            )
        )
        scheduled = await _scheduled(room, providers, main, door, sessions) if parts.api else None
        history = _history(room, relays)
        if answers is not None:
            stack.callback(answers.recent_lag.close)
        polling = scheduled.polling if scheduled else None
        live = scheduled.live if scheduled else None
        yield Services(
            latest=main.latest,
            guards=main.guards,
            jobs=scheduled.jobs if scheduled else None,
            live=live,
            history=history,
            backfilling=_backfilling(settings, main.guards, history),
            prices=StoredSeries(SqlPricesByTime(room.database)),
            receipts=receipts,
            health=_health(room.reads, relays, processors, polling, live),
            metrics=Metrics(
                Watched(
                    relay=lambda: [*relays.statuses, *relays.history_statuses],
                    recorded=lambda: door.recorded,
                    processors=lambda: processors,
                    polling=polling.status if polling else None,
                    lag=answers.recent_lag.read if answers else None,
                    feeds=live.feeding if live else None,
                    streaming=(lambda: streaming.status) if streaming else None,
                )
            ),
            averages=answers.averages if answers else None,
            candles=answers.candles if answers else None,
            streaming=streaming,
            processing=answers.processing if answers else None,
            providers=tuple(listed(settings)),
            source=await room.reads.source(),
            topic=settings.kafka_price_events_topic,
            crashed=room.crashed,
        )


def _receipts(room: Room) -> Receipts:
    return Receipts(
        room.reads,
        attempt=timedelta(seconds=room.settings.kafka_producer_attempt_seconds),
        attempts=room.settings.kafka_producer_attempts,
        clock=now,
    )


def _relays(room: Room, *, run: bool, published: Callable[[Publication], None]) -> Relays:
    relays = Relays(
        room.settings,
        room.connection,
        room.database,
        room.partitions,
        run=run,
        published=published,
        clock=now,
    )
    room.stack.callback(relays.close)
    room.run(relays.run(), relays.stop)
    return relays


def _door(room: Room, relays: Relays) -> Door:
    door = Door(
        SqlRecordingStore(room.database, room.partitions),
        encode=encode_price_event,
        shard_of=room.shard_of,
        clock=now,
        committed=relays.wake,
    )
    room.run(door.run(), door.close)
    return door


def _history(room: Room, relays: Relays) -> HistoryDoor:
    return HistoryDoor(
        SqlHistoryStore(room.database, room.partitions),
        encode=encode_price_event,
        shard_of=room.shard_of,
        clock=now,
        committed=relays.wake_history,
    )


def _streaming(room: Room) -> Streaming:
    streaming = live_streams(room.settings, room.connection, room.partitions)
    room.stack.push_async_callback(streaming.aclose)
    return streaming


@dataclass(frozen=True, slots=True)
class _Scheduled:
    """What brings prices without being asked each time."""

    jobs: Jobs
    polling: Polling
    live: Live


async def _scheduled(
    room: Room,
    providers: Mapping[str, Provider],
    main: Main,
    door: Door,
    sessions: Sessions,
) -> _Scheduled:
    settings, database = room.settings, room.database
    jobs, polling = polling_jobs(settings, main, database=database, sessions=sessions, clock=now)
    room.run(polling.run(), polling.close)
    live = live_feeds(settings, providers, main, database=database, door=door, clock=now)
    room.run(live.feeding.run(), live.feeding.close)
    await room.stack.enter_async_context(frames_kept_for(settings, database, now))
    return _Scheduled(jobs, polling, live)


def _backfilling(settings: Settings, guards: Guards, door: HistoryDoor) -> Backfilling:
    having = {one.name for one in listed(settings) if one.history}
    return Backfilling(
        {name: guard for name, guard in guards.by_name.items() if name in having},
        default=settings.provider,
        door=door,
        seconds=settings.provider_total_seconds,
        clock=now,
    )


async def _run_processors(room: Room, parts: Parts) -> list[ProcessorStatus]:
    """Run the processors of this process; return what they tell of themselves."""
    statuses = []
    for name in parts.processors:
        processor, task = await room.stack.enter_async_context(
            running_processor(name, room.settings, room.connection, room.database, room.partitions)
        )
        # Beside others a processor dies alone: prices must still be recorded and published.
        task.add_done_callback(_tell_broken) if parts.api else watch(task, room.crashed)
        statuses.append(processor.status)
    return statuses


@dataclass(frozen=True, slots=True)
class _Answers:
    """What answers for processors, wherever those run."""

    averages: Averages
    candles: Candles
    processing: Processing
    recent_lag: RecentLag


def _answers(room: Room) -> _Answers:
    processing = processing_answers(
        room.settings, room.connection, room.database, room.partitions, now
    )
    room.stack.callback(processing.close)
    recent_lag = RecentLag(processing.lag.report)
    room.run(recent_lag.run(), recent_lag.close)
    follower = following_averages(room.settings, room.connection, room.partitions)
    room.stack.push_async_callback(asyncio.to_thread, follower.close)
    averages = averages_answers(room.settings, room.database, follower, now)
    candles = candles_answers(room.database, room.shard_of)
    return _Answers(averages, candles, processing, recent_lag)


def _health(
    reads: SqlReads,
    relays: Relays,
    processors: list[ProcessorStatus],
    polling: Polling | None,
    live: Live | None,
) -> Health:
    return Health(
        outbox=reads.outbox_depth,
        history_outbox=lambda: reads.outbox_depth(HISTORY),
        kafka=relays.trouble,
        relay=lambda: relays.statuses,
        history_relay=lambda: relays.history_statuses,
        processors=lambda: processors,
        polling=polling.status if polling else None,
        feeds=live.feeding if live else None,
        clock=now,
    )


def _tell_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("processor.broken", exc_info=error, meaning="it stopped; nothing was skipped")
