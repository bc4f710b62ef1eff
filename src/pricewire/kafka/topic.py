"""The topic of price events: made, checked, read at its end; the relay's port `Topic`.

The relay asks for it before each spell of publishing. Invariant: a topic is created explicitly
with what the settings say, and one that is different is reported, never changed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from pricewire.domain.event import MAX_VALUE_BYTES
from pricewire.errors import KafkaUnavailable, TopicMismatch
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import decode_price_event, relayed
from pricewire.kafka.look import Look, Seen
from pricewire.kafka.probe import Probe
from pricewire.kafka.trouble import explain
from pricewire.services.publishing import TailBatch, TailRecord

ADMIN_SECONDS = 5.0
READ_SECONDS = 5.0
PROBE_SECONDS = 2.0
BATCH = 1_000
RECORD_OVERHEAD_BYTES = 2_048
"""Room for key, headers and framing beside the largest value."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What the topic shall be like."""

    name: str
    partitions: int
    replication_factor: int
    min_insync_replicas: int
    retention_hours: int
    max_message_bytes: int | None = None

    def config(self) -> dict[str, str]:
        retention_ms = -1 if self.retention_hours < 0 else self.retention_hours * 3_600_000
        config = {
            "cleanup.policy": "delete",
            "min.insync.replicas": str(self.min_insync_replicas),
            "retention.ms": str(retention_ms),
        }
        if self.max_message_bytes is not None:
            config["max.message.bytes"] = str(self.max_message_bytes)
        return config


class KafkaTopic:
    """See the module. `ensure` is shared: shards that ask at once get one answer."""

    def __init__(self, connection: Connection, plan: TopicPlan) -> None:
        self._connection = connection
        self._plan = plan
        self._threads = ThreadPoolExecutor(thread_name_prefix="topic", max_workers=8)
        self._check: asyncio.Task[str] | None = None
        self._look = Look(self._see, self._threads)
        self._probe: Probe | None = None
        self._probed: tuple[float, str | None] = (-PROBE_SECONDS, None)
        self._unchecked = False
        self._memory_id = f"in-memory-{uuid.uuid4()}"

    async def ensure(self) -> str:
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._in_thread())
            self._look.ensured()
        return await asyncio.shield(self._check)

    def replaced(self, topic_id: str) -> bool:
        if not self._connection.in_memory:
            self._look.again()
        return self._look.topic_id not in (None, topic_id)

    def complaint(self, shard: int) -> str | None:
        return self._look.complaint(shard)

    def present_id(self) -> str | None:
        """Return the topic's id as a broker tells it now, None where none does; blocking."""
        if self._connection.in_memory:
            return self._memory_id
        description = self._see().description
        return None if description is None else str(description.topic_id)

    def _see(self) -> Seen:
        """A topic that is gone makes the producer fail, which says so."""
        self._probe = self._probe or Probe(self._connection, "probe")
        try:
            return Seen(self._describe(self._probe.admin))
        except KafkaException as error:
            # No answer is told better by the producer, which knows why there is none.
            if error.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001
                return Seen()
            return Seen(trouble=self.refused(error, "Describe").detail)

    async def trouble(self) -> str | None:
        """Return why no broker answers, None while one does; asked at most every few seconds."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._probed[0] >= PROBE_SECONDS:
            self._probed = (loop.time(), self._probed[1])
            found = await loop.run_in_executor(self._threads, self._ask_broker)
            self._probed = (loop.time(), found)
        return self._probed[1]

    def _ask_broker(self) -> str | None:
        self._probe = self._probe or Probe(self._connection, "probe")
        try:
            self._probe.answers(PROBE_SECONDS)
        except KafkaUnavailable as error:
            return error.detail
        return None

    async def _in_thread(self) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.require)

    @property
    def name(self) -> str:
        return self._plan.name

    def require(self) -> str:
        """Do as `ensure` does, blocking, for callers with a thread of their own."""
        try:
            return self._ensure_in_memory() if self._connection.in_memory else self._ensure_real()
        except KafkaException as error:
            raise self.refused(error, "Describe") from error

    def refused(self, error: KafkaException, right: str) -> KafkaUnavailable:
        """Return what to raise for `error`; `right` is what an ACL must allow for the call."""
        config = self._connection.base("admin")
        meaning = explain(error.args[0], config, topic=self._plan.name, right=right)
        servers = self._connection.servers
        return KafkaUnavailable(meaning if servers in meaning else f"Kafka at {servers}: {meaning}")

    def _ensure_real(self) -> str:
        asking = Probe(self._connection, "admin")
        # Fails fast and plainly where no broker answers; admin calls would only time out.
        asking.answers(ADMIN_SECONDS)
        admin = asking.admin
        description = self._describe(admin)
        if description is None:
            self._create(admin)
            description = self._described_soon(admin)
        if description is None:
            raise KafkaUnavailable(f"topic {self._plan.name} was created but is not there yet")
        # Before the checks: where one shard finds a topic that is wrong, all shall stop at once.
        self._look.topic_id = topic_id = str(description.topic_id)
        self._check_partitions(len(description.partitions))
        self._check_config(admin)
        return topic_id

    def _describe(self, admin: AdminClient) -> TopicDescription | None:
        names = TopicCollection([self._plan.name])
        future = admin.describe_topics(names, request_timeout=ADMIN_SECONDS)[self._plan.name]
        try:
            description: TopicDescription = future.result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        return description

    def _described_soon(self, admin: AdminClient) -> TopicDescription | None:
        """The broker that is asked may learn of a new topic later than the one that made it."""
        give_up = time.monotonic() + ADMIN_SECONDS
        while (description := self._describe(admin)) is None and time.monotonic() < give_up:
            time.sleep(0.1)
        return description

    def _create(self, admin: AdminClient) -> None:
        plan = self._plan
        topic = NewTopic(
            plan.name,
            num_partitions=plan.partitions,
            replication_factor=plan.replication_factor,
            config=plan.config(),
        )
        try:
            admin.create_topics([topic], operation_timeout=ADMIN_SECONDS)[plan.name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self.refused(error, "Create") from error

    def _check_partitions(self, found: int) -> None:
        if found != self._plan.partitions:
            raise TopicMismatch(
                f"topic {self._plan.name} has {found} partitions, KAFKA_TOPIC_PARTITIONS says "
                f"{self._plan.partitions}: nothing is published, as it would land out of order; "
                f"set KAFKA_TOPIC_PARTITIONS={found}, use another topic, or `pricewire topics "
                f"repartition --partitions {max(found, self._plan.partitions)}`"
            )

    def _check_config(self, admin: AdminClient) -> None:
        resource = ConfigResource(ResourceType.TOPIC, self._plan.name)
        try:
            asked = admin.describe_configs([resource], request_timeout=ADMIN_SECONDS)[resource]
            limit = int(asked.result()["max.message.bytes"].value)
            self._look.min_insync = int(asked.result()["min.insync.replicas"].value)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            self._say_unchecked(error)
            return
        needed = MAX_VALUE_BYTES + RECORD_OVERHEAD_BYTES
        if limit < needed:
            raise TopicMismatch(
                f"topic {self._plan.name} takes messages up to {limit} bytes; "
                f"max.message.bytes must be at least {needed}"
            )

    def _say_unchecked(self, error: KafkaException) -> None:
        """A relay needs no right to read the topic's configuration: it is only checked less."""
        if not self._unchecked:
            self._unchecked = True
            log.warning(
                "topic.not_checked",
                reason=self.refused(error, "DescribeConfigs").detail,
                meaning="whether max.message.bytes is large enough is not known",
            )

    def _ensure_in_memory(self) -> str:
        """The mock cluster knows no admin calls; asking for a topic's metadata makes it."""
        client = Consumer(
            {
                **self._connection.base("admin"),
                "group.id": "pricewire-admin",
                "allow.auto.create.topics": True,
            }
        )
        try:
            metadata = client.list_topics(self._plan.name, timeout=ADMIN_SECONDS)
            self._check_partitions(len(metadata.topics[self._plan.name].partitions))
        finally:
            client.close()
        return self._memory_id

    async def tail(self, shard: int, start: int | None) -> AsyncGenerator[TailBatch, None]:
        loop = asyncio.get_running_loop()
        reader = TailReader(self._connection, self._plan.name, shard)
        try:
            await loop.run_in_executor(self._threads, reader.open, start)
            while not reader.at_end:
                yield await loop.run_in_executor(self._threads, reader.read)
        except KafkaException as error:
            raise self.refused(error, "Read") from error
        finally:
            await loop.run_in_executor(self._threads, reader.close)

    def close(self) -> None:
        """Let go of the threads and of the probe; nothing is asked after it."""
        self._probe = None
        self._threads.shutdown(wait=False, cancel_futures=True)


class TailReader:
    """Reads one partition up to the end that it has when opened; blocking, one thread at a time."""

    def __init__(self, connection: Connection, topic: str, shard: int) -> None:
        self._partition = TopicPartition(topic, shard)
        self._next = 0
        self._end = -1
        self._consumer = Consumer(
            {
                **connection.base("tail"),
                "group.id": "pricewire-tail",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_uncommitted",
            }
        )

    @property
    def at_end(self) -> bool:
        return self._end >= 0

    def open(self, start: int | None) -> None:
        low, high = self._consumer.get_watermark_offsets(self._partition, timeout=READ_SECONDS)
        known = start is not None and low <= start <= high
        self._next = start if known and start is not None else low
        self._partition.offset = self._next
        self._consumer.assign([self._partition])

    def read(self) -> TailBatch:
        """Return the next records of the relay's; sets `at_end` at the partition's end.

        One `poll` a record: `consume` would wait for a full batch although the end was reached.
        """
        records = []
        for _ in range(BATCH):
            message = self._poll()
            if message is None:
                break
            self._next = _offset(message) + 1
            if (record := _tail_record(message)) is not None:
                records.append(record)
        return TailBatch(records, self._next)

    def _poll(self) -> Message | None:
        message = self._consumer.poll(READ_SECONDS)
        # librdkafka looks for the group, which is never used and needs no right.
        while message is not None and _is_about_the_group(message):
            message = self._consumer.poll(READ_SECONDS)
        if message is None:
            raise KafkaUnavailable(f"{self._partition.topic} could not be read to its end")
        error = message.error()
        if error is None:
            return message
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            raise KafkaException(error)
        self._next = self._end = _offset(message)
        return None

    def close(self) -> None:
        self._consumer.close()


def _is_about_the_group(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _tail_record(message: Message) -> TailRecord | None:
    """Return the record if a relay published it, None if it is somebody else's."""
    found = relayed(message.headers())
    if found is None:
        return None
    return TailRecord(*found, _raw_response_id(message), _offset(message))


def _raw_response_id(message: Message) -> uuid.UUID | None:
    try:
        return decode_price_event(message.value() or b"").raw_response_id
    except msgspec.DecodeError:
        return None
