"""Feeds: their frames, their owners, their symbols; jobs of several kinds.

Prices name frames by `raw_response_id` as well, so their foreign key to raw responses goes. SQLite
cannot drop one: the table's text is changed in its schema, as its manual describes for constraints
(https://sqlite.org/lang_altertable.html, 7), which touches no row, no index and no trigger; where a
SQLite forbids that, the table is made anew.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FOREIGN_KEY = "fk_prices_raw_response_id"
_IN_TEXT = re.compile(
    rf",\s*CONSTRAINT {FOREIGN_KEY} FOREIGN KEY\s*\(raw_response_id\)"
    r"\s*REFERENCES raw_responses\s*\(id\)"
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.Text, nullable=False, server_default="poll"))
    _tables()
    if op.get_bind().dialect.name == "sqlite":
        _drop_foreign_key_in_sqlite()
    else:
        op.drop_constraint(FOREIGN_KEY, "prices", type_="foreignkey")
        # What is compressed already is not to be compressed again.
        op.execute("ALTER TABLE raw_frames ALTER COLUMN body SET STORAGE EXTERNAL")


def _tables() -> None:
    symbol = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.create_table(
        "raw_frames",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("first_received_at", UtcDateTime, nullable=False),
        sa.Column("last_received_at", UtcDateTime, nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_raw_frames"),
    )
    op.create_table(
        "feeds",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("leased_until", UtcDateTime),
        sa.Column("status", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("provider", name="pk_feeds"),
    )
    op.create_table(
        "feed_symbols",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("symbol", symbol, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("provider", "symbol", name="pk_feed_symbols"),
    )


def _drop_foreign_key_in_sqlite() -> None:
    connection = op.get_bind()
    made_by = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = 'prices'"))
    without, found = _IN_TEXT.subn("", made_by)
    if found != 1:
        raise RuntimeError("the table prices is not as the migrations made it")
    try:
        _change_text(connection, without)
    except sa.exc.DatabaseError:
        _make_anew()


def _change_text(connection: sa.Connection, sql: str) -> None:
    version = connection.scalar(sa.text("PRAGMA schema_version"))
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    try:
        connection.execute(
            sa.text("UPDATE sqlite_master SET sql = :sql WHERE type = 'table' AND name = 'prices'"),
            {"sql": sql},
        )
        # Every connection reads the schema anew that finds another number.
        connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    finally:
        connection.exec_driver_sql("PRAGMA writable_schema = RESET")


def _make_anew() -> None:
    with op.batch_alter_table("prices", recreate="always") as prices:
        prices.drop_constraint(FOREIGN_KEY, type_="foreignkey")
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER prices_no_{verb.lower()} BEFORE {verb} ON prices "
            "BEGIN SELECT RAISE(ABORT, 'prices is append-only'); END"
        )
