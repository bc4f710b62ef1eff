"""Trading days of exchanges, by which a price's answer says whether its market is open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calendars",
        sa.Column("exchange", sa.String(16), nullable=False),
        sa.Column("tried_at", UtcDateTime),
        sa.Column("first_day", sa.Date),
        sa.Column("last_day", sa.Date),
        sa.Column("version", sa.Text),
        sa.PrimaryKeyConstraint("exchange", name="pk_calendars"),
    )
    op.create_table(
        "trading_days",
        sa.Column("exchange", sa.String(16), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("opens_at", UtcDateTime, nullable=False),
        sa.Column("closes_at", UtcDateTime, nullable=False),
        sa.Column("rest_begins_at", UtcDateTime),
        sa.Column("rest_ends_at", UtcDateTime),
        sa.Column("early", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["exchange"], ["calendars.exchange"], name="fk_trading_days_exchange_calendars"
        ),
        sa.PrimaryKeyConstraint("exchange", "day", name="pk_trading_days"),
    )
