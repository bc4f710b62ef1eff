"""`pricewire verify …`: what is published, compared with what is there; only reads.

Invariant: exit code 0 if nothing lacks or differs, 1 if something does or it could not be looked at
(then with a line on stderr), 2 for a wrong call.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from pricewire.bootstrap import start_logs
from pricewire.bootstrap_tools import Comparison, Finding, verify_outbox
from pricewire.settings import load_settings

app = typer.Typer(help="Compare what was published with what is there.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `outbox` a subcommand although it is the only one."""


@app.command("outbox")
def outbox(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="How many events to name at most.")
    ] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Name all events: one JSON object a line, counts last.")
    ] = False,
) -> None:
    """Name the published events that the topics lack; the service may run meanwhile."""
    settings = load_settings()
    start_logs(settings)
    named = _Named(limit)
    found = asyncio.run(verify_outbox(settings, _tell_json if as_json else named.tell))
    if as_json:
        for topic, comparison in found.items():
            typer.echo(_line({"topic": topic} | _counts(comparison) | {"summary": True}))
    else:
        named.tell_rest()
        for topic, comparison in found.items():
            # Whoever never imported anything need not hear of that topic.
            if comparison.published or comparison.waiting or topic == next(iter(found)):
                _print(comparison, topic)
    if not all(comparison.whole for comparison in found.values()):
        raise typer.Exit(1)


class _Named:
    """Prints the first findings and counts the others."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._unnamed = 0

    def tell(self, _topic: str, finding: Finding) -> None:
        if self._left == 0:
            self._unnamed += 1
            return
        self._left -= 1
        place = finding.place
        offset = "unknown" if place.offset is None else place.offset
        typer.echo(f"{finding.kind:<10} {place.event_id}, partition {place.partition}, "
                   f"offset {offset}")  # fmt: skip

    def tell_rest(self) -> None:
        if self._unnamed:
            typer.echo(f"           … and {self._unnamed} more; --json names all")


def _tell_json(topic: str, finding: Finding) -> None:
    place = finding.place
    typer.echo(
        _line(
            {
                "kind": finding.kind,
                "topic": topic,
                "id": str(place.event_id),
                "partition": place.partition,
                "offset": place.offset,
            }
        )
    )


def _counts(found: Comparison) -> dict[str, object]:
    return {
        "source": str(found.source),
        "partitions": found.partitions,
        "published": found.published,
        "found": found.found,
        "differing": found.differing,
        "expired": found.expired,
        "lacking": found.lacking,
        "published_elsewhere": found.elsewhere,
        "waiting": found.waiting,
        "arrived": found.arrived,
        "repeats": found.repeats,
        "unknown": found.unknown,
    }


def _line(values: dict[str, object]) -> str:
    return msgspec.json.encode(values).decode()


def _print(found: Comparison, topic: str) -> None:
    there = f"{found.partitions} partitions" if found.partitions else "there is no such topic"
    typer.echo(f"topic      {topic}, {there}")
    typer.echo(f"source     {found.source}")
    typer.echo(f"published  {found.published}: {found.found} on the topic, {found.expired} "
               f"expired, {found.differing} differing, {found.lacking} lacking")  # fmt: skip
    if found.elsewhere:
        typer.echo(f"           and {found.elsewhere} to topics of other names, not looked for")
    typer.echo(f"waiting    {found.waiting}; {found.arrived} not marked yet are on the topic")
    typer.echo(f"besides    {found.repeats} repeats, {found.unknown} that the database does "
               "not have")  # fmt: skip
    verdict = "nothing lacks" if found.whole else "the topic is not whole"
    typer.echo(f"verdict    {verdict}")
