"""What became of dead letters; fulfils `services.dead_letters.Outcomes`.

Invariant: a dead letter has one outcome, given once; it is known by its topic's id, so that a topic
made anew begins with open ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Executable, select, update

from pricewire.services.dead_letters import DeadLetterId, Lost, Outcome
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import dead_letters, drops


class SqlOutcomes:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, topic_id: str) -> Mapping[DeadLetterId, Outcome]:
        statement = select(dead_letters).where(dead_letters.c.topic_id == topic_id)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return {DeadLetterId(row.partition, row.offset): Outcome(row.outcome) for row in rows}

    async def claim(
        self, topic_id: str, letter: DeadLetterId, outcome: Outcome, lost: Lost | None = None
    ) -> bool:
        row = _key(topic_id, letter) | {"outcome": outcome.value}
        insert = self._database.insert(dead_letters).on_conflict_do_nothing()
        insert_drop = self._database.insert(drops).on_conflict_do_nothing()

        def work(connection: Connection) -> bool:
            if connection.execute(insert, row).rowcount != 1:
                return False
            if lost is not None:
                connection.execute(insert_drop, _drop_row(lost))
            return True

        return await self._database.write(Rank.OTHER, work)

    async def begin(
        self, topic_id: str, letter: DeadLetterId, look_from: int, now: datetime
    ) -> bool:
        row = _key(topic_id, letter) | {
            "outcome": Outcome.REDRIVING.value,
            "look_from": look_from,
            "begun_at": now,
        }
        insert = self._database.insert(dead_letters).on_conflict_do_nothing()
        return await self._changes_one(insert.values(row))

    async def take_over(
        self, topic_id: str, letter: DeadLetterId, before: datetime, now: datetime
    ) -> int | None:
        begun = _is(topic_id, letter) & (dead_letters.c.outcome == Outcome.REDRIVING.value)
        taken = update(dead_letters).where(begun, dead_letters.c.begun_at < before)
        if not await self._changes_one(taken.values(begun_at=now)):
            return None
        statement = select(dead_letters.c.look_from).where(begun)
        return await self._database.read(lambda connection: connection.scalar(statement))

    async def let_go(self, topic_id: str, letter: DeadLetterId) -> None:
        begun = _is(topic_id, letter) & (dead_letters.c.outcome == Outcome.REDRIVING.value)
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        await self._changes_one(update(dead_letters).where(begun).values(begun_at=long_ago))

    async def finish(self, topic_id: str, letter: DeadLetterId, new_offset: int) -> None:
        done = {"outcome": Outcome.REDRIVEN.value, "new_offset": new_offset}
        await self._changes_one(update(dead_letters).where(_is(topic_id, letter)).values(done))

    async def _changes_one(self, statement: Executable) -> bool:
        def work(connection: Connection) -> bool:
            return bool(connection.execute(statement).rowcount == 1)

        return await self._database.write(Rank.OTHER, work)


def _key(topic_id: str, letter: DeadLetterId) -> dict[str, object]:
    return {"topic_id": topic_id, "partition": letter.partition, "offset": letter.offset}


def _is(topic_id: str, letter: DeadLetterId) -> ColumnElement[bool]:
    return (
        (dead_letters.c.topic_id == topic_id)
        & (dead_letters.c.partition == letter.partition)
        & (dead_letters.c.offset == letter.offset)
    )


def _drop_row(lost: Lost) -> dict[str, object]:
    return {
        "processor": lost.processor,
        "source": str(lost.source),
        "symbol": lost.event_id.symbol,
        "sequence": lost.event_id.sequence,
    }
