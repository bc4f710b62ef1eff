"""Polling jobs, and which of their due times got which price."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    symbol = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("next_due", UtcDateTime, nullable=False),
        sa.Column("next_run", UtcDateTime, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("leased_until", UtcDateTime),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("missed", sa.BigInteger, nullable=False),
        sa.Column("last_poll", UtcDateTime),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_table(
        "polls",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("due", UtcDateTime, nullable=False),
        sa.Column("symbol", symbol, nullable=False),
        sa.Column("raw_response_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "due", "symbol", name="pk_polls"),
    )
