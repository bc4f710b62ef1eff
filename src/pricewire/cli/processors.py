"""`pricewire lag` and `pricewire dlq …`: how far processors are, and what they set aside.

They ask the running service (`remote`). Invariant: redrive and drop show what they would do, and do
it only with --yes.
"""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pricewire.cli.remote import ask
from pricewire.cli.tables import print_table

app = typer.Typer(help="What processors set aside.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="partition/offset, such as 3/12")]
ErrorClass = Annotated[str | None, typer.Option(help="All open ones of this class.")]
All = Annotated[bool, typer.Option("--all", help="All open ones.")]
Origin = Annotated[
    str | None, typer.Option(help="The topic that they came from; price-events by default.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only show.")]


def lag() -> None:
    """Say how far each processor is behind, in events and in seconds."""
    found = ask("GET", "/v1/lag")
    rows = [
        [
            one["processor"],
            str(one["partition"]),
            _offset(one["next_offset"]),
            str(one["end_offset"]),
            str(one["behind"]),
            f"{one['seconds']:.1f}",
            *(str(one["counters"][name]) for name in ("taken", "repeats", "missing", "lost")),
            str(one["counters"]["dead_letters"]),
        ]
        for one in found["lag"]
    ]
    columns = ("processor", "partition", "next", "end", "behind", "seconds")
    print_table((*columns, "taken", "repeats", "missing", "lost", "dead"), rows)


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("-n", help="At most so many, 1 to 1000.")] = 50,
    state: Annotated[str | None, typer.Option(help="open, redriving, redriven or dropped")] = None,
    error_class: ErrorClass = None,
    origin: Origin = None,
) -> None:
    """List dead letters, newest first."""
    given = {"limit": limit, "state": state, "error_class": error_class, "origin": origin}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    _print_letters(ask("GET", f"/v1/dead-letters?{query}")["dead_letters"])


@app.command("show")
def show(
    letter: Annotated[str, typer.Argument(help="partition/offset, such as 3/12")],
    origin: Origin = None,
) -> None:
    """Show one, with its bytes and headers as they came."""
    query = f"?{urlencode({'origin': origin})}" if origin else ""
    typer.echo(json.dumps(ask("GET", f"/v1/dead-letters/{letter}{query}"), indent=2))


@app.command("redrive")
def redrive(
    ids: Ids = None,
    error_class: ErrorClass = None,
    everything: All = False,
    origin: Origin = None,
    yes: Yes = False,
) -> None:
    """Put dead letters back on the topic that they came from, each once."""
    choice = {"ids": ids or None, "error_class": error_class, "all": everything, "origin": origin}
    _settle("redrive", choice, yes)


@app.command("drop")
def drop(
    ids: Ids = None,
    error_class: ErrorClass = None,
    everything: All = False,
    origin: Origin = None,
    yes: Yes = False,
) -> None:
    """Give dead letters up; they stay on their topic."""
    choice = {"ids": ids or None, "error_class": error_class, "all": everything, "origin": origin}
    _settle("drop", choice, yes)


def _settle(verb: str, choice: dict[str, Any], yes: bool) -> None:
    body = choice | {"dry_run": not yes}
    _print_letters(ask("POST", f"/v1/dead-letters/{verb}", body)["dead_letters"])
    if not yes:
        typer.echo(f"nothing was done; with --yes the open ones of these are chosen to {verb}")


def _print_letters(letters: list[dict[str, Any]]) -> None:
    rows = [
        [
            letter["id"],
            letter["state"],
            letter["error_class"],
            letter["key"] or "",
            f"{letter['origin_topic']}/{letter['origin_partition']}/{letter['origin_offset']}",
            _offset(letter.get("new_offset")),
            letter["error"],
        ]
        for letter in letters
    ]
    print_table(("id", "state", "class", "key", "origin", "new offset", "error"), rows)


def _offset(value: int | None) -> str:
    return "" if value is None else str(value)
