"""The rows of a Parquet file as the texts that a CSV would hold; `history_files` calls this.

pyarrow is an extra, so this module is imported only for a Parquet file. Invariant: no price comes
through a binary float: a column of floats is refused, not rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pricewire.errors import StartupError

_COLUMNS: Final = ("symbol", "timestamp", "price")
_TIMESPECS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


def parquet_cells(file: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yield (row, (symbol, timestamp, price)), rows counted from 1.

    Raises:
        StartupError: the extra is missing, or the file is no Parquet of the right columns.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise StartupError(
            f"{file} is Parquet, which needs an extra: pip install 'pricewire[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(file) as opened:
            _check_columns(pa, opened.schema_arrow, file)
            yield from _rows(opened)
    except (pa.ArrowException, OSError) as error:
        raise StartupError(f"{file} cannot be read as Parquet: {type(error).__name__}") from None


def _rows(opened: Any) -> Iterator[tuple[int, tuple[str, str, str]]]:
    unit = getattr(opened.schema_arrow.field("timestamp").type, "unit", "s")
    number = 0
    for batch in opened.iter_batches(columns=list(_COLUMNS)):
        for symbol, time, price in zip(
            *(batch.column(name).to_pylist() for name in _COLUMNS), strict=True
        ):
            number += 1
            yield number, (_text(symbol, unit), _text(time, unit), _text(price, unit))


def _text(value: object, unit: str) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat(timespec=_TIMESPECS[unit])
    if isinstance(value, date):
        return value.isoformat()
    return "" if value is None else str(value)


def _check_columns(pa: Any, schema: Any, file: Path) -> None:
    missing = [name for name in _COLUMNS if name not in schema.names]
    if missing:
        raise StartupError(f"{file} lacks the column {', '.join(missing)}")
    price = schema.field("price").type
    if not (_is_text(pa, price) or pa.types.is_decimal(price)):
        raise StartupError(f"{file} has prices as {price}: store decimals, or decimal text")
    time = schema.field("timestamp").type
    if not (_is_text(pa, time) or pa.types.is_date32(time) or _is_instant(pa, time)):
        raise StartupError(
            f"{file} has times as {time}: store text, date32, or timestamps of s, ms or us in UTC"
        )
    if not _is_text(pa, schema.field("symbol").type):
        raise StartupError(f"{file} has symbols that are not text")


def _is_text(pa: Any, kind: Any) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _is_instant(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None and kind.unit in _TIMESPECS)
