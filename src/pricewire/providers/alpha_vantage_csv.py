"""Alpha Vantage's answers to `datatype=csv`, as the JSON that says the same; its parser calls this.

Invariant: what is no such table is None; a series' table names neither symbol nor time zone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Final

SERIES: Final = "Time Series (CSV)"
_QUOTE: Final = {"symbol", "price", "latestDay"}
_BAR: Final = {"open", "high", "low", "close"}


def from_csv(words: str) -> Mapping[str, object] | None:
    """Return a table as the members that JSON would have."""
    try:
        [names, *rows] = csv.reader(words.splitlines(), strict=True)
    except (ValueError, csv.Error):
        return None
    if not rows or any(len(row) != len(names) for row in rows):
        return None
    first = dict(zip(names, rows[0], strict=True))
    if set(names) >= _QUOTE:
        return {"Global Quote": first | {"latest trading day": first["latestDay"]}}
    if names[0] in ("time", "timestamp") and set(names) >= _BAR:
        return {SERIES: {row[0]: dict(zip(names, row, strict=True)) for row in rows}}
    return None
