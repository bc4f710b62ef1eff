"""Fixtures for all tests: the real servers, and a fresh database of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from pricewire.storage.database import Database
from pricewire.storage.migrate import migrate
from pricewire.storage.postgres import PostgresDatabase
from pricewire.storage.sqlite import SqliteDatabase
from tests.kafka_tools import kafka
from tests.postgres_tools import LocalPostgres, postgres

__all__ = ["kafka", "postgres"]

# How long an example takes says nothing on a machine that is shared.
hypothesis_settings.register_profile(
    "shared", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("shared")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """DATABASE_URL of a fresh, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'pricewire.db'}"
    server: LocalPostgres = request.getfixturevalue("postgres")
    return server.database_url()


def open_database(database_url: str) -> Database:
    if database_url.startswith("sqlite"):
        return SqliteDatabase(database_url)
    return PostgresDatabase(database_url.replace("postgresql:", "postgresql+asyncpg:"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database of each kind."""
    opened = open_database(database_url)
    await migrate(opened)
    yield opened
    await opened.aclose()


def now() -> datetime:
    return datetime.now(UTC)
