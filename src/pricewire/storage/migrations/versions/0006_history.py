"""History: past prices with numbers of their own, their outbox, publications and shards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import ExactDecimal, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APPEND_ONLY = ("history_prices", "history_publications")


def upgrade() -> None:
    op.create_index("ix_prices_symbol_timestamp", "prices", ["symbol", "timestamp"])
    _price_tables()
    _relay_tables()
    for table in APPEND_ONLY:
        _refuse_changes(table)


def _symbol() -> sa.types.TypeEngine[str]:
    return sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def _price_tables() -> None:
    op.create_table(
        "history_symbols",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("symbol", name="pk_history_symbols"),
    )
    op.create_table(
        "history_prices",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("identity", sa.LargeBinary, nullable=False),
        sa.Column("raw_response_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("price", ExactDecimal, nullable=False),
        sa.Column("timestamp", UtcDateTime, nullable=False),
        sa.Column("nanosecond", sa.SmallInteger, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("adjusted", sa.Boolean),
        sa.Column("size", ExactDecimal),
        sa.Column("trade_id", sa.Text),
        sa.Column("fetched_at", UtcDateTime, nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "sequence", name="pk_history_prices"),
        sa.UniqueConstraint(
            "symbol",
            "timestamp",
            "nanosecond",
            "identity",
            name="uq_history_prices_symbol_timestamp_nanosecond_identity",
        ),
    )


def _relay_tables() -> None:
    op.create_table(
        "history_outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite")),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history_outbox"),
        sa.UniqueConstraint("symbol", "sequence", name="uq_history_outbox_symbol_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_history_outbox_shard_id", "history_outbox", ["shard", "id"])
    op.create_table(
        "history_publications",
        sa.Column("symbol", _symbol(), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger),
        sa.Column("published_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "sequence", name="pk_history_publications"),
    )
    op.create_table(
        "history_shards",
        sa.Column("shard", sa.Integer, autoincrement=False),
        sa.Column("topic_id", sa.Text),
        sa.Column("next_offset", sa.BigInteger),
        sa.Column("blocked_since", UtcDateTime),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("shard", name="pk_history_shards"),
    )


def _refuse_changes(table: str) -> None:
    """On PostgreSQL by the function that the first migration made."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION pricewire_append_only()"
    )
