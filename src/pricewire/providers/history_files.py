"""Files of past prices, read whole when `history.History` is made; CSV here, Parquet on demand.

Invariant: what is returned can be played as it is: every row is a valid quote with the file's
exact digits, and the rows of a symbol ascend in time. A file with one bad row is refused whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidSymbol, NotAPrice, StartupError

COLUMNS: Final = ("symbol", "timestamp", "price")
HEADER: Final = ",".join(COLUMNS)

_SHIPPED: Final = "history.csv.gz"
_PRICE: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)


class Row(NamedTuple):
    """A quote and the row's text as the file has it."""

    quote: Quote
    text: str


Rows = Mapping[str, Sequence[Row]]
NumberedCells = tuple[int, Sequence[str]]


class BadRow(ValueError):
    """Why a row cannot be played."""


def read_shipped() -> Rows:
    """Return the daily closes that come with Pricewire, in US dollars."""
    packed = files("pricewire.providers").joinpath("data", _SHIPPED).read_bytes()
    return _rows(_cells(packed, Path(_SHIPPED)), Path(_SHIPPED), "USD")


def read_file(file: Path) -> Rows:
    """Return the rows of a user's file; their currency is not known.

    Raises:
        StartupError: names the file, the line (in Parquet the row) and the reason.
    """
    if file.suffix.lower() == ".parquet":
        from pricewire.providers.history_parquet import parquet_cells  # noqa: PLC0415

        return _rows(parquet_cells(file), file, None)
    try:
        packed = file.read_bytes()
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror}") from None
    return _rows(_cells(packed, file), file, None)


def _cells(packed: bytes, file: Path) -> Iterator[NumberedCells]:
    try:
        unpacked = gzip.decompress(packed) if file.suffix.lower() == ".gz" else packed
        text = unpacked.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error):
        raise StartupError(f"{file} is no complete gzip file") from None
    except UnicodeDecodeError as error:
        line = unpacked.count(b"\n", 0, error.start) + 1
        raise StartupError(f"{file}, line {line}: not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if next(reader, None) != list(COLUMNS):
            raise StartupError(f"{file}, line 1: the columns must be {HEADER}")
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise StartupError(f"{file}, line {reader.line_num}: {error}") from None


def _rows(numbered: Iterable[NumberedCells], file: Path, currency: str | None) -> Rows:
    rows: dict[str, list[Row]] = {}
    for number, cells in numbered:
        try:
            _add(rows, _row(cells, currency))
        except (BadRow, InvalidSymbol, NotAPrice) as error:
            raise StartupError(f"{file}, line {number}: {error}") from None
    if not rows:
        raise StartupError(f"{file} has no rows")
    return rows


def _add(rows: dict[str, list[Row]], row: Row) -> None:
    known = rows.setdefault(row.quote.symbol, [])
    if known and row.quote.timestamp < known[-1].quote.timestamp:
        raise BadRow(f"is earlier than the row of {row.quote.symbol} before it")
    known.append(row)


def _row(cells: Sequence[str], currency: str | None) -> Row:
    if len(cells) != len(COLUMNS):
        raise BadRow(f"has {len(cells)} values, not {len(COLUMNS)} ({HEADER})")
    symbol, time, price = cells
    if not _PRICE.fullmatch(price):
        raise BadRow(f"{price[:64]!r} is no price: write it as plain digits, 112.1300")
    timestamp, precision = _timestamp(time)
    # Who keeps one price a day keeps the close.
    kind = PriceKind.CLOSE if precision is Precision.DAY else PriceKind.LAST
    quote = Quote(
        symbol=parse_symbol(symbol),
        price=Decimal(price),
        timestamp=timestamp,
        precision=precision,
        currency=currency,
        kind=kind,
    )
    return Row(quote, f"{symbol},{time},{price}")


def _timestamp(text: str) -> tuple[datetime, Precision]:
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC), Precision.DAY
        if match := _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC), _precision(match)
    except (ValueError, OverflowError):
        pass
    raise BadRow(
        f"{text[:64]!r} is no time: write 2024-03-20, or 2024-03-20T10:30:00Z with Z or an offset"
    )


def _precision(match: re.Match[str]) -> Precision:
    if match[1] is None:
        return Precision.MINUTE
    if match[2] is None:
        return Precision.SECOND
    return Precision.MILLISECOND if len(match[2]) <= 4 else Precision.MICROSECOND
