"""Gives the topics more partitions: `pricewire topics repartition` (protocols: a processor, 5).

Theory of operation (docs/decisions/0020). First everything that was recorded is published, and
everything published is counted, by a service of our own with the old number. Then, with the locks
of all shards held, the outbox and every processor's states are given to the partitions of their
symbols in one transaction. Last the topics grow. Invariant: whenever it is broken off, running it
again finishes it, and whoever starts meanwhile finds a number that is not his, and waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import murmur2

from pricewire.bootstrap import ALL_PARTS, PROCESSORS, Parts, Services, opened_database, running
from pricewire.bootstrap_kafka import kafka_ready
from pricewire.bootstrap_relay import event_topics
from pricewire.errors import InvalidParameter, StartupError
from pricewire.kafka.client import Connection
from pricewire.kafka.growth import TopicGrowth
from pricewire.settings import Settings
from pricewire.storage.checkpoints import SqlCheckpoints
from pricewire.storage.database import Database
from pricewire.storage.repartition import Kept, Rekeyed, SqlRepartition
from pricewire.streams.partition import moved_symbol, read_symbol

LOOK_SECONDS = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is, and what shall become of it.

    Args:
        topics: how many partitions each has now; those that are missing are made when needed.
    """

    partitions: int
    kept: Kept
    topics: Mapping[str, int]

    @property
    def drained(self) -> int | None:
        """For how many partitions there may be something to publish or to count, if so."""
        numbers = {*self.kept.processors.values(), self.kept.store} - {None, self.partitions}
        return max((one for one in numbers if one is not None), default=None)

    def check(self) -> None:
        """Raise InvalidParameter where it cannot be done."""
        largest = max([self.kept.store or 1, *self.topics.values()])
        if self.partitions < largest:
            raise InvalidParameter(
                f"there are {largest} partitions, and Kafka cannot take any away: give "
                f"--partitions a number above {largest}, or begin with topics of other names"
            )


async def repartition(
    settings: Settings, partitions: int, *, dry_run: bool, seconds: float, say: Say
) -> None:
    """Give all topics `partitions` partitions, and every symbol's state to the one of its own.

    Raises:
        InvalidParameter: there are more already.
        StartupError: something is not drained within `seconds`, or another process publishes.
    """
    with kafka_ready(settings, say) as connection:
        if connection.in_memory:
            raise StartupError("the in-memory cluster always has four partitions")
        growth = TopicGrowth(connection)
        plan = await _plan(settings, growth, partitions)
        plan.check()
        _tell(plan, say)
        if dry_run:
            return
        if plan.drained is not None:
            await _drain(settings, connection, plan, seconds)
            say("drained    everything recorded is published, everything published is counted")
        rekeyed = await _rekey(settings, growth, plan)
        say(f"rekeyed    {rekeyed.states} states of symbols, {rekeyed.outbox} events that wait")
        grown = await asyncio.to_thread(growth.partitions, _topics(settings))
        for topic, found in grown.items():
            if found < partitions:
                await asyncio.to_thread(growth.grow, topic, partitions)
        say(f"done       set KAFKA_TOPIC_PARTITIONS={partitions} and start everything again")


async def _plan(settings: Settings, growth: TopicGrowth, partitions: int) -> Plan:
    async with opened_database(settings, ALL_PARTS) as database:
        kept = await rekeying_store(settings, database).kept()
    found = await asyncio.to_thread(growth.partitions, _topics(settings))
    return Plan(partitions, kept, found)


def _tell(plan: Plan, say: Say) -> None:
    for topic, found in plan.topics.items():
        say(f"topic      {topic}: {found} partitions, to become {plan.partitions}")
    for name, kept in plan.kept.processors.items():
        say(f"processor  {name}: its state is kept for {kept} partitions")
    say(f"outbox     {plan.kept.waiting} events wait to be published")


def _topics(settings: Settings) -> list[str]:
    """Return all topics that are partitioned by symbol, and those of their dead letters."""
    names = [topic.name for topic in event_topics(settings)]
    for recipe in PROCESSORS.values():
        origin = recipe.origin(settings)
        names += [origin, recipe.output(settings), f"{origin}.dlq"]
    return list(dict.fromkeys(names))


def rekeying_store(settings: Settings, database: Database) -> SqlRepartition:
    """Return what gives rows to the partitions of their symbols."""

    def partition_of(symbol: str, partitions: int) -> int:
        return int(murmur2(symbol.encode(), partitions))

    def missing_in(state: bytes) -> int:
        ledgers = read_symbol(state).ledgers.values()
        return sum(len(gap) for ledger in ledgers for gap in ledger.missing)

    def moved(processor: str, version: str, state: bytes) -> bytes:
        recipe = PROCESSORS.get(processor)
        step = recipe.step(settings) if recipe else None
        # What another version wrote cannot be read, and will not be used.
        return state if step is None or step.version != version else moved_symbol(step, state)

    return SqlRepartition(database, partition_of=partition_of, missing_in=missing_in, moved=moved)


async def _drain(settings: Settings, connection: Connection, plan: Plan, seconds: float) -> None:
    """Publish and count with the old number until nothing is left."""
    old = plan.drained
    if any(found != old for found in plan.topics.values()):
        # Somebody gave the topic more by hand: nobody can publish to it any more, nor need to.
        return
    if plan.kept.store != old:
        # Events were recorded for a number that the topic does not have: nobody published them.
        await _rekey_outbox(settings, old or 0)
    known = tuple(plan.kept.processors)
    parts = ALL_PARTS if settings.uses_sqlite else Parts(True, True, known)
    before = settings.model_copy(update={"kafka_topic_partitions": old})
    async with running(before, connection, parts) as services:
        await _until_drained(services, dict.fromkeys(parts.processors, old or 0), seconds)


async def _rekey_outbox(settings: Settings, partitions: int) -> None:
    async with opened_database(settings, ALL_PARTS) as database:
        rekeying = rekeying_store(settings, database)
        async with rekeying.alone(partitions) as session:
            await rekeying.rekey_outbox(session, partitions)


async def _until_drained(services: Services, owed: Mapping[str, int], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + seconds
    while (left := await _left(services, owed)) is not None:
        if services.crashed.done():
            services.crashed.result()
        if loop.time() > give_up:
            raise StartupError(f"not drained within {seconds:.0f} s: {left}; nothing was changed")
        await asyncio.sleep(LOOK_SECONDS)


async def _left(services: Services, owed: Mapping[str, int]) -> str | None:
    """Return what is not drained; the outbox first, since it becomes what is to be counted."""
    _, health = await services.health.report()
    outboxes = [health["parts"].get(name, {}) for name in ("outbox", "history_outbox")]
    waiting = [one.get("waiting") for one in outboxes]
    if any(one != 0 for one in waiting):
        total = sum(one or 0 for one in waiting)
        return f"{total} events wait to be published; is an API still running?"
    assert services.processing is not None
    lag = await services.processing.lag.report()
    for name, partitions in owed.items():
        mine = [one for one in lag if one.processor == name and one.partition < partitions]
        behind = sum(one.behind for one in mine)
        if behind or len(mine) < partitions:
            return f"{name} has {behind} records to count"
    return None


async def _rekey(settings: Settings, growth: TopicGrowth, plan: Plan) -> Rekeyed:
    async with opened_database(settings, ALL_PARTS) as database:
        rekeying = rekeying_store(settings, database)
        async with rekeying.alone(max(plan.partitions, plan.kept.store or 0)) as session:
            positions = await SqlCheckpoints(database).positions()
            for name, kept in plan.kept.processors.items():
                if kept == plan.partitions or name not in PROCESSORS:
                    continue
                topic = PROCESSORS[name].origin(settings)
                ends = await asyncio.to_thread(growth.ends, topic, kept)
                done = {
                    one.partition: one.next_offset or 0
                    for one in positions
                    if one.processor == name
                }
                behind = sum(
                    max(0, end - max(done.get(number, 0), low))
                    for number, (low, end) in ends.items()
                )
                if behind:
                    raise StartupError(
                        f"{name} has {behind} records of {topic} still to count: stop whatever "
                        "writes to it, and run this again; nothing was changed"
                    )
            return await rekeying.rekey(session, plan.partitions)
