"""For how many partitions of the topic a processor's states are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("processors", sa.Column("partitions", sa.Integer))
    op.execute("UPDATE processors SET partitions = (SELECT partitions FROM store)")
