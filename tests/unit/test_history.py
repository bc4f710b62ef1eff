"""History: the shipped closes and users' files, played exactly or refused with the line."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pricewire.domain.quote import Fetched, Precision, PriceKind, price_text
from pricewire.errors import StartupError, UnknownSymbol
from pricewire.providers.history import History
from pricewire.providers.history_files import read_shipped

START = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def play(tmp_path: Path, clock: Clock) -> Callable[..., History]:
    def make(*rows: str, header: str = "symbol,timestamp,price") -> History:
        file = tmp_path / "mine.csv"
        file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return History(file=file, interval_seconds=1, clock=clock)

    return make


def facts(fetched: Fetched) -> tuple[str, datetime]:
    (quote,) = fetched.quotes
    return price_text(quote.price), quote.timestamp


async def test_the_shipped_closes_play_one_day_an_interval_and_stay_on_the_last(
    clock: Clock,
) -> None:
    history = History(file=None, interval_seconds=0.5, clock=clock)
    first = await history.fetch("AAPL")
    assert facts(first) == ("130.31", datetime(2000, 3, 1, tzinfo=UTC))
    (quote,) = first.quotes
    assert (quote.precision, quote.kind, quote.currency) == (
        Precision.DAY,
        PriceKind.CLOSE,
        "USD",
    )
    assert first.raw.body == b"symbol,timestamp,price\nAAPL,2000-03-01,130.31\n"
    assert first.raw.url == "history:AAPL?row=1"
    assert first.raw.fetched_at == START
    clock.now += timedelta(milliseconds=499)
    assert facts(await history.fetch("AAPL")) == facts(first)
    clock.now += timedelta(milliseconds=1)
    second = await history.fetch("AAPL")
    assert facts(second) == ("122.0", datetime(2000, 3, 2, tzinfo=UTC))
    assert second.raw.url == "history:AAPL?row=2"
    clock.now += timedelta(days=1)
    last = await history.fetch("AAPL")
    assert facts(last)[1] == datetime(2013, 3, 1, tzinfo=UTC)
    assert last.raw.fetched_at == clock.now


async def test_a_clock_that_was_set_back_stays_on_the_first_row(clock: Clock) -> None:
    history = History(file=None, interval_seconds=1, clock=clock)
    clock.now -= timedelta(days=1)
    assert (await history.fetch("FB")).raw.url == "history:FB?row=1"


def test_the_shipped_data_are_five_shares_in_order() -> None:
    rows = read_shipped()
    assert sorted(rows) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert sum(len(of_one) for of_one in rows.values()) == 12_154
    for of_one in rows.values():
        days = [row.quote.timestamp for row in of_one]
        assert days == sorted(set(days))


async def test_an_unknown_symbol_names_at_most_ten_known_ones(play: Callable[..., History]) -> None:
    history = play(*(f"S{number:02},2024-03-20,1" for number in range(12)))
    with pytest.raises(UnknownSymbol, match=r"S00, .*S09 and 2 more") as raised:
        await history.fetch("NONE")
    assert "S10" not in raised.value.detail


@pytest.mark.parametrize(
    ("text", "moment", "precision"),
    [
        ("2024-03-20", datetime(2024, 3, 20, tzinfo=UTC), Precision.DAY),
        ("2024-03-20T10:30Z", datetime(2024, 3, 20, 10, 30, tzinfo=UTC), Precision.MINUTE),
        ("2024-03-20T10:30:05Z", datetime(2024, 3, 20, 10, 30, 5, tzinfo=UTC), Precision.SECOND),
        (
            "2024-03-20 10:30:05.250+02:00",
            datetime(2024, 3, 20, 8, 30, 5, 250_000, tzinfo=UTC),
            Precision.MILLISECOND,
        ),
        (
            "2024-03-20T10:30:05.000250-05:00",
            datetime(2024, 3, 20, 15, 30, 5, 250, tzinfo=UTC),
            Precision.MICROSECOND,
        ),
    ],
)
async def test_times_keep_their_precision(
    play: Callable[..., History], text: str, moment: datetime, precision: Precision
) -> None:
    fetched = await play(f"MINE,{text},1.50").fetch("MINE")
    (quote,) = fetched.quotes
    assert (quote.timestamp, quote.precision, quote.currency) == (moment, precision, None)
    assert quote.kind is (PriceKind.CLOSE if precision is Precision.DAY else PriceKind.LAST)
    assert fetched.raw.body == f"symbol,timestamp,price\nMINE,{text},1.50\n".encode()
    assert fetched.raw.url == "history:mine.csv/MINE?row=1"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("MINE,2024-03-20T10:30:00,1", "no time"),
        ("MINE,2024-03-20T10:30:00.1234567Z,1", "no time"),
        ("MINE,20240320,1", "no time"),
        ("MINE,2024-02-30,1", "no time"),
        ("MINE,0001-01-01T00:00:00+10:00,1", "no time"),
        ("MINE,1500-01-01,1", "no market time"),
        ("MINE,2024-03-20,1e5", "no price"),
        ("MINE,2024-03-20,-1", "no price"),
        ("MINE,2024-03-20,0.00", "above zero"),
        ("MINE,2024-03-20,NaN", "no price"),
        ('MINE,2024-03-20,"1,5"', "no price"),
        ("MINE,2024-03-20,", "no price"),
        (f"MINE,2024-03-20,{'1' * 65}", "digits"),
        ("MI NE,2024-03-20,1", "no symbol"),
        ("MINE,2024-03-20", "has 2 values"),
        ("MINE,2024-03-18,1", "earlier"),
        ('MINE,2024-03-20,"1', "unexpected end"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_reason(
    play: Callable[..., History], row: str, reason: str
) -> None:
    with pytest.raises(StartupError, match=rf"mine\.csv, line 3: .*{reason}"):
        play("MINE,2024-03-19,1.0", row)


async def test_equal_times_and_blank_lines_are_fine(play: Callable[..., History]) -> None:
    history = play("A,2024-03-20,1", "", "A,2024-03-20,2", "B,2024-03-01,3")
    assert facts(await history.fetch("B"))[0] == "3"


def test_files_that_are_none(tmp_path: Path, play: Callable[..., History], clock: Clock) -> None:
    with pytest.raises(StartupError, match=r"line 1: the columns must be"):
        play("A,2024-03-20,1", header="ticker,date,close")
    with pytest.raises(StartupError, match="no rows"):
        play()
    with pytest.raises(StartupError, match="cannot be read"):
        History(file=tmp_path / "missing.csv", interval_seconds=1, clock=clock)
    for name, content, reason in [
        ("a.csv", b"symbol,timestamp,price\nA,2024-03-20,\xff\n", "line 2: not UTF-8"),
        ("b.csv.gz", b"no gzip", "no complete gzip"),
        ("c.csv.gz", gzip.compress(b"symbol,timestamp,price\n" * 99)[:-9], "no complete gzip"),
        ("d.parquet", b"no parquet", "cannot be read as Parquet"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StartupError, match=reason):
            History(file=tmp_path / name, interval_seconds=1, clock=clock)


@given(st.from_regex(r"[1-9][0-9]{0,19}(\.[0-9]{1,20})?", fullmatch=True))
def test_any_digits_come_through_unchanged(tmp_path_factory: Any, digits: str) -> None:
    file = tmp_path_factory.getbasetemp() / "digits.csv.gz"
    file.write_bytes(gzip.compress(f"symbol,timestamp,price\nA,2024-03-20,{digits}\n".encode()))
    history = History(file=file, interval_seconds=1, clock=Clock())
    assert price_text(history._rows["A"][0].quote.price) == digits


def store(file: Path, timestamp: Any, price: Any, symbol: Any = None) -> Path:
    columns = {
        "symbol": pa.array(["A"]) if symbol is None else symbol,
        "timestamp": timestamp,
        "price": price,
    }
    parquet.write_table(pa.table(columns), file)
    return file


DECIMAL = pa.array([Decimal("112.1300")])
INSTANT = datetime(2024, 3, 20, 10, 30, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timestamp", "price", "precision"),
    [
        (pa.array(["2024-03-20"]), pa.array(["112.1300"]), Precision.DAY),
        (pa.array([date(2024, 3, 20)]), DECIMAL, Precision.DAY),
        (pa.array([INSTANT], pa.timestamp("ms", "UTC")), DECIMAL, Precision.MILLISECOND),
        (pa.array([INSTANT], pa.timestamp("us", "UTC")), DECIMAL, Precision.MICROSECOND),
    ],
)
async def test_parquet_keeps_digits_and_precision(
    tmp_path: Path, clock: Clock, timestamp: Any, price: Any, precision: Precision
) -> None:
    file = store(tmp_path / "mine.parquet", timestamp, price)
    history = History(file=file, interval_seconds=1, clock=clock)
    (quote,) = (await history.fetch("A")).quotes
    assert (price_text(quote.price), quote.precision) == ("112.1300", precision)
    assert quote.timestamp.date() == date(2024, 3, 20)


@pytest.mark.parametrize(
    ("timestamp", "price", "reason"),
    [
        (pa.array(["2024-03-20"]), pa.array([112.13]), "prices as double: store decimals"),
        (pa.array([INSTANT.replace(tzinfo=None)]), DECIMAL, "times as timestamp"),
        (pa.array([INSTANT], pa.timestamp("ns", "UTC")), DECIMAL, "times as timestamp"),
        (pa.array(["yesterday"]), DECIMAL, "line 1: 'yesterday' is no time"),
        (pa.array(["2024-03-20"]), pa.array([None], pa.string()), "line 1: '' is no price"),
    ],
)
def test_parquet_that_is_not_exact_is_refused(
    tmp_path: Path, clock: Clock, timestamp: Any, price: Any, reason: str
) -> None:
    file = store(tmp_path / "mine.parquet", timestamp, price)
    with pytest.raises(StartupError, match=reason):
        History(file=file, interval_seconds=1, clock=clock)


def test_parquet_without_its_columns(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "mine.parquet"
    parquet.write_table(pa.table({"symbol": ["A"]}), file)
    with pytest.raises(StartupError, match="lacks the column timestamp, price"):
        History(file=file, interval_seconds=1, clock=clock)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StartupError, match=r"pip install 'pricewire\[parquet\]'"):
        History(file=tmp_path / "mine.parquet", interval_seconds=1, clock=clock)
