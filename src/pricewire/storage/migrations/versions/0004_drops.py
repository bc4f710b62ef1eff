"""Events that will never come, since the dead letters that they became were dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    symbol = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.create_table(
        "drops",
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("symbol", symbol, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("processor", "symbol", "sequence", "source", name="pk_drops"),
    )
