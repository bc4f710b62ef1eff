"""Where the partitions of a topic begin and end now; fulfils `services.lag.Ends`.

Invariant: one client, asked by one caller at a time, in a thread, so that no event loop waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Connection
from pricewire.kafka.trouble import explain

SECONDS = 3.0


class TopicEnds:
    """See the module."""

    def __init__(self, connection: Connection, topic: str, partitions: int) -> None:
        self._topic = topic
        self._partitions = partitions
        self._config = {
            **connection.base("ends"),
            "group.id": "pricewire-ends",
            "enable.auto.commit": False,
        }
        self._consumer: Consumer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def ends(self) -> Mapping[int, tuple[int, int]]:
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._ask)

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _ask(self) -> dict[int, tuple[int, int]]:
        self._consumer = self._consumer or Consumer(self._config)
        found = {}
        for number in range(self._partitions):
            place = TopicPartition(self._topic, number)
            try:
                found[number] = self._consumer.get_watermark_offsets(place, timeout=SECONDS)
            except KafkaException as error:
                raise KafkaUnavailable(
                    explain(error.args[0], self._config, topic=self._topic)
                ) from error
        return found
