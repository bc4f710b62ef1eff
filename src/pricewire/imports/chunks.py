"""Cuts a file into chunks that the service takes in one transaction each; tells bad rows.

Invariant: rows come in the file's order, and a chunk's raw bytes are the header's and its rows'
own, so that the place of a price in its raw response is its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from pricewire.domain.past import Occurrences, PastPrice, market_time_text
from pricewire.domain.quote import price_text
from pricewire.imports.files import FileRow, PriceFile
from pricewire.imports.rows import BadRow, RowReader

MAX_ROWS = 1_000
MAX_RAW_BYTES = 300_000
"""With the rows themselves, well below what the service takes at once."""

TellBad = Callable[[FileRow, str], None]


@dataclass(slots=True)
class Chunk:
    """Prices with the bytes that they come from, and the file's lines from which to which."""

    header_raw: bytes
    first_line: int = 0
    last_line: int = 0
    prices: list[PastPrice] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    raw_bytes: int = 0

    def add(self, row: FileRow, price: PastPrice) -> None:
        self.first_line = self.first_line or row.line
        self.last_line = row.line
        self.prices.append(price)
        self.raw.append(row.raw)
        self.raw_bytes += len(row.raw)

    @property
    def full(self) -> bool:
        return len(self.prices) >= MAX_ROWS or self.raw_bytes >= MAX_RAW_BYTES

    def body(self, origin: str, source: str) -> bytes:
        """Return it as the body of `POST /v1/imports`."""
        return msgspec.json.encode(
            {
                "source": source,
                "origin": f"{origin}?lines={self.first_line}-{self.last_line}",
                "raw": (self.header_raw + b"".join(self.raw)).decode(),
                "rows": [_row(price) for price in self.prices],
            }
        )


def chunks(file: PriceFile, reader: RowReader, tell_bad: TellBad) -> Iterator[Chunk]:
    """Give the file's good rows in chunks; tell the bad ones."""
    count = Occurrences().count
    chunk = Chunk(file.header_raw)
    for row in file.rows():
        if row.problem is not None:
            tell_bad(row, row.problem)
            continue
        try:
            quote = reader.quote(row.cells)
        except BadRow as error:
            tell_bad(row, str(error))
            continue
        chunk.add(row, count(quote))
        if chunk.full:
            yield chunk
            chunk = Chunk(file.header_raw)
    if chunk.prices:
        yield chunk


def _row(past: PastPrice) -> dict[str, object]:
    quote = past.quote
    row: dict[str, object] = {
        "symbol": quote.symbol,
        "price": msgspec.Raw(price_text(quote.price).encode()),
        "timestamp": market_time_text(quote.timestamp, quote.nanosecond, quote.precision),
        "kind": quote.kind.value,
    }
    if quote.size is not None:
        row["size"] = msgspec.Raw(price_text(quote.size).encode())
    if quote.trade_id is not None:
        row["trade_id"] = quote.trade_id
    if quote.currency is not None:
        row["currency"] = quote.currency
    if past.occurrence:
        row["occurrence"] = past.occurrence
    return row
