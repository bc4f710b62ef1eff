"""What `pricewire verify outbox` sees of a real topic: its own events, from first to last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import Headers
from pricewire.kafka.content import BATCH, TopicContent
from pricewire.services.verification import FoundEvent
from tests.integration.test_kafka_room import (
    PARTITIONS,
    SOURCE,
    Reports,
    connection_to,
    expire,
    open_producer,
    waiting_event,
)
from tests.kafka_tools import KafkaTools, free_port

pytestmark = pytest.mark.kafka


@pytest.fixture
def name(kafka: KafkaTools) -> str:
    return kafka.create_topic(f"content-{uuid4().hex[:8]}", PARTITIONS)


@contextmanager
def opened(kafka: KafkaTools, topic: str) -> Iterator[TopicContent]:
    with closing(TopicContent(connection_to(kafka), topic)) as content:
        yield content


async def publish(kafka: KafkaTools, topic: str, events: int) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), topic, reports)
    for number in range(1, events + 1):
        producer.hand_over(waiting_event(number), SOURCE)
    await reports.wait_for(events)
    await producer.aclose()


async def read(content: TopicContent, partition: int = 0) -> tuple[list[FoundEvent], int]:
    events: list[FoundEvent] = []
    end = -1
    async for batch in content.events(partition):
        assert batch.next_offset >= end
        events += batch.events
        end = batch.next_offset
    return events, end


async def test_each_event_is_found_as_it_was_published(kafka: KafkaTools, name: str) -> None:
    await publish(kafka, name, 3)
    with opened(kafka, name) as content:
        assert await content.first_offsets() == dict.fromkeys(range(PARTITIONS), 0)
        events, end = await read(content)
        assert await read(content, 1) == ([], 0)
    expected = [waiting_event(number) for number in (1, 2, 3)]
    assert [(event.event_id, event.source, event.offset) for event in events] == [
        (event.event_id, SOURCE, offset) for offset, event in enumerate(expected)
    ]
    assert [len(event.value) for event in events] == [len(event.value) for event in expected]
    assert end == 3


async def test_many_come_in_batches_and_whole(kafka: KafkaTools, name: str) -> None:
    count = BATCH * 2 + 7
    await publish(kafka, name, count)
    with opened(kafka, name) as content:
        events, end = await read(content)
    assert [event.event_id.sequence for event in events] == list(range(1, count + 1))
    assert end == count


async def test_it_begins_at_the_first_offset_that_is_left(kafka: KafkaTools, name: str) -> None:
    await publish(kafka, name, 10)
    expire(kafka, name, 7)
    with opened(kafka, name) as content:
        assert (await content.first_offsets())[0] == 7
        events, end = await read(content)
    assert [event.offset for event in events] == [7, 8, 9]
    assert end == 10
    expire(kafka, name, 10)
    with opened(kafka, name) as content:
        assert await read(content) == ([], 10)


async def test_it_ends_behind_the_marker_of_somebodys_transaction(
    kafka: KafkaTools, name: str
) -> None:
    await publish(kafka, name, 2)
    other = Producer(
        connection_to(kafka).base("other") | {"transactional.id": f"other-{uuid4().hex}"}
    )
    other.init_transactions(20)
    other.begin_transaction()
    other.produce(name, b"not ours", partition=0)
    other.commit_transaction(20)
    end = 0
    async with asyncio.timeout(10):
        while end < 4:  # two of ours, theirs, and the marker, which comes a little later
            with opened(kafka, name) as content:
                events, end = await read(content)
            assert [event.offset for event in events] == [0, 1]
    assert end == 4


async def test_what_no_relay_published_is_not_seen(kafka: KafkaTools, name: str) -> None:
    await publish(kafka, name, 1)
    producer = Producer(connection_to(kafka).base("other"))
    ours: Headers = [("ce_id", b"AAPL~9"), ("ce_source", str(SOURCE).encode())]
    foreign: list[Headers] = [[], [*ours, ("pw-test", b"true")], ours[:1], ours[1:]]
    for headers in foreign:
        producer.produce(name, b"{}", partition=0, headers=headers)
    producer.produce(name, None, partition=0, headers=ours)
    producer.flush(10)
    with opened(kafka, name) as content:
        events, _ = await read(content)
    assert [(event.event_id.sequence, event.value) for event in events[1:]] == [(9, b"")]


async def test_a_topic_that_is_not_there_is_empty_and_is_not_made(kafka: KafkaTools) -> None:
    missing = f"content-{uuid4().hex[:8]}"
    for _ in range(2):
        with opened(kafka, missing) as content:
            assert await content.first_offsets() == {}


async def test_without_a_broker_it_says_so() -> None:
    port = free_port()
    with (
        closing(TopicContent(Connection(f"localhost:{port}"), "price-events")) as content,
        pytest.raises(KafkaUnavailable, match=f"no Kafka broker answers at localhost:{port}"),
    ):
        await content.first_offsets()
