"""Alembic's entry point: runs on the connection that `pricewire.storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

from pricewire.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
