"""Whether a Kafka takes our events and gives them back unchanged: `pricewire kafka check`.

The composition root builds it of the relay's own producer and topic, and the CLI prints what it
found. Invariants: what it publishes has the header `pw-test` and a source of its own, so that no
relay, processor or average ever counts it; and `Findings.passed` is true only if the broker
reported every event and each was read back as it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from confluent_kafka import murmur2
from uuid_utils.compat import uuid4, uuid7

from pricewire.domain.quote import Precision, Quote
from pricewire.errors import KafkaTrouble, KafkaUnavailable, TopicMismatch
from pricewire.kafka.codec import Record, encode_price_event, headers_of_a_test
from pricewire.kafka.producer import ShardProducer
from pricewire.kafka.read_back import ReadBack, differences
from pricewire.kafka.topic import KafkaTopic
from pricewire.services.publishing import Report

REPORT_SECONDS = 8.0
MAX_PARTITIONS = 12
"""A producer for each is opened at once."""
PRICES = ("150.25", "112.1300", "0.00000001", "109631.43060700", "100", "1.10")
"""With zeros, small and large: what a float on the way would change."""


class OpenProducer(Protocol):
    def __call__(
        self, shard: int, *, single: bool, reported: Callable[[list[Report]], None]
    ) -> ShardProducer: ...


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One test event: where it lies, and in what it differs from what was sent."""

    symbol: str
    partition: int
    offset: int | None
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found.

    Args:
        mismatch: why the service itself would not publish to this topic, None if it would.
    """

    topic: str
    partitions: int
    round_trips: tuple[RoundTrip, ...]
    mismatch: str | None

    @property
    def unchanged(self) -> int:
        return sum(not trip.differences for trip in self.round_trips)

    @property
    def passed(self) -> bool:
        return 0 < self.unchanged == len(self.round_trips)


class ProducerCheck:
    """Publishes one event to each partition, at most the first twelve, and reads them back."""

    def __init__(
        self,
        topic: KafkaTopic,
        *,
        open_producer: OpenProducer,
        open_reader: Callable[[], ReadBack],
        clock: Callable[[], datetime],
    ) -> None:
        self._topic = topic
        self._open_producer = open_producer
        self._open_reader = open_reader
        self._clock = clock

    async def run(self) -> Findings:
        """Make the topic if it is missing, publish, read back, compare.

        Raises:
            KafkaTrouble: no broker answers, or it refuses, or it does not report in time.
        """
        mismatch = await self._mismatch()
        try:
            return await self._round_trips(mismatch)
        except KafkaTrouble as error:
            if mismatch is None:
                raise
            raise KafkaTrouble(f"{error.detail}; {mismatch}") from error

    async def _round_trips(self, mismatch: str | None) -> Findings:
        reader = self._open_reader()
        try:
            partitions = await asyncio.to_thread(reader.open, MAX_PARTITIONS)
            records = {
                partition: a_test_record(partition, partitions, self._clock())
                for partition in range(min(partitions, MAX_PARTITIONS))
            }
            offsets = await self._publish(records)
            found = await asyncio.to_thread(reader.read, records)
        finally:
            await asyncio.to_thread(reader.close)
        trips = tuple(
            RoundTrip(
                record.key,
                partition,
                offsets[partition],
                differences(record, found.get(partition), offsets[partition]),
            )
            for partition, record in records.items()
        )
        return Findings(reader.topic, partitions, trips, mismatch)

    async def _mismatch(self) -> str | None:
        try:
            await self._topic.ensure()
        except TopicMismatch as error:
            return error.detail
        return None

    async def _publish(self, records: Mapping[int, Record]) -> dict[int, int | None]:
        reports: dict[int, Report] = {}
        all_reported = asyncio.Event()

        def reported(batch: list[Report]) -> None:
            reports.update((report.outbox_id, report) for report in batch)
            if len(reports) == len(records):
                all_reported.set()

        producers = {
            partition: self._open_producer(partition, single=False, reported=reported)
            for partition in records
        }
        try:
            for partition, record in records.items():
                producers[partition].send(partition, record)
            async with asyncio.timeout(REPORT_SECONDS):
                await all_reported.wait()
        except TimeoutError:
            raise _unreported(producers, reports) from None
        finally:
            await asyncio.gather(*(producer.aclose() for producer in producers.values()))
        return {partition: _offset(partition, reports[partition]) for partition in records}


def a_test_record(partition: int, partitions: int, at: datetime) -> Record:
    """Return a price event that lands on `partition` by its key, like those of the service."""
    quote = Quote(
        symbol=_symbol_on(partition, partitions),
        price=Decimal(PRICES[partition % len(PRICES)]),
        timestamp=at,
        precision=Precision.MICROSECOND,
    )
    value, extra = encode_price_event(quote, provider="test", raw_response_id=uuid7())
    return Record(quote.symbol, value, headers_of_a_test(uuid4(), extra), at)


def _symbol_on(partition: int, partitions: int) -> str:
    number = 1
    while murmur2(f"TEST.{number}".encode(), partitions) != partition:
        number += 1
    return f"TEST.{number}"


def _offset(partition: int, report: Report) -> int | None:
    if report.error is not None:
        raise KafkaTrouble(
            f"the broker refused the event for partition {partition}: {report.error}"
        )
    return report.offset


def _unreported(
    producers: Mapping[int, ShardProducer], reports: Mapping[int, Report]
) -> KafkaUnavailable:
    missing = [partition for partition in producers if partition not in reports]
    reasons = (producers[one].failure or producers[one].last_error for one in missing)
    reason = next(filter(None, reasons), "no broker said why")
    return KafkaUnavailable(
        f"the broker confirmed {len(reports)} of {len(producers)} test events "
        f"within {REPORT_SECONDS:g} s; partition {missing[0]} did not answer: {reason}"
    )
