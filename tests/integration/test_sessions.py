"""Sessions in the running service: made by a process of its own, known at once after a restart."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pricewire.domain.exchange import EXCHANGES
from pricewire.domain.session import Session, Timetable, TradingDay
from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, running

pytestmark = pytest.mark.kafka


def stored(home: Path) -> Timetable:
    """Read New York's trading days from the service's database."""
    with sqlite3.connect(home / "pricewire.db") as database:
        rows = database.execute(
            "SELECT day, opens_at, closes_at, early FROM trading_days WHERE exchange = 'XNYS'"
        ).fetchall()
    days = [
        TradingDay(
            date.fromisoformat(day),
            datetime.fromisoformat(opens),
            datetime.fromisoformat(closes),
            early=bool(early),
        )
        for day, opens, closes, early in rows
    ]
    return Timetable(EXCHANGES["XNYS"], days, first=days[0].day, last=days[-1].day)


def test_a_price_says_whether_its_market_is_open(kafka: KafkaTools, tmp_path: Path) -> None:
    pytest.importorskip("exchange_calendars")
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "MARKET_CALENDARS": "on",
    }

    def session() -> Session:
        return Session(service.price("AAPL")["session"])

    with running(Service(tmp_path, environment)) as service:
        eventually(lambda: session() is not Session.UNKNOWN, 60)
        table = stored(tmp_path)
        today = datetime.now(UTC)
        # A year of about 250 days, of which the day after Thanksgiving or Christmas Eve is short.
        assert 290 <= len(table.days) <= 330
        assert any(one.early for one in table.days)
        assert (table.last - today.date()).days > 300
        before, told, after = (
            table.session_at(today),
            session(),
            table.session_at(datetime.now(UTC)),
        )
        assert told in (before, after)
        assert service.stop() == 0
    again = Service(tmp_path, {**environment, "MARKET_CALENDARS": "off"})
    with running(again) as service:
        assert session() is not Session.UNKNOWN
        assert "sessions.unknown" not in service.log
