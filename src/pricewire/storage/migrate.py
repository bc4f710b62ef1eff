"""Brings the tables to the newest revision; the composition root calls it before anything else.

Invariant: processes that start at once migrate one after the other, and a database that is newer
than this program is refused, not touched. Alembic is imported only when there is something to do.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from pricewire.errors import StartupError
from pricewire.storage.database import Database, Rank

HEAD = "0011"
_LOCK = 5_072_694_100
"""Key of the advisory lock under which one process migrates."""


async def migrate(database: Database) -> None:
    """Migrate to `HEAD`.

    Raises:
        StartupError: the database has a revision that this program does not know.
        StoreError: the database cannot be reached.
    """
    if await database.read(current_revision) != HEAD:
        await database.write(Rank.DOOR, _upgrade)


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return row[0] if row else None


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        # On a busy machine more time passes between two statements than a writer is given.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StartupError(
            f"the database is not one that this version of pricewire knows: {error}"
        ) from None
