"""A file of prices as header and rows: CSV here, Parquet in `parquet`; memory stays flat.

Invariant: a row comes with the very bytes that it has in the file, and what cannot be taken apart
is one bad row, never the end of the others.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pricewire.errors import InvalidParameter

MAX_LINE_BYTES = 65_536
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row as it stands in the file.

    Args:
        line: its first line, counted from 1; in Parquet the row.
        raw: its bytes with the line's end; empty where they are too many to be kept.
        problem: why it could not be taken apart.
    """

    line: int
    cells: Sequence[str]
    raw: bytes
    problem: str | None = None


class PriceFile(Protocol):
    """An opened file. `read` bytes of `total` have been read."""

    header: Sequence[str]
    header_raw: bytes
    total: int

    @property
    def read(self) -> int: ...

    def rows(self) -> Iterator[FileRow]: ...


@contextmanager
def opened(file: Path, delimiter: str | None) -> Iterator[PriceFile]:
    """Give a file's header and rows.

    Raises:
        InvalidParameter: it cannot be read as what it should be.
    """
    try:
        if file.suffix.lower() == ".parquet":
            from pricewire.imports.parquet import opened_parquet  # noqa: PLC0415

            with opened_parquet(file) as parquet:
                yield parquet
            return
        with file.open("rb") as plain:
            total = file.stat().st_size
            if file.suffix.lower() == ".gz":
                with gzip.open(plain, "rb") as unpacked:
                    yield CsvFile(unpacked, plain, total, delimiter)
            else:
                yield CsvFile(plain, plain, total, delimiter)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InvalidParameter(f"{file.name} is no complete gzip file") from None
    except OSError as error:
        raise InvalidParameter(f"{file} cannot be read: {error.strerror or error}") from None


class CsvFile:
    """A CSV file, of whatever line ends, with or without a byte order mark.

    Args:
        content: what is read; `file`: what lies on the disk, for the progress.
    """

    def __init__(
        self,
        content: IO[bytes] | gzip.GzipFile,
        file: IO[bytes],
        total: int,
        delimiter: str | None,
    ) -> None:
        self._content = content
        self._file = file
        self.total = total
        self._line = 0
        self._taken: list[bytes] = []
        first = content.readline(MAX_LINE_BYTES + 1)
        if not first.strip(b"\r\n \t" + _BOM):
            raise InvalidParameter("the file is empty: its first line names the columns")
        text = self._header_text(first)
        chosen = delimiter or max(_DELIMITERS, key=text.count)
        # Without recursion into the iterator: the header stands on one line.
        self.header: Sequence[str] = next(csv.reader([text], delimiter=chosen))
        self.header_raw = first.removeprefix(_BOM)
        self._line = 1
        self._reader = csv.reader(self._lines(), delimiter=chosen)

    @staticmethod
    def _header_text(first: bytes) -> str:
        if len(first) > MAX_LINE_BYTES or b"\0" in first:
            raise InvalidParameter("line 1 is no header: this is no CSV file")
        try:
            return first.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidParameter("line 1 is not UTF-8: this is no CSV file") from None

    @property
    def read(self) -> int:
        return self._file.tell()

    def _lines(self) -> Iterator[str]:
        while line := self._content.readline(MAX_LINE_BYTES):
            self._taken.append(line)
            if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                self._taken.append(self._skip_line())
            self._line += line.endswith(b"\n")
            # What is no UTF-8 shows itself by its surrogates.
            yield line.decode("utf-8", "surrogateescape")

    def _skip_line(self) -> bytes:
        """Pass by the rest of a line that is too long; return its end, by which it shows itself."""
        while rest := self._content.readline(MAX_LINE_BYTES):
            if rest.endswith(b"\n"):
                self._line += 1
                break
        return b"\n"

    def rows(self) -> Iterator[FileRow]:
        while True:
            begins = self._line + 1
            problem = None
            cells: list[str] = []
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
            raw = b"".join(self._taken)
            self._taken.clear()
            if not cells and problem is None:
                continue
            yield FileRow(begins, cells, raw, problem or _problem(raw))


def _problem(raw: bytes) -> str | None:
    if len(raw) > MAX_LINE_BYTES:
        return f"is longer than {MAX_LINE_BYTES} bytes"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return None
