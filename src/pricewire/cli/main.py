"""The command line's entry: gathers the groups, turns errors into one line and an exit code.

Invariant: an error that is ours is one line on stderr and exit code 1 (2 for a wrong call); heavy
imports happen in the command that needs them.
"""

from __future__ import annotations

import sys

import typer

from pricewire import __version__
from pricewire.cli import (
    backfill,
    fetch,
    imports,
    jobs,
    kafka,
    parse,
    processors,
    providers,
    service,
    settings,
    store,
    topics,
    verify,
)
from pricewire.errors import PricewireError

app = typer.Typer(
    help="Market data service: fetch a price, store its raw answer, publish it to Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(service.up)
app.command("api")(service.api)
app.command("relay")(service.relay)
app.command("processor")(service.processor)
app.command("lag")(processors.lag)
app.command("settings")(settings.show)
app.command("providers")(providers.providers)
app.command("parse")(parse.parse)
app.command("fetch")(fetch.fetch)
app.command("backfill")(backfill.backfill)
app.command("stream")(jobs.stream)
app.command("import")(imports.import_file)
app.add_typer(processors.app, name="dlq")
app.add_typer(jobs.app, name="jobs")
app.add_typer(kafka.app, name="kafka")
app.add_typer(store.app, name="store")
app.add_typer(topics.app, name="topics")
app.add_typer(verify.app, name="verify")


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except PricewireError as error:
        typer.echo(f"pricewire: {error.detail}", err=True)
        sys.exit(1)
