"""Prints tables whole; `jobs` and `processors` list with it.

Invariant: no cell is cut to fit a terminal, and nothing is where there is none: a long line wraps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

MAX_WIDTH = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under the names of their columns."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    wide = Console(width=MAX_WIDTH)
    Console(width=wide.measure(table).maximum, soft_wrap=True).print(table)
