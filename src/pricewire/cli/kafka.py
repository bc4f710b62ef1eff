"""`pricewire kafka start|stop|status|logs`: the local Kafka by hand; `check`: the one in use."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pricewire.bootstrap import start_logs
from pricewire.bootstrap_kafka import LocalKafka, local_kafka, named_kafka
from pricewire.bootstrap_tools import Findings, check_producer
from pricewire.errors import StartupError
from pricewire.settings import load_settings

NOT_RUNNING = 3

app = typer.Typer(
    help="The local Apache Kafka, and a check of the Kafka in use.", no_args_is_help=True
)


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


@app.command("check")
def check() -> None:
    """Publish test events to the Kafka in use, read them back, compare; exit code 1 if it fails."""
    settings = load_settings()
    start_logs(settings)
    found = asyncio.run(check_producer(settings))
    typer.echo(
        f"kafka      {named_kafka(settings).servers}, topic {found.topic}, "
        f"{found.partitions} partitions"
    )
    _report(found)
    if not found.passed:
        raise typer.Exit(1)


def _report(found: Findings) -> None:
    for trip in found.round_trips:
        outcome = "; ".join(trip.differences) or "read back unchanged"
        offset = "unknown" if trip.offset is None else trip.offset
        typer.echo(
            f"published  {trip.symbol:<9} partition {trip.partition}, offset {offset}: {outcome}"
        )
    if found.mismatch:
        typer.echo(f"WARNING    the service itself would not publish here: {found.mismatch}")
    typer.echo(
        f"verdict    {'passed' if found.passed else 'FAILED'}: the broker confirmed "
        f"{len(found.round_trips)} test events, {found.unchanged} were read back unchanged"
    )
