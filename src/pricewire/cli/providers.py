"""`pricewire providers`: which there are, what each needs, which are configured.

Invariant: a key is told to be set or not, and never printed.
"""

from __future__ import annotations

import typer

from pricewire.bootstrap_providers import Listed, listed
from pricewire.settings import load_settings

_HEADINGS = ("provider", "state", "needs", "batch", "history", "asked at")


def providers() -> None:
    """List the providers: what they need, and which can be asked as things are set."""
    rows = [_HEADINGS, *(_row(one) for one in listed(load_settings()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _row(one: Listed) -> tuple[str, ...]:
    state = "default" if one.default else "ready" if one.configured else "not configured"
    return (
        one.name,
        state,
        ", ".join(one.needs) or "nothing",
        str(one.batch),
        "yes" if one.history else "no",
        one.base_url or "-",
    )
