"""`pricewire settings`: every setting, its value and where it came from; secrets masked."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from pricewire.settings import describe, load_settings


def show() -> None:
    """Print all settings with their origin; secrets are masked."""
    table = Table("variable", "value", "origin", box=None, header_style="bold")
    for name, value, origin in describe(load_settings()):
        table.add_row(name, value, origin)
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    for row in describe(load_settings()):
        typer.echo("\t".join(row))
