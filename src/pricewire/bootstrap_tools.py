"""Composes what is not the service itself: checks from outside, and the contract's files.

The CLI and `scripts/contract.py` call it. Invariant: it uses the parts that `bootstrap` makes for
the service, so that what is checked and written down is what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import msgspec

from pricewire import __version__
from pricewire.bootstrap import now
from pricewire.bootstrap_kafka import named_kafka
from pricewire.bootstrap_relay import EventTopic, event_topics, open_producer, topic_plan
from pricewire.domain.candle import Series
from pricewire.errors import StartupError
from pricewire.kafka.check import Findings, ProducerCheck
from pricewire.kafka.codec import Record, cloud_event_headers
from pricewire.kafka.content import TopicContent
from pricewire.kafka.contract import contract_files
from pricewire.kafka.contract_topics import (
    candles,
    dead_letters,
    moving_averages,
    price_events,
    price_history,
)
from pricewire.kafka.read_back import ReadBack
from pricewire.kafka.topic import KafkaTopic
from pricewire.services.processing import PriceTick
from pricewire.services.verification import Comparison, Finding, Verification
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.sqlite import SqliteDatabase, sqlite_path
from pricewire.storage.verification import published_in, scratch
from pricewire.streams.averages import MOVED, AverageValue, encode_average
from pricewire.streams.candles import CLOSED, CandlesStep, CandleValue

__all__ = ["Comparison", "Finding", "Findings", "check_producer", "contract", "verify_outbox"]


async def check_producer(settings: Settings) -> Findings:
    """Send test events through the service's own producer and read them back.

    Raises:
        KafkaTrouble: no broker answers, or it refuses.
    """
    connection = named_kafka(settings)
    plan = topic_plan(settings, settings.kafka_topic_partitions)
    topic = KafkaTopic(connection, plan)
    try:
        return await ProducerCheck(
            topic,
            open_producer=open_producer(settings, connection),
            open_reader=lambda: ReadBack(connection, plan.name),
            clock=now,
        ).run()
    finally:
        topic.close()


def contract() -> dict[str, bytes]:
    """Return the files of docs/contract: the topics as they are without any setting."""
    defaults = Settings.model_construct()
    prices = topic_plan(defaults, defaults.kafka_topic_partitions)
    history = replace(prices, name=defaults.kafka_price_history_topic)
    averages = replace(prices, name=defaults.kafka_moving_averages_topic)
    dead = replace(prices, name=f"{prices.name}.dlq", retention_hours=-1)
    topics = [
        price_events(prices),
        price_history(history),
        moving_averages(
            averages, event_type=MOVED, value=AverageValue, example=_example_of_an_average()
        ),
        candles(
            replace(prices, name=defaults.kafka_candles_topic),
            event_type=CLOSED,
            value=CandleValue,
            example=_example_of_a_candle(),
        ),
        dead_letters(dead),
    ]
    return contract_files(__version__, topics)


def _example_tick() -> PriceTick:
    return PriceTick(
        partition=3,
        offset=1233,
        logged_at=1_710_930_601_000,
        event_id="AAPL~1234",
        sequence=1234,
        source="/pricewire/018e5b2e-0000-7000-8000-000000000001/1",
        symbol="AAPL",
        price=Decimal("150.25"),
        timestamp=datetime(2024, 3, 20, 10, 30, tzinfo=UTC),
        provider="alpha_vantage",
        raw_response_id="018e5b2e-9c1a-7f3b-8a52-0d5f4f1f3c11",
    )


def _example_of_an_average() -> Record:
    tick = _example_tick()
    value = encode_average(tick, "sma", "5", Decimal("150.114"), 5)
    headers = cloud_event_headers("AAPL~1234~sma:5", MOVED, f"{tick.source}/averages/1")
    return Record(tick.symbol, value, headers, tick.timestamp)


def _example_of_a_candle() -> Record:
    """Return what the first price of the next minute makes of the one before."""
    step, tick = CandlesStep("candles", Series.LIVE), _example_tick()
    state = step.new()
    before = tick.timestamp - timedelta(seconds=20)
    for price, at in (("150.10", before - timedelta(seconds=30)), ("150.20", before)):
        step.apply(state, msgspec.structs.replace(tick, price=Decimal(price), timestamp=at))
    name, value = step.apply(state, tick)[0]
    source = f"{tick.source}/{step.name}/1"
    headers = cloud_event_headers(f"{tick.event_id}~{name}", CLOSED, source)
    return Record(tick.symbol, value, headers, tick.timestamp)


async def verify_outbox(
    settings: Settings, tell: Callable[[str, Finding], None]
) -> dict[str, Comparison]:
    """Compare what was published with what is on each topic; the service may run meanwhile.

    Args:
        tell: called with the topic for each finding.

    Raises:
        StartupError: there is no database yet, or it is of another version.
    """
    url = settings.database
    if settings.uses_sqlite and not sqlite_path(url).exists():
        raise StartupError(f"there is no database at {sqlite_path(url)}: nothing was published")
    async with AsyncExitStack() as stack:
        # Not owned: it is only read. And its sorting may take its time.
        database = (
            SqliteDatabase(url)
            if settings.uses_sqlite
            else PostgresDatabase(url, command_seconds=None)
        )
        stack.push_async_callback(database.aclose)
        return {
            topic.name: await _verify(settings, database, topic, partial(tell, topic.name))
            for topic in event_topics(settings)
        }


async def _verify(
    settings: Settings, database: Database, topic: EventTopic, tell: Callable[[Finding], None]
) -> Comparison:
    async with AsyncExitStack() as stack:
        content = TopicContent(named_kafka(settings), topic.name)
        stack.callback(content.close)
        published = await stack.enter_async_context(
            published_in(database, topic.name, topic.tables)
        )
        return await Verification(published, content, stack.enter_context(scratch()), tell).run()
