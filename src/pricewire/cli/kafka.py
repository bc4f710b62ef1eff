"""`pricewire kafka start|stop|status|logs`: the local Kafka by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from pricewire.bootstrap import LocalKafka, local_kafka
from pricewire.errors import StartupError
from pricewire.settings import load_settings

NOT_RUNNING = 3

app = typer.Typer(help="The local Apache Kafka.", no_args_is_help=True)


def _local() -> LocalKafka:
    return local_kafka(load_settings(), typer.echo)


@app.command("start")
def start() -> None:
    """Start it, unless it runs; fetches Apache Kafka the first time."""
    local = _local()
    if (missing := local.missing()) is not None:
        raise StartupError(missing)
    local.start(started_by="hand")
    status()


@app.command("stop")
def stop() -> None:
    """Stop it cleanly; its data stays."""
    typer.echo("stopped" if _local().stop() else "it was not running")


@app.command("status")
def status() -> None:
    """Say whether it runs and where everything is; exit code 3 if it does not."""
    found = _local().status()
    word = "answers" if found.answering else "runs" if found.running else "not running"
    typer.echo(f"status     {word}")
    if found.running:
        typer.echo(f"servers    {found.bootstrap_servers}")
        typer.echo(f"process    {found.pid}, started by {found.started_by}")
    typer.echo(f"version    {found.version or 'not fetched yet'}")
    typer.echo(f"cluster    {found.cluster_id or 'not formatted yet'}")
    typer.echo(f"data       {found.data}")
    typer.echo(f"log        {found.log}")
    if not found.running:
        raise typer.Exit(NOT_RUNNING)


@app.command("logs")
def logs(lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 100) -> None:
    """Print the end of the broker's log."""
    typer.echo(_local().logs(lines))
