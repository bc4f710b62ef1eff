"""Alembic migrations, run by `pricewire.storage.migrate`; each is frozen once it has landed."""
