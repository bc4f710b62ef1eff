"""`pricewire topics …`: what an operator does to the topics by hand.

Invariant: without --yes nothing is changed, only shown.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pricewire.settings import load_settings

app = typer.Typer(help="The topics.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `repartition` a subcommand although it is the only one."""


@app.command("repartition")
def repartition(
    partitions: Annotated[int, typer.Option(help="How many there shall be.", min=1)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show.")] = False,
    seconds: Annotated[float, typer.Option(help="How long to drain, at most.", min=1)] = 600,
) -> None:
    """Give all topics more partitions; stop `up`, relays and processors before."""
    from pricewire.bootstrap import start_logs  # noqa: PLC0415
    from pricewire.bootstrap_repartition import repartition as run  # noqa: PLC0415

    settings = load_settings()
    start_logs(settings)
    asyncio.run(run(settings, partitions, dry_run=not yes, seconds=seconds, say=typer.echo))
    if not yes:
        typer.echo("nothing was done; with --yes it is")
