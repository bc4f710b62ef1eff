"""A Parquet file as the rows of texts that a CSV would hold; `files` calls this.

pyarrow is an extra, so this module is imported only for a Parquet file. Invariant: no price comes
through a binary float: a column of floats in a column that is used is a bad row, not rounded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pricewire.errors import InvalidParameter
from pricewire.imports.files import FileRow

BATCH = 1_000
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@contextmanager
def opened_parquet(file: Path) -> Iterator[ParquetRows]:
    """Give a Parquet file's rows.

    Raises:
        InvalidParameter: the extra is missing, or it is no Parquet file.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise InvalidParameter(
            f"{file.name} is Parquet, which needs an extra: pip install 'pricewire[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(file) as content:
            yield ParquetRows(pa, content)
    except pa.ArrowException as error:
        name = type(error).__name__
        raise InvalidParameter(f"{file.name} cannot be read as Parquet: {name}") from None


class ParquetRows:
    """Fulfils `PriceFile`; `total` and `read` are rows."""

    def __init__(self, pa: Any, content: Any) -> None:
        self._pa = pa
        self._content = content
        self.header: Sequence[str] = list(content.schema_arrow.names)
        self.header_raw = _line(self.header)
        self.total: int = content.metadata.num_rows
        self._row = 0

    @property
    def read(self) -> int:
        return self._row

    def rows(self) -> Iterator[FileRow]:
        for batch in self._content.iter_batches(batch_size=BATCH):
            columns = [self._texts(column) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                self._row += 1
                yield FileRow(self._row, cells, _line(cells))

    def _texts(self, column: Any) -> list[str]:
        pa, kind = self._pa, column.type
        if pa.types.is_floating(kind):
            # Not a number in the eyes of whoever needs digits; harmless where it is not used.
            return [f"a float ({kind}), not exact"] * len(column)
        if pa.types.is_timestamp(kind):
            counts = column.cast(pa.int64()).to_pylist()
            suffix = "Z" if kind.tz is not None else ""
            return [_instant(count, kind.unit, suffix) for count in counts]
        return [_text(value) for value in column.to_pylist()]


def _instant(count: int | None, unit: str, suffix: str) -> str:
    if count is None:
        return ""
    per_second = _PER_SECOND[unit]
    seconds, rest = divmod(count, per_second)
    try:
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001
    except OverflowError:
        return str(count)
    digits = len(str(per_second)) - 1
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{moment.isoformat(sep=' ')}{fraction}{suffix}"


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    return "" if value is None else str(value)


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")
