"""`pricewire backfill SYMBOL --from D --to D`: past prices from a provider, step by step.

Invariant: how far it came is noted after each step, and the next run of the same call goes on
there: what is recorded costs no budget again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pricewire.cli.remote import Link
from pricewire.domain.past import read_market_time
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidRequest, PricewireError
from pricewire.settings import load_settings

PATH = "/v1/backfills"
INTERRUPTED = 130
AGAIN = "run it again: it goes on where it was"


def backfill(
    symbol: Annotated[str, typer.Argument(help="AAPL")],
    begin: Annotated[str, typer.Option("--from", help="Market time, inclusive: 2024-03-20.")],
    end: Annotated[str, typer.Option("--to", help="Market time, exclusive.")],
    provider: Annotated[str | None, typer.Option(help="Whom to ask.")] = None,
    interval: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h or 1d")] = "1d",
) -> None:
    """Fetch past prices, the closes of bars, from a provider's history."""
    try:
        parse_symbol(symbol)
        first, last = _time("--from", begin), _time("--to", end)
    except InvalidRequest as error:
        typer.echo(f"pricewire: {error.detail}", err=True)
        raise typer.Exit(2) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if last <= first:
        raise typer.BadParameter("--from must be before --to")
    asked = {"symbol": symbol, "provider": provider, "interval": interval, "from": begin, "to": end}
    try:
        _run(asked, first, last)
    except KeyboardInterrupt:
        typer.echo(f"stopped; {AGAIN}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except PricewireError as error:
        typer.echo(f"pricewire: {error.detail}; {AGAIN}", err=True)
        raise typer.Exit(1) from None


def _run(asked: dict[str, Any], first: datetime, last: datetime) -> None:
    place = _Place(asked)
    if (found := place.read()) is not None:
        typer.echo(f"going on at {found}")
        asked = asked | {"from": found}
    link, totals, note = Link(), {"bars": 0, "recorded": 0, "repeated": 0}, None
    console = Console(stderr=True)
    with Progress(
        TextColumn(asked["symbol"]),
        BarColumn(),
        TextColumn("{task.fields[at]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=(last - first).total_seconds(), at=asked["from"])
        while True:
            step = link.post(PATH, json.dumps(asked).encode())
            totals = {name: totals[name] + step[name] for name in totals}
            note = step["note"] or note
            if step["next"] is None:
                break
            asked = asked | {"from": step["next"]}
            place.write(step["next"])
            at = _time("", step["next"])
            bar.update(task, completed=(at - first).total_seconds(), at=step["next"][:10])
    place.forget()
    typer.echo(f"bars       {totals['bars']} of {step['provider']}: {totals['recorded']} recorded, "
               f"{totals['repeated']} there already")  # fmt: skip
    if note is not None and not totals["bars"] and found is None:
        raise PricewireError(f"there were none: {note}")


def _time(name: str, text: str) -> datetime:
    time = read_market_time(text)
    if time is None or time.moment.tzinfo is None:
        raise ValueError(f"{name} {text[:40]!r} is no time: 2024-03-20, or 2024-03-20T10:30:00Z")
    return time.moment


class _Place:
    """How far a call came, in a small file of its own in PRICEWIRE_HOME."""

    def __init__(self, asked: dict[str, Any]) -> None:
        settings = load_settings()
        call = json.dumps([settings.api_host, settings.api_port, asked], sort_keys=True)
        name = hashlib.sha256(call.encode()).hexdigest()[:24]
        self._file: Path = settings.home / "backfills" / f"{name}.json"

    def read(self) -> str | None:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))["next"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) and read_market_time(found) else None

    def write(self, following: str) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(".new")
            draft.write_text(json.dumps({"next": following}), encoding="utf-8")
            draft.replace(self._file)
        except OSError as error:
            raise PricewireError(f"cannot write {self._file}: {error.strerror}") from None

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)
