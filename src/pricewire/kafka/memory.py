"""librdkafka's in-memory cluster, for where no Kafka can run: fine for a look, without promises.

The composition root opens it when there is no Java, and says so; fast tests use it too. Invariant:
it lives exactly as long as this object is open, and everything in it is gone afterwards.

What it does: idempotent produce, explicit partitions, headers, groups, assign, watermarks, ends of
partitions. What it does not: admin calls (they time out), offsets for times, transactions, keeping
more than about 100,000 messages or 5 MB a partition. A topic comes into being when a producer asks
for its metadata or produces to it, or a consumer with `allow.auto.create.topics` does.
"""

from __future__ import annotations

from confluent_kafka import Producer

# Of every topic there; librdkafka has no property that sets it.
MEMORY_PARTITIONS = 4


class MemoryKafka:
    """One mock broker on a free loopback port; any client of any process may connect to it."""

    def __init__(self) -> None:
        # "x:1" is never connected to, and the notice that it is replaced is not worth a line.
        self._cluster = Producer(
            {"bootstrap.servers": "x:1", "test.mock.num.brokers": 1, "log_level": 4}
        )
        brokers = self._cluster.list_topics(timeout=10).brokers.values()
        self._servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    @property
    def bootstrap_servers(self) -> str:
        return self._servers

    def close(self) -> None:
        self._cluster.close()
