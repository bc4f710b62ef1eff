"""SQLite's writing thread: who is next, what goes together, whose an error is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from pricewire.errors import RecordRefused
from pricewire.storage.database import Rank
from pricewire.storage.sqlite_writer import SqliteWriter

WAIT_SECONDS = 20


class Held:
    """A writer whose thread is in its first transaction until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self.writer = SqliteWriter(engine)
        self.commits = 0
        self._entered = Event()
        self._go_on = Event()

        @event.listens_for(engine, "commit")
        def count(_connection: Connection) -> None:
            self.commits += 1

    async def enter(self) -> asyncio.Task[None]:
        def hold(_connection: Connection) -> None:
            self._entered.set()
            assert self._go_on.wait(WAIT_SECONDS)

        held = asyncio.create_task(self.writer.write(Rank.OTHER, hold))
        assert await asyncio.to_thread(self._entered.wait, WAIT_SECONDS)
        return held

    def let_go(self) -> None:
        self._go_on.set()


@asynccontextmanager
async def held_writer(tmp_path: Path) -> AsyncIterator[Held]:
    arguments = {"check_same_thread": False}
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}", connect_args=arguments)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE noted (what TEXT PRIMARY KEY)"))
        # Looked at when the transaction is committed, and not before.
        noted_only = "TEXT REFERENCES noted DEFERRABLE INITIALLY DEFERRED"
        connection.execute(text(f"CREATE TABLE referring (what {noted_only})"))

    @event.listens_for(engine, "begin")
    def look_at_references(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    held = Held(engine)
    try:
        yield held
    finally:
        held.let_go()
        await held.writer.aclose()


def noting(what: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(text("INSERT INTO noted VALUES (:what)"), {"what": what})
        return what

    return work


async def noted(writer: SqliteWriter) -> list[str]:
    rows = text("SELECT what FROM noted ORDER BY rowid")
    return await writer.write(Rank.BULK, lambda one: list(one.execute(rows).scalars()))


async def started(writer: SqliteWriter, *asked: tuple[Rank, str]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(writer.write(rank, noting(what))) for rank, what in asked]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_is_served_by_rank_and_then_in_order_of_arrival(tmp_path: Path) -> None:
    async with held_writer(tmp_path) as held:
        first = await held.enter()
        tasks = await started(
            held.writer,
            (Rank.BULK, "bulk"), (Rank.OTHER, "checkpoint"), (Rank.RELAY, "mark"),
            (Rank.DOOR, "price"), (Rank.OTHER, "another"), (Rank.DOOR, "next price"),
        )  # fmt: skip
        held.let_go()
        await asyncio.gather(first, *tasks)
        assert await noted(held.writer) == [
            "price", "next price", "mark", "checkpoint", "another", "bulk",
        ]  # fmt: skip


async def test_marks_that_wait_together_are_one_transaction_and_others_are_not(
    tmp_path: Path,
) -> None:
    async with held_writer(tmp_path) as held:
        first = await held.enter()
        marks = [(Rank.RELAY, f"mark {number}") for number in range(6)]
        tasks = await started(held.writer, *marks, (Rank.DOOR, "a"), (Rank.DOOR, "b"))
        held.let_go()
        results = await asyncio.gather(first, *tasks)
        assert results[1:] == [what for _, what in marks] + ["a", "b"]
        assert held.commits == len(["held", "marks", "a", "b"])


async def test_an_error_of_one_mark_is_its_own_and_the_others_are_written(tmp_path: Path) -> None:
    async with held_writer(tmp_path) as held:
        first = await held.enter()
        tasks = await started(
            held.writer, (Rank.RELAY, "one"), (Rank.RELAY, "one"), (Rank.RELAY, "two")
        )
        held.let_go()
        await first
        assert await tasks[0] == "one"
        with pytest.raises(RecordRefused):
            await tasks[1]
        assert await tasks[2] == "two"
        assert await noted(held.writer) == ["one", "two"]


async def test_what_only_the_commit_refuses_is_told_to_nobody_as_written(tmp_path: Path) -> None:
    def refer(connection: Connection) -> None:
        connection.execute(text("INSERT INTO referring VALUES ('nobody noted it')"))

    async with held_writer(tmp_path) as held:
        first = await held.enter()
        [good] = await started(held.writer, (Rank.RELAY, "good"))
        bad = asyncio.create_task(held.writer.write(Rank.RELAY, refer))
        await asyncio.sleep(0)
        held.let_go()
        await first
        with pytest.raises(RecordRefused):
            await bad
        assert await good == "good"
        assert await noted(held.writer) == ["good"]


async def test_a_bug_reaches_who_asked_and_the_next_is_served(tmp_path: Path) -> None:
    def broken(_connection: Connection) -> None:
        raise ZeroDivisionError

    async with held_writer(tmp_path) as held:
        with pytest.raises(ZeroDivisionError):
            await held.writer.write(Rank.RELAY, broken)
        assert await held.writer.write(Rank.RELAY, noting("next")) == "next"


async def test_who_is_cancelled_while_waiting_is_not_written_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    async with held_writer(tmp_path) as held:
        first = await held.enter()
        tasks = await started(held.writer, (Rank.DOOR, "gone"), (Rank.OTHER, "stays"))
        tasks[0].cancel()
        await asyncio.sleep(0)
        held.let_go()
        await first
        assert await tasks[1] == "stays"
        assert await noted(held.writer) == ["stays"]


async def test_who_is_cancelled_while_written_holds_up_nobody(tmp_path: Path) -> None:
    async with held_writer(tmp_path) as held:
        first = await held.enter()
        first.cancel()
        await asyncio.sleep(0)
        held.let_go()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await held.writer.write(Rank.DOOR, noting("next")) == "next"
