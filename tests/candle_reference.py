"""What the candles of real trades must be, as DuckDB reckons them, and logs that bring the trades.

Tests of candles over real trades use it, in memory and on a broker. Invariant: nothing of the
program's own arithmetic, time zones or bookkeeping says what must come out; DuckDB reads the file
itself, and is told only in which order its rows were counted.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from tests.service_tools import Service

ZONE = "America/Chicago"
"""In which the file's times are written."""
MARKET = "America/New_York"
"""Whose midnight begins a day of the symbol (docs/candles.md, Days)."""

_READ = f"""
    create table trades as
    select row_number() over () - 1 as row, DateTime at time zone '{ZONE}' as moment, Price as price
    from read_csv(?, header = true, columns = {{
        'DateTime': 'timestamp', 'Price': 'varchar', 'Volume': 'varchar'
    }})
"""
# A candle that was the newest and is not any more closed once; each price that came for an older
# one than the newest gave it a revision more.
_BARS = f"""
    with counted as (select * from log join trades using (row)),
    placed as (
        select '1m' as interval, date_trunc('minute', moment) as start, * from counted union all
        select '5m', time_bucket(interval '5 minutes', moment), * from counted union all
        select '1h', date_trunc('hour', moment), * from counted union all
        select '1d', date_trunc('day', moment at time zone '{MARKET}') at time zone '{MARKET}', *
        from counted
    ),
    told as (
        select *, max(start) over (partition by interval order by place) as newest,
            max(start) over (partition by interval) as last
        from placed
    )
    select interval, start,
        first(price order by moment, place), max(price::decimal(18, 6)),
        min(price::decimal(18, 6)), last(price order by moment, place),
        count(*), min(moment), max(moment),
        first(place order by moment, place), last(place order by moment, place),
        count(*) filter (start < newest)
            + (bool_or(start = newest) and start < any_value(last))::int
    from told group by interval, start
"""


@dataclass(frozen=True)
class Bar:
    """Open and close with the digits of the file; `first` and `last` are their places in the log.

    Args:
        revision: 0 while it is open.
    """

    open: str
    high: Decimal
    low: Decimal
    close: str
    count: int
    open_at: datetime
    close_at: datetime
    first: int
    last: int
    revision: int


BarKey = tuple[str, datetime]
"""Interval and start."""


class Reference:
    """Candles of a file of trades."""

    def __init__(self, file: Path) -> None:
        self._duckdb = duckdb.connect()
        self._duckdb.execute("set timezone = 'UTC'; set threads = 1")
        self._duckdb.execute(_READ, [str(file)])

    def bars(self, counted: Mapping[int, int]) -> dict[BarKey, Bar]:
        """Return the candles of rows, given with the place in the log at which each counted."""
        log = pa.table({"row": list(counted), "place": list(counted.values())})
        self._duckdb.register("log", log)
        rows = self._duckdb.execute(_BARS).fetchall()
        return {(interval, _utc(start)): _bar(values) for interval, start, *values in rows}


def _bar(values: Sequence[object]) -> Bar:
    return Bar(*(_utc(one) if isinstance(one, datetime) else one for one in values))  # type: ignore[arg-type]


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


@dataclass(frozen=True)
class Disorder:
    """How trades come: of how many one does so, and 0 for none.

    Args:
        late: recorded up to `distance` rows late; `far`: anywhere later.
        delayed: comes behind some of its successors, so that it is missing until then.
        again: is followed by one that came before, once more.
    """

    late: int = 200
    far: int = 2_000
    delayed: int = 500
    again: int = 50
    distance: int = 3_000


class Logged(NamedTuple):
    """A record: which row of the file, and its number within the symbol."""

    row: int
    sequence: int


def disordered(rows: range, disorder: Disorder, choice: random.Random) -> list[Logged]:
    """Return the log of these rows: some late, some behind their successors, some twice."""

    def hits(one_in: int) -> bool:
        return one_in > 0 and choice.randrange(one_in) == 0

    def recorded_at(row: int) -> int:
        if hits(disorder.far):
            return choice.randrange(row, rows.stop)
        return row + choice.randrange(disorder.distance) if hits(disorder.late) else row

    in_order = sorted(rows, key=recorded_at)
    numbered = [Logged(row, number) for number, row in enumerate(in_order, 1)]

    def logged_at(one: Logged) -> float:
        # What is below the first that was seen is nobody's gap: the first is never late.
        return one.sequence + (
            choice.uniform(1, 20) if one.sequence > 1 and hits(disorder.delayed) else 0
        )

    log: list[Logged] = []
    for one in sorted(numbered, key=logged_at):
        log.append(one)
        if hits(disorder.again):
            earliest = choice.choice([0, max(0, len(log) - 10)])
            log.append(log[choice.randrange(earliest, len(log))])
    return log


def places(log: Sequence[Logged], first: int = 0) -> dict[int, int]:
    """Return each row with the place at which it counts: where it comes for the first time."""
    found: dict[int, int] = {}
    for place, one in enumerate(log, first):
        found.setdefault(one.row, place)
    return found


def assert_answered(service: Service, symbol: str, bars: Mapping[BarKey, Bar]) -> None:
    """`GET /v1/candles` gives these candles and no others."""
    for interval in ("1m", "5m", "1h", "1d"):
        path = f"/v1/candles?symbol={symbol}&interval={interval}&from=2013-01-01&limit=5000"
        status, _, body = service.get(path)
        assert status == 200, body
        found = json.loads(body, parse_float=str, parse_int=str)
        assert found["next"] is None
        told = {datetime.fromisoformat(one["start"]): _told(one) for one in found["candles"]}
        expected = {
            start: _expected(bar) for (name, start), bar in bars.items() if name == interval
        }
        assert told == expected, interval


def _told(one: Mapping[str, Any]) -> Sequence[object]:
    moments = (datetime.fromisoformat(one[name]) for name in ("open_at", "close_at"))
    prices = (one["open"], Decimal(one["high"]), Decimal(one["low"]), one["close"])
    return (*prices, int(one["count"]), int(one["revision"]), one["closed"], *moments)


def _expected(bar: Bar) -> Sequence[object]:
    prices = (bar.open, bar.high, bar.low, bar.close)
    return (*prices, bar.count, bar.revision, bar.revision > 0, bar.open_at, bar.close_at)
