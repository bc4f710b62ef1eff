"""What became of dead letters; fulfils `services.dead_letters.Outcomes`.

Invariant: a dead letter has one outcome, given once; it is known by its topic's id, so that a topic
made anew begins with open ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select

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
        row = {
            "topic_id": topic_id,
            "partition": letter.partition,
            "offset": letter.offset,
            "outcome": outcome.value,
        }
        insert = self._database.insert(dead_letters).on_conflict_do_nothing()
        insert_drop = self._database.insert(drops).on_conflict_do_nothing()

        def work(connection: Connection) -> bool:
            if connection.execute(insert, row).rowcount != 1:
                return False
            if lost is not None:
                connection.execute(insert_drop, _drop_row(lost))
            return True

        return await self._database.write(Rank.OTHER, work)

    async def unclaim(self, topic_id: str, letter: DeadLetterId) -> None:
        statement = delete(dead_letters).where(
            dead_letters.c.topic_id == topic_id,
            dead_letters.c.partition == letter.partition,
            dead_letters.c.offset == letter.offset,
        )
        await self._database.write(Rank.OTHER, lambda connection: connection.execute(statement))


def _drop_row(lost: Lost) -> dict[str, object]:
    return {
        "processor": lost.processor,
        "source": str(lost.source),
        "symbol": lost.event_id.symbol,
        "sequence": lost.event_id.sequence,
    }
