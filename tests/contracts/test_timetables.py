"""Trading days in the database: as they went in, replaced as a whole, made by one of many."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pricewire.calendars.process import WorkerCalendars
from pricewire.domain.exchange import EXCHANGES
from pricewire.domain.session import Timetable, TradingDay
from pricewire.errors import CalendarsUnavailable
from pricewire.storage.database import Database
from pricewire.storage.timetables import SqlTimetables
from tests.builders import on_postgres, opened

NOW = datetime(2024, 11, 27, 15, 0, tzinfo=UTC)
AGAIN = timedelta(minutes=2)


def timetable(name: str, *days: int) -> Timetable:
    made = [
        TradingDay(
            date(2024, 11, day),
            datetime(2024, 11, day, 1, 30, tzinfo=UTC),
            datetime(2024, 11, day, 8, tzinfo=UTC),
            None
            if day == 29
            else (datetime(2024, 11, day, 4, tzinfo=UTC), datetime(2024, 11, day, 5, tzinfo=UTC)),
            early=day == 29,
        )
        for day in days
    ]
    return Timetable(EXCHANGES[name], made, first=date(2024, 11, 1), last=date(2024, 11, 30))


async def test_trading_days_come_back_as_they_went_in_and_are_replaced(database: Database) -> None:
    store = SqlTimetables(database)
    assert await store.stored() == {}
    assert await store.claim(["XHKG", "XTKS"], NOW, AGAIN) == ["XHKG", "XTKS"]
    # Claimed and not known yet.
    assert await store.stored() == {}
    await store.write({"XHKG": timetable("XHKG", 27, 28), "XTKS": timetable("XTKS", 27)}, "1")
    for made, version in ((timetable("XHKG", 28, 29), "2"), (timetable("XHKG", 28), "3")):
        await store.write({"XHKG": made}, version)
        stored = await store.stored()
        assert stored.keys() == {"XHKG", "XTKS"}
        again = stored["XHKG"]
        assert again.timetable.days == made.days
        assert (again.timetable.first, again.timetable.last) == (made.first, made.last)
        assert (again.version, stored["XTKS"].version) == (version, "1")


async def test_a_claim_holds_for_its_time(database: Database) -> None:
    store = SqlTimetables(database)
    assert await store.claim(["XNYS"], NOW, AGAIN) == ["XNYS"]
    assert await store.claim(["XLON", "XNYS"], NOW + AGAIN / 2, AGAIN) == ["XLON"]
    assert await store.claim(["XLON", "XNYS"], NOW + AGAIN, AGAIN) == ["XNYS"]
    # A clock that is set far back does not shut everybody out.
    assert await store.claim(["XNYS"], NOW - timedelta(days=1), AGAIN) == ["XNYS"]
    assert await store.claim([], NOW, AGAIN) == ()


@on_postgres
async def test_of_many_processes_one_has_the_claim(database: Database, database_url: str) -> None:
    async with opened(database_url) as second, opened(database_url) as third:
        stores = [SqlTimetables(one) for one in (database, second, third)] * 4
        claims = await asyncio.gather(
            *(store.claim(["XLON", "XNYS"], NOW, AGAIN) for store in stores)
        )
        assert sorted(name for claim in claims for name in claim) == ["XLON", "XNYS"]
        made = timetable("XNYS", 27, 28)
        await asyncio.gather(*(store.write({"XNYS": made}, "1") for store in stores))
        assert (await stores[0].stored())["XNYS"].timetable.days == made.days


PROGRAM = """
import os, sys, time
assert not sys.stdin.read()
open({seen!r}, "w").write(repr((dict(os.environ), sys.argv[1:], os.getcwd(), os.getpid())))
{then}
"""


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("sys.exit('no such module')", "failed: no such module"),
        ("print('no JSON')", "no trading days"),
        ('print(\'{"NOPE": {"first": "2024-11-01", "last": "2024-11-30", "days": []}}\')', "no tr"),
        ("os.kill(os.getpid(), 9)", "failed"),
        ("time.sleep(60)", "within 1 s"),
    ],
    ids=["fails", "garbage", "unknown", "killed", "hangs"],
)
async def test_a_process_that_fails_is_told_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, said: str
) -> None:
    monkeypatch.setenv("FINNHUB_API_KEY", "canary-secret")
    seen = tmp_path / "seen"
    program = [sys.executable, "-I", "-c", PROGRAM.format(seen=str(seen), then=then)]
    calendars = WorkerCalendars(seconds=1 if "sleep" in then else 60, program=program)
    with pytest.raises(CalendarsUnavailable, match=said):
        await calendars.timetables(["XNYS"], date(2024, 11, 1), date(2024, 11, 30))
    told = seen.read_text()
    assert "canary" not in told
    environment, arguments, folder, process = eval(told)
    # What the dynamic linker and the locale add by themselves is none of ours.
    assert environment.keys() <= {"LC_CTYPE"}
    assert arguments == ["2024-11-01", "2024-11-30", "XNYS"]
    assert folder == "/"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_whoever_stops_waiting_ends_the_process(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = [
        *(sys.executable, "-I", "-c"),
        PROGRAM.format(seen=str(seen), then="time.sleep(60)"),
    ]
    task = asyncio.create_task(
        WorkerCalendars(program=program).timetables(["XNYS"], NOW.date(), NOW.date())
    )
    while not (seen.exists() and seen.read_text()):
        assert not task.done()
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(eval(seen.read_text())[3], 0)
