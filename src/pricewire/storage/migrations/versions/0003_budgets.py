"""Budgets: what was asked of each provider; and what a price is, beside its kind and currency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("counters", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("provider", name="pk_budgets"),
    )
    op.add_column("prices", sa.Column("delayed", sa.Boolean))
    op.add_column("prices", sa.Column("adjusted", sa.Boolean))
    op.add_column("prices", sa.Column("exchange", sa.Text))
