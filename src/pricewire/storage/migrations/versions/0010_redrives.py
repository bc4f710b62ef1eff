"""Redrives that may be broken off: where to look for what was put back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pricewire.storage.types import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("look_from", sa.BigInteger))
    op.add_column("dead_letters", sa.Column("begun_at", UtcDateTime))
    op.add_column("dead_letters", sa.Column("new_offset", sa.BigInteger))
