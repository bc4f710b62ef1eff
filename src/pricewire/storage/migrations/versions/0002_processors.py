"""Processors: their positions, owners and states; what became of dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    symbol = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.create_table(
        "processors",
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("topic_id", sa.Text, nullable=False),
        sa.Column("next_offset", sa.BigInteger),
        sa.Column("logged_at", sa.BigInteger),
        sa.Column("counters", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("processor", "partition", name="pk_processors"),
    )
    op.create_table(
        "processor_states",
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("symbol", symbol, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("processor", "symbol", "partition", name="pk_processor_states"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("topic_id", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "partition", "offset", name="pk_dead_letters"),
    )
