"""The room `kafka` against a real broker: the topic, its tail, and one shard's producer."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from uuid_utils.compat import uuid7

from pricewire.domain.event import (
    MAX_VALUE_BYTES,
    PRICE_RECORDED,
    EventId,
    Source,
    WaitingEvent,
)
from pricewire.errors import KafkaTrouble, KafkaUnavailable, TopicMismatch
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import encode_price_event
from pricewire.kafka.memory import MEMORY_PARTITIONS, MemoryKafka
from pricewire.kafka.producer import ProducerRules, ShardProducer, producer_config
from pricewire.kafka.topic import RECORD_OVERHEAD_BYTES, KafkaTopic, TopicPlan
from pricewire.services.publishing import Report, TailRecord
from pricewire.services.relay import RelayRules, ShardRelay
from tests.builders import RECORDED_AT, make_quote
from tests.conftest import now
from tests.fakes import FakeDatabase, until
from tests.kafka_tools import KafkaTools, free_port

PARTITIONS = 3
SOURCE = Source(uuid4(), 4)

MakeTopic = Callable[..., KafkaTopic]


@pytest.fixture
def name() -> str:
    return f"room-{uuid4().hex[:8]}"


@pytest.fixture
def make_topic(request: pytest.FixtureRequest, name: str) -> Iterator[MakeTopic]:
    """Makes the service's view of the topic `name`; asks for the broker unless given servers."""
    made: list[KafkaTopic] = []

    def make(connection: Connection | None = None, **plan: int) -> KafkaTopic:
        connection = connection or connection_to(request.getfixturevalue("kafka"))
        given = {
            "partitions": PARTITIONS,
            "replication_factor": 1,
            "min_insync_replicas": 1,
            # The records here are dated 2024 (see `KafkaTools.create_topic`).
            "retention_hours": -1,
        }
        made.append(KafkaTopic(connection, TopicPlan(name, **given | plan)))
        return made[-1]

    yield make
    for topic in made:
        topic.close()


@pytest.fixture
def topic(kafka: KafkaTools, name: str, make_topic: MakeTopic) -> KafkaTopic:
    """An empty topic that is there already."""
    kafka.create_topic(name, PARTITIONS)
    return make_topic()


def connection_to(kafka: KafkaTools) -> Connection:
    return Connection(kafka.bootstrap_servers)


def partitions_of(kafka: KafkaTools, name: str) -> int:
    admin = AdminClient(connection_to(kafka).base("test"))
    return len(admin.list_topics(name, timeout=5).topics[name].partitions)


def config_of(kafka: KafkaTools, name: str) -> dict[str, str | None]:
    admin = AdminClient(connection_to(kafka).base("test"))
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = admin.describe_configs([resource])[resource].result(10)
    return {key: entry.value for key, entry in entries.items()}


def expire(kafka: KafkaTools, name: str, before: int) -> None:
    """Delete the records of partition 0 up to an offset, as retention does."""
    admin = AdminClient(connection_to(kafka).base("test"))
    partition = TopicPartition(name, 0, before)
    admin.delete_records([partition])[partition].result(10)


async def ensured(topic: KafkaTopic, seconds: float = 10) -> str:
    """Ask again, as the relay does, while a topic was made but is not there yet."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await topic.ensure()
        except KafkaUnavailable:
            if time.monotonic() > give_up:
                raise


# The topic.


@pytest.mark.kafka
@pytest.mark.parametrize(("hours", "milliseconds"), [(48, "172800000"), (-1, "-1")])
async def test_a_missing_topic_is_made_as_planned(
    kafka: KafkaTools, name: str, make_topic: MakeTopic, hours: int, milliseconds: str
) -> None:
    topic = make_topic(retention_hours=hours, min_insync_replicas=1)
    topic_id = await ensured(topic)
    assert topic_id
    assert await topic.ensure() == topic_id == await make_topic().ensure()
    assert partitions_of(kafka, name) == PARTITIONS
    config = config_of(kafka, name)
    assert config["retention.ms"] == milliseconds
    assert config["min.insync.replicas"] == "1"
    assert config["cleanup.policy"] == "delete"


@pytest.mark.kafka
async def test_a_topic_made_anew_has_another_id(
    kafka: KafkaTools, name: str, make_topic: MakeTopic
) -> None:
    topic = make_topic()
    first = await ensured(topic)
    kafka.delete_topic(name)
    give_up = time.monotonic() + 10
    while await ensured(topic) == first:
        assert time.monotonic() < give_up


@pytest.mark.kafka
async def test_many_who_make_the_topic_at_once_agree(make_topic: MakeTopic) -> None:
    topics = [make_topic() for _ in range(4)]
    ids = await asyncio.gather(*(ensured(topic) for topic in topics for _ in range(3)))
    assert len(set(ids)) == 1


@pytest.mark.kafka
async def test_a_topic_with_other_partitions_is_named_and_left_alone(
    kafka: KafkaTools, name: str, make_topic: MakeTopic
) -> None:
    kafka.create_topic(name, 2, {"retention.ms": "1234567"})
    before = config_of(kafka, name)
    with pytest.raises(TopicMismatch) as caught:
        await make_topic().ensure()
    assert f"topic {name} has 2 partitions" in caught.value.detail
    assert "KAFKA_TOPIC_PARTITIONS=2" in caught.value.detail
    assert partitions_of(kafka, name) == 2
    assert config_of(kafka, name) == before


@pytest.mark.kafka
async def test_a_topic_that_does_not_take_our_records_is_named_and_left_alone(
    kafka: KafkaTools, name: str, make_topic: MakeTopic
) -> None:
    kafka.create_topic(name, PARTITIONS, {"max.message.bytes": "4000"})
    before = config_of(kafka, name)
    needed = MAX_VALUE_BYTES + RECORD_OVERHEAD_BYTES
    with pytest.raises(TopicMismatch, match=f"up to 4000 bytes.*at least {needed}"):
        await make_topic().ensure()
    assert config_of(kafka, name) == before


@pytest.mark.kafka
async def test_the_smallest_sufficient_message_size_is_enough(
    kafka: KafkaTools, name: str, make_topic: MakeTopic
) -> None:
    needed = str(MAX_VALUE_BYTES + RECORD_OVERHEAD_BYTES)
    kafka.create_topic(name, PARTITIONS, {"max.message.bytes": needed})
    assert await make_topic().ensure()


async def test_without_a_broker_it_says_so_within_seconds(make_topic: MakeTopic) -> None:
    servers = f"localhost:{free_port()}"
    topic = make_topic(Connection(servers))
    began = time.monotonic()
    with pytest.raises(KafkaUnavailable, match=f"no Kafka broker answers at {servers}"):
        await topic.ensure()
    assert time.monotonic() - began < 6.5
    assert f"no Kafka broker answers at {servers}" in (await topic.trouble() or "")


@pytest.mark.kafka
async def test_trouble_is_none_while_a_broker_answers(topic: KafkaTopic) -> None:
    assert await topic.trouble() is None
    began = time.monotonic()
    assert [await topic.trouble() for _ in range(20)] == [None] * 20
    assert time.monotonic() - began < 0.1


# The tail.


def waiting_event(
    number: int, symbol: str = "AAPL", recorded_at: datetime = RECORDED_AT
) -> WaitingEvent:
    raw_response_id = uuid7()
    value, headers = encode_price_event(
        make_quote(symbol, currency="USD"), provider="history", raw_response_id=raw_response_id
    )
    event_id = EventId(symbol, number)
    return WaitingEvent(
        number, event_id, PRICE_RECORDED, raw_response_id, recorded_at, value, headers
    )


def our_headers(event_id: str, **more: str) -> dict[str, str]:
    return {"ce_id": event_id, "ce_source": str(SOURCE), "ce_type": PRICE_RECORDED} | more


def append(
    kafka: KafkaTools,
    name: str,
    *records: tuple[dict[str, str], bytes | None],
    partition: int = 0,
) -> None:
    """Append records as some other producer would."""
    producer = Producer(connection_to(kafka).base("other"))
    for headers, value in records:
        producer.produce(name, value, "AAPL", partition, headers=list(headers.items()))
    assert producer.flush(10) == 0
    producer.close()


def ours(*numbers: int) -> list[tuple[dict[str, str], bytes]]:
    return [(our_headers(f"AAPL~{number}"), waiting_event(number).value) for number in numbers]


async def read_tail(
    topic: KafkaTopic, start: int | None = None, shard: int = 0
) -> tuple[list[TailRecord], int]:
    """Return all records and the offset at which the reading ended."""
    records: list[TailRecord] = []
    end = -1
    async with asyncio.timeout(9):
        async for batch in topic.tail(shard, start):
            records.extend(batch.records)
            assert batch.next_offset >= end
            end = batch.next_offset
    return records, end


def numbers_of(records: Sequence[TailRecord]) -> list[int]:
    return [record.event_id.sequence for record in records]


@pytest.mark.kafka
async def test_a_record_of_ours_is_read_with_all_that_is_judged(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    event = waiting_event(12)
    append(kafka, name, (our_headers("AAPL~12"), event.value), partition=1)
    assert await read_tail(topic, shard=1) == (
        [TailRecord(EventId("AAPL", 12), SOURCE, event.raw_response_id, 0)],
        1,
    )
    assert await read_tail(topic, shard=0) == ([], 0)


@pytest.mark.kafka
async def test_the_tail_starts_where_it_is_asked_to(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    append(kafka, name, *ours(*range(1, 11)))
    for start, first in ((None, 1), (0, 1), (4, 5), (9, 10)):
        records, end = await read_tail(topic, start)
        assert (numbers_of(records), end) == (list(range(first, 11)), 10)
    assert await read_tail(topic, 10) == ([], 10)


@pytest.mark.kafka
async def test_an_expired_offset_means_from_what_is_left_and_one_beyond_the_end_from_the_beginning(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    append(kafka, name, *ours(*range(1, 11)))
    expire(kafka, name, 6)
    for start in (None, 0, 5, 11, 10**9):
        records, end = await read_tail(topic, start)
        assert (numbers_of(records), end) == ([7, 8, 9, 10], 10)
    assert numbers_of((await read_tail(topic, 8))[0]) == [9, 10]


@pytest.mark.kafka
async def test_a_partition_whose_records_are_all_gone_ends(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    append(kafka, name, *ours(1, 2, 3))
    expire(kafka, name, 3)
    for start in (None, 1, 3):
        assert await read_tail(topic, start) == ([], 3)


@pytest.mark.kafka
async def test_what_no_relay_published_is_skipped(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    value = waiting_event(1).value
    append(
        kafka,
        name,
        ({}, value),
        ({}, None),
        ({"ce_id": "AAPL~1", "ce_source": "/somebody/else"}, value),
        ({"ce_source": str(SOURCE)}, value),
        (our_headers("no id"), value),
        (our_headers("AAPL~0"), value),
        (our_headers("AAPL~3", **{"pw-test": "1"}), value),
        (our_headers("AAPL~4", **{"pw-replay-id": "r"}), value),
        (our_headers("AAPL~5", **{"pw-redrive": "1"}), value),
        *ours(6),
    )
    records, end = await read_tail(topic)
    assert (numbers_of(records), end) == ([6], 10)
    assert records[0].offset == 9


@pytest.mark.kafka
async def test_other_stores_are_read_as_what_they_are(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    other = Source(uuid4(), 1)
    append(kafka, name, (our_headers("AAPL~1", ce_source=str(other)), waiting_event(1).value))
    [record], _ = await read_tail(topic)
    assert record.source == other


@pytest.mark.kafka
async def test_a_value_that_cannot_be_read_has_no_raw_response(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    values = [b"", None, b"\xff\xfe", b"{}", b"[1]", b'{"raw_response_id": 3}']
    append(kafka, name, *[(our_headers(f"AAPL~{n}"), v) for n, v in enumerate(values, 1)])
    records, _ = await read_tail(topic)
    assert [record.raw_response_id for record in records] == [None] * len(values)


@pytest.mark.kafka
@pytest.mark.parametrize("outcome", ["commit", "abort"])
async def test_anothers_transactions_do_not_hold_up_the_tail(
    kafka: KafkaTools, name: str, topic: KafkaTopic, outcome: str
) -> None:
    append(kafka, name, *ours(1))
    config = connection_to(kafka).base("other") | {"transactional.id": name}
    producer = Producer(config)
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(name, b"x", "AAPL", 0)
    assert producer.flush(10) == 0
    records, end = await read_tail(topic)  # while it is open
    assert (numbers_of(records), end) == ([1], 2)
    if outcome == "commit":
        producer.commit_transaction(10)
    else:
        producer.abort_transaction(10)
    producer.close()
    records, end = await read_tail(topic)
    assert (numbers_of(records), end) == ([1], 3)
    assert await read_tail(topic, 3) == ([], 3)
    assert await read_tail(topic, 2) == ([], 3)


@pytest.mark.kafka
async def test_a_long_tail_comes_in_batches_and_whole(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    append(kafka, name, *ours(*range(1, 2501)))
    sizes: list[int] = []
    records: list[TailRecord] = []
    async for batch in topic.tail(0, None):
        sizes.append(len(batch.records))
        records.extend(batch.records)
    assert numbers_of(records) == list(range(1, 2501))
    assert max(sizes) <= 1000


@pytest.mark.kafka
async def test_a_partition_that_does_not_exist_is_trouble(topic: KafkaTopic) -> None:
    with pytest.raises(KafkaTrouble):
        await read_tail(topic, shard=PARTITIONS + 4)


# The producer.


class Reports:
    """What a producer reported, and on which thread."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self.threads: set[int] = set()
        self._news = asyncio.Event()

    def __call__(self, reports: list[Report]) -> None:
        self.all.extend(reports)
        self.threads.add(threading.get_ident())
        self._news.set()

    async def wait_for(self, count: int, seconds: float = 20) -> list[Report]:
        async with asyncio.timeout(seconds):
            while len(self.all) < count:
                self._news.clear()
                await self._news.wait()
        return self.all


def open_producer(
    connection: Connection,
    name: str,
    reports: Callable[[list[Report]], None],
    *,
    shard: int = 0,
    single: bool = False,
) -> ShardProducer:
    config = producer_config(connection, ProducerRules(), single=single)
    return ShardProducer(config, topic=name, shard=shard, reported=reports)


@pytest.mark.kafka
async def test_a_record_is_what_the_contract_says(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports, shard=2)
    event = waiting_event(7, "BRK.B")
    producer.hand_over(event, SOURCE)
    assert await reports.wait_for(1) == [Report(7, 0)]
    assert reports.threads == {threading.get_ident()}
    assert (producer.failure, producer.last_error) == (None, None)
    await producer.aclose()

    [record] = kafka.read_all(name, PARTITIONS)
    assert (record.partition(), record.key(), record.value()) == (2, b"BRK.B", event.value)
    milliseconds = int(RECORDED_AT.timestamp() * 1000)
    assert record.timestamp() == (TIMESTAMP_CREATE_TIME, milliseconds)
    assert record.headers() == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"BRK.B~7"),
        ("ce_type", b"price.recorded"),
        ("ce_source", str(SOURCE).encode()),
        ("content-type", b"application/json"),
        ("pw-currency", b"USD"),
    ]
    records, end = await read_tail(topic, shard=2)
    assert records == [TailRecord(event.event_id, SOURCE, event.raw_response_id, 0)]
    assert end == 1


@pytest.mark.kafka
async def test_five_thousand_events_keep_their_order_in_snappy_batches(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    for number in range(1, 5001):
        producer.hand_over(waiting_event(number), SOURCE)
    found = await reports.wait_for(5000)
    await producer.aclose()
    assert [report.outbox_id for report in found] == list(range(1, 5001))
    assert [report.offset for report in found] == list(range(5000))
    assert {report.error for report in found} == {None}
    assert [ce_id(record) for record in kafka.read_all(name, PARTITIONS)] == [
        f"AAPL~{number}" for number in range(1, 5001)
    ]
    lines = kafka.dump_log(name, 0).splitlines()
    batches = [line for line in lines if line.startswith("baseOffset")]
    assert all("compresscodec: snappy" in line for line in batches)
    assert len(batches) < 2500


@pytest.mark.kafka
async def test_a_single_producer_sends_batches_of_one(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports, single=True)
    for number in range(1, 51):
        producer.hand_over(waiting_event(number), SOURCE)
    await reports.wait_for(50)
    await producer.aclose()
    lines = kafka.dump_log(name, 0).splitlines()
    batches = [line for line in lines if line.startswith("baseOffset")]
    assert len(batches) == 50
    assert all(" count: 1 " in line for line in batches)


def ce_id(record: Message) -> str:
    value = dict(record.headers() or [])["ce_id"]
    assert isinstance(value, bytes)
    return value.decode()


@pytest.mark.kafka
async def test_a_record_from_years_ago_is_taken(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    producer.hand_over(waiting_event(1, recorded_at=RECORDED_AT - timedelta(days=9000)), SOURCE)
    assert await reports.wait_for(1) == [Report(1, 0)]
    await producer.aclose()


@pytest.mark.kafka
async def test_flush_waits_for_reports_and_close_brings_the_rest(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    for number in range(1, 501):
        producer.hand_over(waiting_event(number), SOURCE)
    await producer.flush(10)
    await producer.aclose()
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 501))
    assert {report.error for report in reports.all} == {None}


@pytest.mark.kafka
async def test_closing_at_once_reports_every_event_and_sends_nothing_afterwards(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    for number in range(1, 2001):
        producer.hand_over(waiting_event(number), SOURCE)
    await producer.aclose()
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 2001))
    _, before = await read_tail(topic)
    await asyncio.sleep(1)
    records, after = await read_tail(topic)
    assert before == after
    delivered = {report.outbox_id for report in reports.all if report.error is None}
    assert delivered <= set(numbers_of(records))
    assert numbers_of(records) == list(range(1, after + 1))


@pytest.mark.kafka
async def test_closing_without_a_broker_takes_seconds_and_reports_every_event(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    producer.hand_over(waiting_event(1), SOURCE)
    await reports.wait_for(1)
    await asyncio.to_thread(kafka.broker.stop)
    try:
        for number in range(2, 102):
            producer.hand_over(waiting_event(number), SOURCE)
        await producer.flush(1)
        assert len(reports.all) == 1
        assert producer.failure is None
        assert producer.last_error
        began = time.monotonic()
        await producer.aclose()
        assert time.monotonic() - began < 10
        with pytest.raises(KafkaUnavailable):
            await topic.ensure()
    finally:
        await asyncio.to_thread(kafka.broker.start, started_by="tests")
        await asyncio.sleep(2)  # a broker that answers does not lead its partitions yet
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 102))
    assert [report.outbox_id for report in reports.all if report.error is None] == [1]
    assert not any(report.too_large for report in reports.all)
    assert [record.event_id.sequence for record in (await read_tail(topic))[0]] == [1]


# until the process ends (producer.py, `_poll_until_closed`, `_on_error`). The next three tests.


@pytest.mark.kafka
async def test_a_record_that_is_too_large_is_reported_as_that(kafka: KafkaTools, name: str) -> None:
    kafka.create_topic(name, PARTITIONS, {"max.message.bytes": "4000"})
    event = waiting_event(1)
    large = WaitingEvent(
        1, event.event_id, event.type, event.raw_response_id, RECORDED_AT, os.urandom(8000), ()
    )
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    producer.hand_over(large, SOURCE)
    try:
        [report] = await reports.wait_for(1, 5)
    finally:
        await producer.aclose()
    assert report.too_large
    assert report.error
    assert kafka.read_all(name, PARTITIONS) == []


@pytest.mark.kafka
async def test_a_fatal_error_is_a_failure_and_closing_brings_every_report(
    kafka: KafkaTools, name: str
) -> None:
    kafka.create_topic(name, PARTITIONS, {"max.message.bytes": "4000"})
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    for number in range(1, 501):
        producer.hand_over(waiting_event(number), SOURCE)
    await until(lambda: producer.failure, 5)
    failure = producer.failure
    await producer.aclose()
    assert failure
    assert failure == "Broker: Message size too large"
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 501))
    assert any(report.too_large for report in reports.all)


@pytest.mark.kafka
async def test_closing_with_events_in_flight_brings_every_report_behind_the_fatal_error(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    producer.hand_over(waiting_event(1), SOURCE)
    await reports.wait_for(1)
    broker = kafka.broker.status().pid
    assert broker is not None
    os.kill(broker, signal.SIGSTOP)
    try:
        for number in range(2, 502):
            producer.hand_over(waiting_event(number), SOURCE)
        await asyncio.sleep(0.5)  # until some are on their way; nothing tells when
        await producer.aclose()
    finally:
        os.kill(broker, signal.SIGCONT)
    assert producer.failure is not None
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 502))


@pytest.mark.kafka
async def test_the_relay_goes_on_in_batches_of_one_where_batches_are_too_large(
    kafka: KafkaTools, name: str, make_topic: MakeTopic
) -> None:
    smallest = str(MAX_VALUE_BYTES + RECORD_OVERHEAD_BYTES)
    kafka.create_topic(name, PARTITIONS, {"max.message.bytes": smallest})
    database = FakeDatabase([])
    for number in range(1, 501):
        database.show(waiting_event(number))
    relay = ShardRelay(
        0,
        shards=database,
        topic=make_topic(),
        open_publisher=lambda shard, *, single, reported: open_producer(
            connection_to(kafka), name, reported, shard=shard, single=single
        ),
        published=lambda _: None,
        rules=RelayRules(name, timedelta(seconds=30), attempts=3, flush_seconds=2),
        clock=now,
    )
    running = asyncio.create_task(relay.run())
    try:
        await until(lambda: not database.outbox, 12)
    finally:
        relay.stop()
        await running
    assert [ce_id(record) for record in kafka.read_all(name, PARTITIONS)] == [
        f"AAPL~{number}" for number in range(1, 501)
    ]


@pytest.mark.kafka
async def test_a_partition_that_does_not_exist_is_a_failed_report_or_a_refusal(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports, shard=PARTITIONS + 4)
    error: str | None
    try:
        producer.hand_over(waiting_event(1), SOURCE)
        error = (await reports.wait_for(1))[0].error
    except KafkaTrouble as refused:
        error = refused.detail
    assert error
    assert "partition" in error.lower()
    await producer.aclose()


@pytest.mark.kafka
async def test_the_client_that_is_full_refuses(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    config = producer_config(connection_to(kafka), ProducerRules(linger_ms=1000), single=False)
    config["queue.buffering.max.messages"] = 10
    producer = ShardProducer(config, topic=name, shard=0, reported=reports)
    for number in range(1, 11):
        producer.hand_over(waiting_event(number), SOURCE)
    with pytest.raises(KafkaTrouble, match="a record of AAPL: Local: Queue full"):
        producer.hand_over(waiting_event(11), SOURCE)
    await producer.aclose()
    assert len(reports.all) == 10


@pytest.mark.kafka
async def test_a_deleted_topic_fails_the_events_instead_of_waiting_for_ever(
    kafka: KafkaTools, name: str, topic: KafkaTopic
) -> None:
    reports = Reports()
    producer = open_producer(connection_to(kafka), name, reports)
    producer.hand_over(waiting_event(1), SOURCE)
    await reports.wait_for(1)
    kafka.delete_topic(name)
    async with asyncio.timeout(40):
        number = 1
        while all(report.error is None for report in reports.all) and not producer.failure:
            number += 1
            producer.hand_over(waiting_event(number), SOURCE)
            await asyncio.sleep(0.5)
    await producer.aclose()


# The in-memory cluster.


@pytest.fixture
def memory() -> Iterator[Connection]:
    cluster = MemoryKafka()
    yield Connection(cluster.bootstrap_servers, in_memory=True)
    cluster.close()


async def test_the_in_memory_cluster_serves_topic_producer_and_tail(
    memory: Connection, name: str, make_topic: MakeTopic
) -> None:
    topic = make_topic(memory, partitions=MEMORY_PARTITIONS)
    topic_id = await topic.ensure()
    assert topic_id == await topic.ensure()
    assert topic_id.startswith("in-memory-")
    assert await topic.trouble() is None
    assert await read_tail(topic, shard=1) == ([], 0)
    reports = Reports()
    producer = open_producer(memory, name, reports, shard=1)
    for number in range(1, 101):
        producer.hand_over(waiting_event(number), SOURCE)
    assert [report.error for report in await reports.wait_for(100)] == [None] * 100
    await producer.aclose()
    records, end = await read_tail(topic, shard=1)
    assert (numbers_of(records), end) == (list(range(1, 101)), 100)
    assert numbers_of((await read_tail(topic, 90, shard=1))[0]) == list(range(91, 101))


async def test_the_in_memory_cluster_has_its_number_of_partitions(
    memory: Connection, make_topic: MakeTopic
) -> None:
    with pytest.raises(TopicMismatch, match=f"has {MEMORY_PARTITIONS} partitions"):
        await make_topic(memory, partitions=MEMORY_PARTITIONS + 1).ensure()


async def test_no_report_is_lost_between_the_threads_that_take_them(
    memory: Connection, name: str, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ShardProducer._report

    def interrupted(
        self: ShardProducer, outbox_id: int, error: KafkaError | None, message: Message
    ) -> Report:
        time.sleep(0.002)  # where the interpreter may let another thread run
        return made(self, outbox_id, error, message)

    monkeypatch.setattr(ShardProducer, "_report", interrupted)
    await make_topic(memory, partitions=MEMORY_PARTITIONS).ensure()
    reports = Reports()
    producer = open_producer(memory, name, reports)
    for number in range(1, 301):
        producer.hand_over(waiting_event(number), SOURCE)
    await producer.flush(20)
    await producer.aclose()
    assert sorted(report.outbox_id for report in reports.all) == list(range(1, 301))


def test_no_password_is_in_what_is_printed_of_a_connection() -> None:
    connection = Connection("broker:9092", {"sasl.password": "hunter2"})
    assert "hunter2" not in repr(connection)
    assert connection.base("x")["sasl.password"] == "hunter2"
    assert "broker.address.family" not in connection.base("x")
