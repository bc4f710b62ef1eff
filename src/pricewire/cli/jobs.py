"""`pricewire jobs …`: polling jobs of the running service.

They ask it over HTTP (`remote`). Invariant: what the service refuses is one line and exit code 1, a
wrong call is exit code 2, and neither leaves anything behind.
"""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from pricewire.cli.remote import ask
from pricewire.cli.tables import print_table

app = typer.Typer(help="Polls prices at an interval, within what the plan allows.")

Symbols = Annotated[list[str], typer.Argument(help="AAPL MSFT …")]
Interval = Annotated[int, typer.Option("--interval", "-i", help="Seconds between polls.")]
Provider = Annotated[
    str | None, typer.Option(help="Only this one; default: DEFAULT_PROVIDER, then the fallbacks.")
]
JobId = Annotated[str, typer.Argument(help="As `list` shows it.")]
MarketHours = Annotated[
    bool | None,
    typer.Option("--market-hours/--all-hours", help="Leave out symbols whose market is closed."),
]
Jitter = Annotated[int | None, typer.Option(help="Begin up to so many seconds later.")]
Stretch = Annotated[
    bool | None,
    typer.Option("--stretch/--no-stretch", help="A longer interval will do if the plan wants it."),
]


_COLUMNS = (
    *("job", "status", "every", "provider", "symbols", "last poll", "next run"),
    *("made", "failed", "missed", "failures", "last error"),
)


@app.command("list")
def list_jobs() -> None:
    """List all jobs, the oldest first."""
    jobs = ask("GET", "/v1/jobs")["jobs"]
    print_table(_COLUMNS, [_row(job) for job in jobs])


@app.command("show")
def show(job: JobId) -> None:
    """Show one job."""
    _print(ask("GET", _path(job)))


@app.command("add")
def add(
    symbols: Symbols,
    interval: Interval,
    provider: Provider = None,
    market_hours: MarketHours = None,
    jitter: Jitter = None,
    stretch: Stretch = None,
) -> None:
    """Make a job; refused, with the interval that would fit, where the plan cannot hold it."""
    given = {
        "symbols": symbols,
        "interval": interval,
        "provider": provider,
        "market_hours": market_hours,
        "jitter": jitter,
        "stretch": stretch,
    }
    _print(ask("POST", "/v1/prices/poll", _named(given)))


@app.command("plan")
def plan(symbols: Symbols, interval: Interval, provider: Provider = None) -> None:
    """Say whether the plan can hold a job; makes none."""
    given = {"symbols": ",".join(symbols), "interval": interval, "provider": provider}
    query = urlencode(_named(given), errors="surrogateescape")
    typer.echo(ask("GET", f"/v1/jobs/plan?{query}")["detail"])


@app.command("change")
def change(
    job: JobId,
    symbols: Annotated[str | None, typer.Option(help="AAPL,MSFT")] = None,
    interval: Annotated[int | None, typer.Option("--interval", "-i", help="Seconds.")] = None,
    provider: Provider = None,
    market_hours: MarketHours = None,
    jitter: Jitter = None,
    stretch: Stretch = None,
) -> None:
    """Change what is named, and begin the job anew."""
    given = {
        "symbols": None if symbols is None else symbols.split(","),
        "interval": interval,
        "provider": provider,
        "market_hours": market_hours,
        "jitter": jitter,
        "stretch": stretch,
    }
    _print(ask("PATCH", _path(job), _named(given)))


@app.command("pause")
def pause(job: JobId) -> None:
    """Poll it no more until it is resumed."""
    _print(ask("POST", f"{_path(job)}/pause"))


@app.command("resume")
def resume(job: JobId) -> None:
    """Begin a paused job anew."""
    _print(ask("POST", f"{_path(job)}/resume"))


@app.command("delete")
def delete(job: JobId) -> None:
    """Forget a job; its prices stay."""
    ask("DELETE", _path(job))
    typer.echo(f"deleted {job}")


def _path(job: str) -> str:
    return f"/v1/jobs/{quote(job, safe='', errors='surrogateescape')}"


def _named(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _print(answer: Any) -> None:
    typer.echo(json.dumps(answer, indent=2))


def _row(job: dict[str, Any]) -> list[str]:
    config = job["config"]
    return [
        job["job_id"],
        job["status"],
        f"{config['interval']} s",
        config["provider"] or "",
        ",".join(config["symbols"]),
        _time(job["last_poll"]),
        _time(job["next_run"]),
        *(str(job[name]) for name in ("made", "failed", "missed", "failures")),
        job["last_error"] or "",
    ]


def _time(text: str | None) -> str:
    return "" if text is None else text[:19] + "Z"
