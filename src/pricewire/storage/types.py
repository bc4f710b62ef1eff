"""Column types that lose nothing; used by the tables and by the migrations.

Invariant: a price comes back with the digits it went in with, and a time comes back aware and in
UTC, on both databases. SQLite's own NUMERIC would turn `112.1300` into a float, hence text there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, Dialect, Numeric, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from pricewire.domain.quote import price_text


class ExactDecimal(TypeDecorator[Decimal]):
    """NUMERIC without bounds in PostgreSQL, plain digits as text in SQLite."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return price_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        return Decimal(value) if isinstance(value, str) else value


def _utc(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is not UTC and value.utcoffset() != timedelta(0):
        raise ValueError(f"{value!r} is not in UTC")
    return value


def _utc_text(value: datetime | None) -> str | None:
    # A fixed width keeps text order the order of time.
    return None if (moment := _utc(value)) is None else moment.isoformat(timespec="microseconds")


class UtcDateTime(TypeDecorator[datetime]):
    """TIMESTAMPTZ in PostgreSQL, ISO 8601 with microseconds and offset as text in SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(
            Text() if dialect.name == "sqlite" else DateTime(timezone=True)
        )

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return _utc_text(value) if dialect.name == "sqlite" else _utc(value)

    def bind_processor(self, dialect: Dialect) -> Any:
        # At once, not through the decorator's two calls: several of each tick's values are times.
        return _utc_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if isinstance(value, datetime) else None
