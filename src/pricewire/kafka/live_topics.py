"""The topics that live readers may ask for: which they are, and whether they still are; blocking.

`live` asks it, in its thread. Invariant: a topic that is missing is made as the settings say, as
whoever writes to it would make it; of one that is there only its identity and its partitions count.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection

from pricewire.domain.position import StreamTopic
from pricewire.errors import KafkaTrouble
from pricewire.kafka.client import Connection
from pricewire.kafka.probe import Probe
from pricewire.kafka.topic import KafkaTopic

SECONDS = 5.0
_IN_MEMORY = f"in-memory-{uuid.uuid4().hex}"
"""The id of every topic of the mock cluster, which lives as long as this process."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A topic as a broker tells of it."""

    topic_id: str
    partitions: int


class LiveTopics:
    """See the module; `topics` make what is missing."""

    def __init__(self, connection: Connection, topics: Mapping[StreamTopic, KafkaTopic]) -> None:
        self.names = {topic: one.name for topic, one in topics.items()}
        self._connection = connection
        self._topics = topics
        self._probe: Probe | None = None

    def require(self) -> tuple[dict[StreamTopic, Seen], dict[StreamTopic, str]]:
        """Return the topics, and why there is none for those that could not be made.

        Raises:
            KafkaUnavailable: no broker answers.
            KafkaException: as that.
        """
        self._asking().answers(SECONDS)
        missing = {}
        seen = {} if self._connection.in_memory else self.look()
        for topic in set(self._topics) - set(seen):
            try:
                self._topics[topic].require()
            except KafkaTrouble as error:
                missing[topic] = error.detail
        if set(seen) != set(self._topics):
            seen = self.look()
        unseen = {one: f"topic {self.names[one]} is not there" for one in self.names}
        return seen, {one: missing.get(one, unseen[one]) for one in self.names if one not in seen}

    def look(self) -> dict[StreamTopic, Seen]:
        """Return the topics that are there; raises `KafkaException`."""
        return self._in_memory() if self._connection.in_memory else self._real()

    def _real(self) -> dict[StreamTopic, Seen]:
        names = TopicCollection(list(self.names.values()))
        asked = self._asking().admin.describe_topics(names, request_timeout=SECONDS)
        seen = {}
        for topic, name in self.names.items():
            try:
                found = asked[name].result()
            except KafkaException as error:
                if error.args[0].code() not in _NOT_FOR_US:
                    raise
                continue
            seen[topic] = Seen(str(found.topic_id), len(found.partitions))
        return seen

    def _in_memory(self) -> dict[StreamTopic, Seen]:
        """The mock cluster knows no ids."""
        client = Consumer({**self._connection.base("live"), "group.id": "pricewire-live"})
        try:
            found = client.list_topics(timeout=SECONDS).topics
        finally:
            client.close()
        return {
            topic: Seen(_IN_MEMORY, len(found[name].partitions))
            for topic, name in self.names.items()
            if name in found
        }

    def close(self) -> None:
        for topic in self._topics.values():
            topic.close()

    def _asking(self) -> Probe:
        self._probe = self._probe or Probe(self._connection, "live")
        return self._probe


_NOT_FOR_US = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)
