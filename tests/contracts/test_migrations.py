"""The way to the newest tables: from anywhere, by many at once, to exactly what the code uses."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, delete, inspect, select, text

from pricewire.domain.past import PastPrice
from pricewire.errors import StartupError, StoreError
from pricewire.kafka.codec import encode_price_event
from pricewire.services.history import HistoryDoor
from pricewire.storage import migrations
from pricewire.storage.database import Database, Rank
from pricewire.storage.event_tables import HISTORY
from pricewire.storage.feeds import SqlFeeds
from pricewire.storage.history import SqlHistoryStore
from pricewire.storage.migrate import HEAD, current_revision, migrate
from pricewire.storage.outbox import SqlShards
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.tables import APPEND_ONLY, events, metadata, prices, store
from tests.builders import (
    count,
    execute,
    fetch_all,
    ids_of,
    make_entry,
    make_publication,
    make_quote,
    make_raw,
    make_ticks,
    on_postgres,
    opened,
)
from tests.conftest import now


async def test_an_empty_database_becomes_the_newest(database_url: str) -> None:
    async with opened(database_url) as database:
        assert await database.read(current_revision) is None
        await migrate(database)
        assert await database.read(current_revision) == HEAD


async def test_migrating_again_keeps_everything(database: Database, database_url: str) -> None:
    before = await fetch_all(database, select(store))
    await SqlRecordingStore(database).record([make_entry("AAPL")])
    async with opened(database_url) as next_start:
        await migrate(next_start)
        assert await fetch_all(next_start, select(store)) == before
        assert [await count(next_start, table) for table in APPEND_ONLY] == [
            *(1, 1, 1, 0),
            *(0, 0),
        ]


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def forbid_schema_changes(connection: Connection) -> None:
    """Do as a SQLite in defensive mode does: let nobody write to the schema by hand."""

    def allowed(action: int, name: str | None, *_: object) -> int:
        by_hand = action == sqlite3.SQLITE_PRAGMA and name == "writable_schema"
        return sqlite3.SQLITE_IGNORE if by_hand else sqlite3.SQLITE_OK

    driver: Any = connection.connection.driver_connection
    driver.set_authorizer(allowed)


@pytest.mark.parametrize("defensive", [False, True])
async def test_prices_from_before_frames_stay_as_they_were_and_name_frames_from_then_on(
    database_url: str, defensive: bool
) -> None:
    async with opened(database_url) as database:
        if defensive and not database.is_sqlite:
            pytest.skip("only of SQLite")
        await database.write(Rank.OTHER, lambda connection: upgrade_to(connection, "0010"))
        await SqlRecordingStore(database).record([make_entry("AAPL", "MSFT")])
        before = await fetch_all(database, select(prices))
        if defensive:
            await database.write(Rank.OTHER, forbid_schema_changes)
        await migrate(database)
        assert await fetch_all(database, select(prices)) == before
        assert await database.read(differences) == []
        with pytest.raises(StoreError, match="append-only"):
            await execute(database, delete(prices))
        claim = await SqlFeeds(database).claim("coinbase", "me", now(), timedelta(seconds=9))
        assert claim is not None
        again = await SqlRecordingStore(database).record([make_ticks(claim.fence, "AAPL")])
        assert ids_of(again) == [["AAPL~2"]]
        if database.is_sqlite:
            assert await fetch_all(database, text("PRAGMA integrity_check")) == [("ok",)]


@on_postgres
async def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    async with (
        opened(database_url) as one,
        opened(database_url) as two,
        opened(database_url) as three,
        opened(database_url) as four,
    ):
        await asyncio.gather(*(migrate(process) for process in (one, two, three, four)))
        assert await one.read(current_revision) == HEAD
        assert await count(one, store) == 1


async def test_a_newer_database_is_refused_and_not_touched(database: Database) -> None:
    await execute(database, text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartupError, match="9999"):
        await migrate(database)
    assert await database.read(current_revision) == "9999"


async def test_the_migrated_tables_are_those_that_the_code_uses(database: Database) -> None:
    assert await database.read(differences) == []


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def test_constraints_are_called_as_the_code_says(database: Database) -> None:
    def check_names(connection: Connection) -> set[str | None]:
        found = inspect(connection).get_check_constraints("store")
        return {check["name"] for check in found}

    assert await database.read(check_names) == {"ck_store_one_row"}


async def test_what_autogenerate_does_not_compare_is_as_the_code_says(database: Database) -> None:
    if database.is_sqlite:
        [[made_by]] = await fetch_all(
            database, text("SELECT sql FROM sqlite_master WHERE name = 'outbox'")
        )
        assert "AUTOINCREMENT" in made_by
    else:
        collations = text(
            "SELECT DISTINCT table_name, collation_name FROM information_schema.columns"
            " WHERE column_name = 'symbol' AND table_schema = 'public'"
        )
        found = {tuple(row) for row in await fetch_all(database, collations)}
        tables = [table for table in metadata.tables.values() if "symbol" in table.c]
        assert found == {(table.name, "C") for table in tables}


async def fill(database: Database) -> None:
    """Put a row into every table that is append-only."""
    await SqlRecordingStore(database).record([make_entry("AAPL")])
    async with SqlShards(database).hold(0) as shard:
        assert shard is not None
        [event] = await shard.waiting(1)
        await shard.mark({event.outbox_id: make_publication(event.event_id)}, None)
    door = HistoryDoor(
        SqlHistoryStore(database),
        encode=encode_price_event,
        shard_of=lambda _: 0,
        clock=now,
        committed=lambda _: None,
    )
    await door.record(make_raw(), [PastPrice(make_quote())])
    async with SqlShards(database, HISTORY).hold(0) as shard:
        assert shard is not None
        [event] = await shard.waiting(1)
        await shard.mark({event.outbox_id: make_publication(event.event_id)}, None)


@pytest.mark.parametrize("table", APPEND_ONLY, ids=str)
async def test_the_database_itself_refuses_to_change_what_was_written(
    database: Database, table: Table
) -> None:
    await fill(database)
    before = await fetch_all(database, select(table))
    column = next(iter(table.c)).name
    changes = [f"UPDATE {table.name} SET {column} = {column}", f"DELETE FROM {table.name}"]
    if not database.is_sqlite:
        changes.append(f"TRUNCATE {table.name} CASCADE")
    for change in changes:
        with pytest.raises(StoreError, match="append-only"):
            await execute(database, text(change))
    assert await fetch_all(database, select(table)) == before


async def test_a_row_that_was_written_cannot_be_replaced(database: Database) -> None:
    await fill(database)
    before = await fetch_all(database, select(events))
    columns = ", ".join("'changed'" if one.name == "type" else one.name for one in events.c)
    copy = f"INTO events SELECT {columns} FROM events"
    replace = (
        f"REPLACE {copy}"
        if database.is_sqlite
        else f"INSERT {copy} ON CONFLICT (symbol, sequence) DO UPDATE SET type = 'changed'"
    )
    with pytest.raises(StoreError):
        await execute(database, text(replace))
    assert await fetch_all(database, select(events)) == before


async def test_a_new_store_has_one_identity_and_starts_at_generation_one(
    database: Database,
) -> None:
    [row] = await fetch_all(database, select(store))
    assert row.store_id.version == 7
    assert row.generation == 1
    assert row.partitions is None
