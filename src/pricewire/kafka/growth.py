"""Topics that get more partitions: how many there are, where they end, and how they grow.

`bootstrap_repartition` uses it. Invariant: nothing else in the program changes a topic that is
there; and a topic never gets fewer partitions, which Kafka cannot do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Connection
from pricewire.kafka.probe import Probe
from pricewire.kafka.trouble import explain

SECONDS = 10.0


class TopicGrowth:
    """See the module; blocking. All raise `KafkaUnavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._probe = Probe(connection, "growth")

    def partitions(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many partitions each of the topics has that are there."""
        self._probe.answers(SECONDS)
        found = self._probe.admin.list_topics(timeout=SECONDS).topics
        return {name: len(found[name].partitions) for name in names if name in found}

    def ends(self, topic: str, partitions: int) -> Mapping[int, tuple[int, int]]:
        """Return the first offset and the end of so many partitions."""
        config = {**self._connection.base("growth"), "group.id": "pricewire-ends"}
        consumer = Consumer(config)
        try:
            return {
                number: consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=SECONDS
                )
                for number in range(partitions)
            }
        except KafkaException as error:
            raise self._refused(error, topic, "Describe") from error
        finally:
            consumer.close()

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic so many partitions; returns when brokers tell of them."""
        asked = self._probe.admin.create_partitions(
            [NewPartitions(topic, partitions)], operation_timeout=SECONDS
        )
        try:
            asked[topic].result()
        except KafkaException as error:
            raise self._refused(error, topic, "Alter") from error
        give_up = time.monotonic() + SECONDS
        while self.partitions([topic]).get(topic) != partitions:
            if time.monotonic() > give_up:
                raise KafkaUnavailable(f"topic {topic} was given {partitions} partitions, but no "
                                       "broker tells of them yet")  # fmt: skip
            time.sleep(0.1)

    def _refused(self, error: KafkaException, topic: str, right: str) -> KafkaUnavailable:
        config = self._connection.base("growth")
        return KafkaUnavailable(explain(error.args[0], config, topic=topic, right=right))
