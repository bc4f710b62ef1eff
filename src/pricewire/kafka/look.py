"""Looks at the topic now and then while it is published to: which one it is, and how it does.

`KafkaTopic` makes one and asks it; asking returns at once, with what the last look found.
librdkafka retries what a broker answers for want of a leader or of in-sync replicas without telling
anybody, so that looking is the only way to learn why nothing is published. Invariant: a look that
began before somebody ensured the topic changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from confluent_kafka import Node, TopicPartitionInfo
from confluent_kafka.admin import TopicDescription

LOOK_SECONDS = 2.0
"""How often a topic that is published to is looked at."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: a description, or why there is none."""

    description: TopicDescription | None = None
    trouble: str | None = None


class Look:
    """See the module.

    Args:
        describe: looks, blocking.
    """

    def __init__(self, describe: Callable[[], Seen], threads: Executor) -> None:
        self.topic_id: str | None = None
        self.min_insync = 1
        self._describe = describe
        self._threads = threads
        self._seen = Seen()
        self._look: asyncio.Task[None] | None = None
        self._looked_at = 0.0

    def ensured(self) -> None:
        """Note that somebody ensures the topic now."""
        self._looked_at = asyncio.get_running_loop().time()

    def again(self) -> None:
        """Begin another look, if it is time for one."""
        now = asyncio.get_running_loop().time()
        idle = self._look is None or self._look.done()
        if idle and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look = asyncio.create_task(self._take(now))

    async def _take(self, asked_at: float) -> None:
        seen = await asyncio.get_running_loop().run_in_executor(self._threads, self._describe)
        if self._looked_at == asked_at:
            self._seen = seen
            if seen.description is not None:
                self.topic_id = str(seen.description.topic_id)

    def complaint(self, shard: int) -> str | None:
        """Return why nothing can be appended to a partition, None where nothing is known."""
        if self._seen.description is None:
            return self._seen.trouble
        partitions = {one.id: one for one in self._seen.description.partitions}
        found = partitions.get(shard)
        name = self._seen.description.name
        return complaint_of(name, found, self.min_insync) if found is not None else None


def complaint_of(topic: str, partition: TopicPartitionInfo, min_insync: int) -> str | None:
    """Return why nothing can be appended to a partition, None where it can."""
    named = f"partition {partition.id} of {topic}"
    replicas = {node.id for node in partition.replicas}
    leader: Node | None = partition.leader
    if leader is None or leader.id < 0:
        return f"{named} has no leader; its replicas are on brokers {_list(replicas)}"
    insync = {node.id for node in partition.isr}
    if len(insync) < min_insync:
        return (
            f"{named} has too few in-sync replicas, {len(insync)} of the {min_insync} that "
            f"min.insync.replicas asks for; missing are brokers {_list(replicas - insync)}"
        )
    return None


def _list(nodes: set[int]) -> str:
    return ", ".join(map(str, sorted(nodes)))
