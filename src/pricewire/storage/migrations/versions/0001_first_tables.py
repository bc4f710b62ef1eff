"""First tables: store, symbols, raw responses, prices, events, outbox, publications, shards.

Append-only tables get triggers that refuse updates and deletes; the store gets its identity.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from uuid_utils.compat import uuid7

from pricewire.storage.types import ExactDecimal, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("raw_responses", "prices", "events", "publications")


def upgrade() -> None:
    _state_tables()
    _price_tables()
    _relay_tables()
    for table in APPEND_ONLY:
        _refuse_changes(table)


def _symbol() -> sa.types.TypeEngine[str]:
    return sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def _state_tables() -> None:
    store = op.create_table(
        "store",
        sa.Column("id", sa.SmallInteger, autoincrement=False),
        sa.Column("store_id", sa.Uuid, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("partitions", sa.Integer),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_store"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    row = {"id": 1, "store_id": uuid7(), "generation": 1, "created_at": datetime.now(UTC)}
    op.bulk_insert(store, [row])
    op.create_table(
        "symbols",
        sa.Column("symbol", _symbol()),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("symbol", name="pk_symbols"),
    )


def _price_tables() -> None:
    op.create_table(
        "raw_responses",
        sa.Column("id", sa.Uuid),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("fetched_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_raw_responses"),
    )
    op.create_table(
        "prices",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("raw_response_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("price", ExactDecimal, nullable=False),
        sa.Column("timestamp", UtcDateTime, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("fetched_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "sequence", name="pk_prices"),
        sa.ForeignKeyConstraint(
            ["raw_response_id"], ["raw_responses.id"], name="fk_prices_raw_response_id"
        ),
        sa.UniqueConstraint(
            "raw_response_id",
            "symbol",
            "position",
            name="uq_prices_raw_response_id_symbol_position",
        ),
    )
    op.create_table(
        "events",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("raw_response_id", sa.Uuid, nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "sequence", name="pk_events"),
    )


def _relay_tables() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite")),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("symbol", "sequence", name="uq_outbox_symbol_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_shard_id", "outbox", ["shard", "id"])
    op.create_table(
        "publications",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger),
        sa.Column("published_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "sequence", name="pk_publications"),
    )
    op.create_table(
        "shards",
        sa.Column("shard", sa.Integer, autoincrement=False),
        sa.Column("topic_id", sa.Text),
        sa.Column("next_offset", sa.BigInteger),
        sa.Column("blocked_since", UtcDateTime),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("shard", name="pk_shards"),
    )


def _refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION pricewire_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION pricewire_append_only()"
    )
