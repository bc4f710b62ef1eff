"""`pricewire providers`: which there are, what each needs, and how those in use are.

What is configured is read from the settings; how a provider is, is asked of the running service
(`remote`), where one runs. Invariant: a key is told to be set or not, and never printed.
"""

from __future__ import annotations

from typing import Any

import typer

from pricewire.bootstrap_providers import Listed, listed
from pricewire.cli.remote import ask
from pricewire.errors import PricewireError
from pricewire.settings import load_settings

_HEADINGS = ("provider", "state", "health", "left", "needs", "batch", "history", "feed", "asked at")
_SECONDS = 5

Guard = dict[str, Any]


def providers() -> None:
    """List the providers: what they need, which can be asked, and how they are."""
    guards = _guards()
    rows = [_HEADINGS, *(_row(one, guards.get(one.name)) for one in listed(load_settings()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _guards() -> dict[str, Guard]:
    """Return how the running service finds its providers; says so where none answers."""
    try:
        found = ask("GET", "/v1/providers", seconds=_SECONDS)["providers"]
    except PricewireError as error:
        typer.echo(f"health and left are not known: {error.detail}", err=True)
        return {}
    return {one["name"]: one["guard"] for one in found if one["guard"]}


def _row(one: Listed, guard: Guard | None) -> tuple[str, ...]:
    state = "default" if one.default else "ready" if one.configured else "not configured"
    return (
        one.name,
        state,
        guard["health"] if guard else "-",
        _left(guard) if guard else "-",
        ", ".join(one.needs) or "nothing",
        str(one.batch),
        "yes" if one.history else "no",
        "yes" if one.feed else "no",
        one.base_url or "-",
    )


def _left(guard: Guard) -> str:
    each = (f"{one['left']} of {one['calls']} a {one['period']}" for one in guard["budget"])
    return ", ".join(each) or "no budget"
