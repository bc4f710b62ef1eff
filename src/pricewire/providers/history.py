"""Real market history played as if it were live; needs no key and no network.

Built by the composition root when no other provider is named. Each symbol starts at its first row
when the provider is made, moves on by one row an interval and stays on its last one. Invariant: an
answer is a row of the file with its own market time, never dressed up as of today.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from uuid_utils.compat import uuid7

from pricewire.domain.quote import Fetched, RawResponse
from pricewire.errors import UnknownSymbol
from pricewire.providers.history_files import HEADER, Rows, read_file, read_shipped

_HEADERS: Final = (("content-type", "text/csv"),)
_SHOWN_SYMBOLS: Final = 10


class History:
    """The provider `history`.

    Args:
        file: the user's own CSV (also `.csv.gz`) or Parquet file with the columns symbol,
            timestamp and price; None: the shipped daily closes of AAPL, FB, GOOG, IBM and MSFT.
        interval_seconds: how long each row is the latest one.
        clock: now, aware UTC.

    Raises:
        StartupError: the file cannot be played; names the file, the line and the reason.
    """

    def __init__(
        self, *, file: Path | None, interval_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._rows: Rows = read_shipped() if file is None else read_file(file)
        # Where a file lies is nobody's business outside this machine.
        self._where = "" if file is None else f"{file.name}/"
        self._interval = timedelta(seconds=interval_seconds)
        self._clock = clock
        self._started = clock()

    @property
    def name(self) -> str:
        return "history"

    async def fetch(self, symbol: str) -> Fetched:
        """Return the row of `symbol` that is the latest one now.

        Raises:
            UnknownSymbol: the history has no such symbol; says which it has.
        """
        rows = self._rows.get(symbol)
        if rows is None:
            raise UnknownSymbol(f"the history has no {symbol}; it has {self._known()}")
        now = self._clock()
        index = min(max(0, (now - self._started) // self._interval), len(rows) - 1)
        row = rows[index]
        raw = RawResponse(
            id=uuid7(),
            provider="history",
            url=f"history:{self._where}{symbol}?row={index + 1}",
            status=200,
            headers=_HEADERS,
            body=f"{HEADER}\n{row.text}\n".encode(),
            fetched_at=now,
        )
        return Fetched(raw, (row.quote,))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _known(self) -> str:
        some = sorted(self._rows)[:_SHOWN_SYMBOLS]
        rest = len(self._rows) - len(some)
        return ", ".join(some) + (f" and {rest} more" if rest else "")
