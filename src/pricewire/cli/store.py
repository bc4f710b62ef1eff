"""`pricewire store …`: what an operator does to a store by hand."""

from __future__ import annotations

import asyncio

import typer

from pricewire.settings import load_settings

app = typer.Typer(help="The store of prices and events.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `fork` a subcommand although it is the only one."""


@app.command("fork")
def fork() -> None:
    """Start a new generation; run it on a copy of a database before the copy is used."""
    from pricewire.bootstrap import fork_store  # noqa: PLC0415

    source = asyncio.run(fork_store(load_settings()))
    typer.echo(f"events are published as {source} from now on")
