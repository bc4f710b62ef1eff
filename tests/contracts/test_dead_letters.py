"""Dead letters put back exactly once, wherever it is broken off, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

import pytest

from pricewire.errors import KafkaTrouble
from pricewire.services.dead_letters import (
    REDRIVE_SECONDS,
    Chosen,
    DeadLetter,
    DeadLetterId,
    DeadLetters,
    Outcome,
)
from pricewire.storage.database import Database
from pricewire.storage.dead_letters import SqlOutcomes
from tests.builders import RECORDED_AT

LETTERS = [
    DeadLetter(
        DeadLetterId(0, n), b"k", b"v", (), 0, "events", 0, n, "averages", "schema", "no such"
    )
    for n in range(3)
]


class Killed(Exception):
    """kill -9."""


class Topic:
    """What stands behind the three letters on the topic that they came from."""

    origin = "events"

    def __init__(self) -> None:
        self.put: list[DeadLetterId] = []
        self.now = RECORDED_AT
        self.fails: dict[str, Exception] = {}

    def clock(self) -> datetime:
        return self.now

    async def topic_id(self) -> str:
        return "dlq"

    async def read(self, last: int | None) -> AsyncIterator[DeadLetter]:  # noqa: ARG002
        for letter in LETTERS:
            yield letter

    async def find(self, letter: DeadLetterId) -> DeadLetter | None:
        return next((one for one in LETTERS if one.id == letter), None)

    async def origin_ends(self) -> Mapping[int, int]:
        return {0: len(self.put)}

    async def find_put_back(self, letter: DeadLetter, start: int) -> int | None:
        found = [at for at, one in enumerate(self.put) if one == letter.id and at >= start]
        return found[0] if found else None

    async def put_back(self, letter: DeadLetter) -> int:
        self._fail("before")
        self.put.append(letter.id)
        self._fail("after")
        return len(self.put) - 1

    def _fail(self, when: str) -> None:
        if len(self.put) >= 1 and (error := self.fails.pop(when, None)) is not None:
            raise error


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [Killed(), KafkaTrouble("no report")])
async def test_what_is_broken_off_is_finished_once(
    database: Database, when: str, error: Exception
) -> None:
    topic = Topic()
    letters = DeadLetters(topic, SqlOutcomes(database), topic.clock)
    topic.fails = {when: error}
    with pytest.raises(type(error)):
        await letters.redrive(Chosen(), dry_run=False)
    killed = isinstance(error, Killed)
    if killed:
        # Somebody may be at it still: the others are put back, this one is left alone.
        told = await letters.redrive(Chosen(), dry_run=False)
        assert Outcome.REDRIVING in [one.outcome for one in told]
        topic.now += timedelta(seconds=REDRIVE_SECONDS + 1)
    for _ in range(2):
        await letters.redrive(Chosen(), dry_run=False)
    assert sorted(topic.put) == [letter.id for letter in LETTERS]
    listed = await letters.listed(limit=9, outcome=None, error_class=None)
    assert {one.outcome for one in listed} == {Outcome.REDRIVEN}


async def test_a_dry_run_does_nothing_and_a_drop_is_final(database: Database) -> None:
    topic = Topic()
    letters = DeadLetters(topic, SqlOutcomes(database), topic.clock)
    shown = await letters.redrive(Chosen(error_class="schema"), dry_run=True)
    assert [one.outcome for one in shown] == [Outcome.OPEN] * 3
    assert topic.put == []
    first = Chosen(ids=[LETTERS[0].id])
    assert [one.outcome for one in await letters.drop(first, dry_run=False)] == [Outcome.DROPPED]
    assert [one.outcome for one in await letters.redrive(first, dry_run=False)] == [Outcome.DROPPED]
    await letters.redrive(Chosen(), dry_run=False)
    assert topic.put == [LETTERS[1].id, LETTERS[2].id]
    again = Chosen(ids=[LETTERS[1].id])
    assert [one.outcome for one in await letters.drop(again, dry_run=False)] == [Outcome.REDRIVEN]
