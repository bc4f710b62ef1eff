"""Candles: what the processors of candles have made of prices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import ExactDecimal, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    symbol = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.create_table(
        "candles",
        sa.Column("symbol", symbol, nullable=False),
        sa.Column("interval", sa.Text, nullable=False),
        sa.Column("start", UtcDateTime, nullable=False),
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("end", UtcDateTime, nullable=False),
        sa.Column("open", ExactDecimal, nullable=False),
        sa.Column("high", ExactDecimal, nullable=False),
        sa.Column("low", ExactDecimal, nullable=False),
        sa.Column("close", ExactDecimal, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", UtcDateTime, nullable=False),
        sa.Column("first_offset", sa.BigInteger, nullable=False),
        sa.Column("last_at", UtcDateTime, nullable=False),
        sa.Column("last_offset", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(
            *("symbol", "interval", "start", "processor", "partition"), name="pk_candles"
        ),
    )
