"""`pricewire jobs …` and `pricewire stream`: jobs of the running service, polling and streaming.

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

app = typer.Typer(help="Jobs: prices polled at an interval, or streamed (`pricewire stream`).")

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


Conflate = Annotated[
    int | None, typer.Option(help="Milliseconds: the last price at most so often, not every tick.")
]

_POLLS = (
    *("job", "status", "every", "provider", "symbols", "last poll", "next run"),
    *("made", "failed", "missed", "failures", "last error"),
)
_STREAMS = (
    *("job", "status", "provider", "symbols", "conflate", "feed", "ticks a second", "lag"),
    *("ticks", "gaps", "missing", "reconnects", "last error"),
)


@app.command("list")
def list_jobs() -> None:
    """List all jobs, the oldest first; polling ones, then streaming ones."""
    jobs = ask("GET", "/v1/jobs")["jobs"]
    streams = [_stream_row(job) for job in jobs if job["kind"] == "stream"]
    polls = [_row(job) for job in jobs if job["kind"] == "poll"]
    if polls or not streams:
        print_table(_POLLS, polls)
    if streams:
        print_table(_STREAMS, streams)


def stream(
    symbols: Symbols,
    provider: Annotated[str, typer.Option(help="Whose feed: coinbase, binance, kraken …")],
    conflate: Conflate = None,
) -> None:
    """Make a job that streams symbols from a vendor's live feed; `jobs list` shows it."""
    given = {"kind": "stream", "symbols": symbols, "provider": provider, "conflate": conflate}
    _print(ask("POST", "/v1/jobs", _named(given)))


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
def change(  # noqa: PLR0913, PLR0917
    job: JobId,
    symbols: Annotated[str | None, typer.Option(help="AAPL,MSFT")] = None,
    interval: Annotated[int | None, typer.Option("--interval", "-i", help="Seconds.")] = None,
    provider: Provider = None,
    market_hours: MarketHours = None,
    jitter: Jitter = None,
    stretch: Stretch = None,
    conflate: Annotated[
        int | None, typer.Option(help="Of a streaming job; 0: every tick again.")
    ] = None,
) -> None:
    """Change what is named, and begin the job anew; a streaming job has symbols and conflate."""
    given = {
        "symbols": None if symbols is None else symbols.split(","),
        "interval": interval,
        "provider": provider,
        "market_hours": market_hours,
        "jitter": jitter,
        "stretch": stretch,
    }
    wish = _named(given)
    if conflate is not None:
        wish["conflate"] = conflate or None
    _print(ask("PATCH", _path(job), wish))


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


def _stream_row(job: dict[str, Any]) -> list[str]:
    config, feed = job["config"], job["feed"] or {}
    lag, conflate = feed.get("lag_ms"), config["conflate"]
    return [
        job["job_id"],
        job["status"],
        config["provider"],
        ",".join(config["symbols"]),
        "" if conflate is None else f"{conflate} ms",
        feed.get("state", ""),
        str(feed.get("rate", "")),
        "" if lag is None else f"{lag} ms",
        *(str(feed.get(name, "")) for name in ("ticks", "gaps", "missing", "reconnects")),
        feed.get("last_error") or "",
    ]


def _time(text: str | None) -> str:
    return "" if text is None else text[:19] + "Z"
