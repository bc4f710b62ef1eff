"""Whether a market is open: breaks, half days, holidays, changes of the clocks, and the unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.calendars.process import WorkerCalendars
from pricewire.domain.exchange import COINS, EXCHANGES, FOREX, UNKNOWN
from pricewire.domain.session import Session, Timetable, TradingDay, next_open_of, session_of
from pricewire.errors import CalendarsUnavailable, StoreUnavailable
from pricewire.services.sessions import MISSING_SECONDS, MarketSessions, StoredTimetable
from tests.fakes import in_virtual_time

NEW_YORK, HONG_KONG = EXCHANGES["XNYS"], EXCHANGES["XHKG"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def known() -> Mapping[str, Timetable]:
    """November 2024 to March 2025, as the service's own process makes them."""
    pytest.importorskip("exchange_calendars")
    names = ["XNYS", "XHKG", "XLON", "NOPE"]
    first, last = date(2024, 11, 20), date(2025, 3, 31)
    made = asyncio.run(WorkerCalendars().timetables(names[:3], first, last))
    assert sorted(made) == ["XHKG", "XLON", "XNYS"]
    return made


@pytest.mark.parametrize(
    ("exchange", "moment", "session"),
    [
        # 09:30 to 16:00 in New York, in winter and in summer.
        ("XNYS", "2024-11-27 14:29:59.999999", "closed"),
        ("XNYS", "2024-11-27 14:30", "open"),
        ("XNYS", "2024-11-27 20:59:59", "open"),
        ("XNYS", "2024-11-27 21:00", "closed"),
        ("XNYS", "2025-03-07 14:29", "closed"),
        ("XNYS", "2025-03-10 13:30", "open"),
        ("XNYS", "2025-03-10 20:00", "closed"),
        # Between the changes of the clocks of America and of Europe.
        ("XLON", "2025-03-10 07:59", "closed"),
        ("XLON", "2025-03-10 08:00", "open"),
        ("XLON", "2025-03-31 07:00", "open"),
        # Thanksgiving; the day after it closes at 13:00.
        ("XNYS", "2024-11-28 16:00", "closed"),
        ("XNYS", "2024-11-29 14:30", "early_close"),
        ("XNYS", "2024-11-29 17:59:59", "early_close"),
        ("XNYS", "2024-11-29 18:00", "closed"),
        ("XNYS", "2024-11-30 16:00", "closed"),
        ("XNYS", "2024-12-25 16:00", "closed"),
        # A day of mourning, which no rule foretells.
        ("XNYS", "2025-01-09 16:00", "closed"),
        # Noon to 13:00 in Hong Kong; on the last day of the Chinese year it ends at noon.
        ("XHKG", "2024-11-27 03:59", "open"),
        ("XHKG", "2024-11-27 04:00", "closed"),
        ("XHKG", "2024-11-27 05:00", "open"),
        ("XHKG", "2025-01-28 03:00", "early_close"),
        ("XHKG", "2025-01-28 05:30", "closed"),
        ("XHKG", "2025-01-29 03:00", "closed"),
        # Outside what is known.
        ("XNYS", "2024-11-20 04:59", "unknown"),
        ("XNYS", "2024-11-20 05:00", "closed"),
        ("XNYS", "2025-04-01 03:59", "closed"),
        ("XNYS", "2025-04-01 04:00", "unknown"),
    ],
)
def test_exchanges_go_by_their_calendars(
    known: Mapping[str, Timetable], exchange: str, moment: str, session: str
) -> None:
    assert session_of(EXCHANGES[exchange], known[exchange], at(moment)) is Session(session)


@pytest.mark.parametrize(
    ("exchange", "moment", "opens"),
    [
        ("XNYS", "2024-11-27 15:00", "2024-11-27 15:00"),
        ("XNYS", "2024-11-27 21:00", "2024-11-29 14:30"),
        ("XNYS", "2024-11-29 18:00", "2024-12-02 14:30"),
        ("XNYS", "2025-03-07 21:00", "2025-03-10 13:30"),
        ("XHKG", "2024-11-27 04:30", "2024-11-27 05:00"),
        ("XNYS", "2025-03-31 20:00", None),
        ("XNYS", "2026-01-01 20:00", None),
    ],
)
def test_it_is_known_when_a_market_opens_next(
    known: Mapping[str, Timetable], exchange: str, moment: str, opens: str | None
) -> None:
    expected = at(opens) if opens else None
    assert next_open_of(EXCHANGES[exchange], known[exchange], at(moment)) == expected


@pytest.mark.parametrize(
    ("moment", "session", "opens"),
    [
        # 17:00 in New York, in winter and in summer.
        ("2024-11-22 21:59", "open", "2024-11-22 21:59"),
        ("2024-11-22 22:00", "closed", "2024-11-24 22:00"),
        ("2024-11-24 21:59", "closed", "2024-11-24 22:00"),
        ("2024-11-24 22:00", "open", "2024-11-24 22:00"),
        ("2025-07-04 21:00", "closed", "2025-07-06 21:00"),
        # The clocks change in the weekend between.
        ("2025-03-08 12:00", "closed", "2025-03-09 21:00"),
    ],
)
def test_foreign_exchange_rests_at_the_weekend_only(moment: str, session: str, opens: str) -> None:
    assert session_of(FOREX, None, at(moment)) is Session(session)
    assert next_open_of(FOREX, None, at(moment)) == at(opens)


def test_coins_are_always_open_and_what_is_unknown_stays_unknown() -> None:
    sunday = at("2024-12-01 03:00")
    assert session_of(COINS, None, sunday) is Session.OPEN
    assert next_open_of(COINS, None, sunday) == sunday
    for exchange in (UNKNOWN, NEW_YORK):
        assert session_of(exchange, None, sunday) is Session.UNKNOWN
        assert next_open_of(exchange, None, sunday) is None


@given(minutes=st.integers(0, 40 * 1440), data=st.data())
def test_a_market_is_open_from_when_it_opens_until_it_closes(
    minutes: int, data: st.DataObject
) -> None:
    first = date(2024, 10, 20)
    traded = data.draw(st.sets(st.integers(0, 39), min_size=1))
    days = [trading_day(first + timedelta(days=one)) for one in traded]
    table = Timetable(HONG_KONG, days, first=first, last=first + timedelta(days=39))
    moment = HONG_KONG.begin_of(first) + timedelta(minutes=minutes)
    spans = sorted(span for day in days for span in day.spans)
    if moment >= HONG_KONG.begin_of(first + timedelta(days=40)):
        assert table.session_at(moment) is Session.UNKNOWN
        return
    inside = any(begin <= moment < end for begin, end in spans)
    assert table.session_at(moment).is_open is inside
    later = [begin for begin, _ in spans if begin > moment]
    assert table.next_open(moment) == (moment if inside else later[0] if later else None)


def trading_day(day: date) -> TradingDay:
    """09:30 to 16:00 in Hong Kong, closed from 12:00 to 13:00."""
    begin = HONG_KONG.begin_of(day)
    opens, rests, again, closes = (begin + timedelta(hours=hours) for hours in (9.5, 12, 13, 16))
    return TradingDay(day, opens, closes, (rests, again))


# How they are kept known.

NOW = at("2024-11-27 15:00")


def table(name: str = "XNYS", days: int = 400) -> Timetable:
    day = TradingDay(NOW.date(), NOW - timedelta(hours=1), NOW + timedelta(hours=3))
    return Timetable(
        EXCHANGES[name], [day], first=NOW.date(), last=NOW.date() + timedelta(days=days)
    )


class FakeTimetables:
    """A database of processes' own; fulfils `TimetableStore`."""

    def __init__(self) -> None:
        self.tables: dict[str, StoredTimetable] = {}
        self.claimed: dict[str, datetime] = {}
        self.failing = False

    async def stored(self) -> Mapping[str, StoredTimetable]:
        if self.failing:
            raise StoreUnavailable("away")
        return dict(self.tables)

    async def claim(self, names: Sequence[str], now: datetime, again: timedelta) -> Sequence[str]:
        if self.failing:
            raise StoreUnavailable("away")
        free = [one for one in names if one not in self.claimed or self.claimed[one] <= now - again]
        self.claimed.update(dict.fromkeys(free, now))
        return free

    async def write(self, timetables: Mapping[str, Timetable], version: str) -> None:
        for name, one in timetables.items():
            self.tables[name] = StoredTimetable(one, version)


class FakeCalendars:
    """Makes timetables in a second; fulfils `Calendars`."""

    def __init__(self, version: str | None = "1") -> None:
        self.version = version
        self.made: list[tuple[str, ...]] = []
        self.failing = False
        self.days = 400

    async def timetables(
        self, names: Sequence[str], first: date, last: date
    ) -> Mapping[str, Timetable]:
        assert first < NOW.date() < last
        self.made.append(tuple(names))
        await asyncio.sleep(1)
        if self.failing:
            raise CalendarsUnavailable("killed")
        return {name: table(name, self.days) for name in names if name != "ASEX"}


class Watch:
    """Sessions that are kept up while inside."""

    def __init__(self, store: FakeTimetables, calendars: FakeCalendars | None) -> None:
        self.sessions = MarketSessions(store, calendars, clock=clock)

    async def __aenter__(self) -> MarketSessions:
        await self.sessions.load()
        self._task = asyncio.create_task(self.sessions.run())
        return self.sessions

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()


def clock() -> datetime:
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


@in_virtual_time
async def test_asking_for_an_exchange_makes_it_known_once_for_all() -> None:
    store, calendars = FakeTimetables(), FakeCalendars()
    async with Watch(store, calendars) as sessions:
        assert sessions.session_at("AAPL", "", clock()) is Session.UNKNOWN
        await asyncio.sleep(2)
        assert sessions.session_at("AAPL", "", clock()) is Session.OPEN
        assert sessions.next_open("AAPL", "", clock()) == clock()
        for _ in range(50):
            assert sessions.session_at("VOD.L", "", clock()) is Session.UNKNOWN
        assert sessions.session_at("BTC-USD", "", clock()) is Session.OPEN
        await asyncio.sleep(2)
        assert sessions.session_at("VOD.L", "", clock()) is Session.OPEN
        await asyncio.sleep(86_400)
    assert calendars.made == [("XNYS",), ("XLON",)]
    # After a start everything is known at once, and nothing is made.
    async with Watch(store, FakeCalendars()) as again:
        assert again.session_at("VOD.L", "", NOW) is Session.OPEN
    assert calendars.made == [("XNYS",), ("XLON",)]


@in_virtual_time
async def test_of_several_processes_one_makes_what_all_lack() -> None:
    store, calendars = FakeTimetables(), FakeCalendars()
    async with Watch(store, calendars) as first, Watch(store, calendars) as second:
        await asyncio.sleep(10)
        for one in (first, second):
            assert one.session_at("AAPL", "", clock()) is Session.OPEN
    assert calendars.made == [("XNYS",)]


@in_virtual_time
async def test_what_nears_its_end_or_was_made_by_another_version_is_made_anew_once_a_day() -> None:
    store, calendars = FakeTimetables(), FakeCalendars()
    store.tables["XLON"] = StoredTimetable(table("XLON", days=59), "1")
    store.tables["XNYS"] = StoredTimetable(table(), "0")
    store.tables["XPAR"] = StoredTimetable(table("XPAR"), "1")
    calendars.days = 59
    async with Watch(store, calendars):
        await asyncio.sleep(3 * 86_400)
    assert calendars.made == [("XLON", "XNYS")] * len(calendars.made)
    assert len(calendars.made) == 3


@in_virtual_time
async def test_what_fails_is_tried_again_and_what_is_hopeless_is_not() -> None:
    store, calendars = FakeTimetables(), FakeCalendars()
    calendars.failing = store.failing = True
    async with Watch(store, calendars) as sessions:
        await asyncio.sleep(MISSING_SECONDS + 1)
        store.failing = False
        await asyncio.sleep(MISSING_SECONDS * 2 + 5)
        assert calendars.made == [("XNYS",)] * 2
        calendars.failing = False
        await asyncio.sleep(MISSING_SECONDS + 5)
        assert sessions.session_at("AAPL", "", clock()) is Session.OPEN
        assert sessions.session_at("OPAP.AT", "", clock()) is Session.UNKNOWN
        await asyncio.sleep(7 * 3600)
        assert sessions.session_at("OPAP.AT", "", clock()) is Session.UNKNOWN
    assert calendars.made == [*[("XNYS",)] * 3, ("ASEX",)]


@in_virtual_time
async def test_without_the_package_what_others_stored_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, calendars = FakeTimetables(), FakeCalendars(version=None)
    store.tables["XNYS"] = StoredTimetable(table(), "1")
    async with Watch(store, calendars) as sessions:
        await asyncio.sleep(3 * 3600)
        assert sessions.session_at("AAPL", "", NOW) is Session.OPEN
        assert sessions.session_at("VOD.L", "", NOW) is Session.UNKNOWN
    assert calendars.made == []
    assert capsys.readouterr().out.count("exchange-calendars is not installed") == 1
