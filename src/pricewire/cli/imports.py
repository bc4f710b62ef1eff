"""`pricewire import FILE`: past prices from a CSV or Parquet file into the running service.

Invariant: every row that is no price is named with its line and the reason; an import that was
broken off in any way is run again, and brings only what is not there yet. Exit code 0: every row
was a price; 1: some were not, or the service failed; 2: a wrong call; 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pricewire.cli.remote import Link
from pricewire.domain.quote import PriceKind
from pricewire.errors import InvalidRequest
from pricewire.imports.chunks import Chunk, chunks
from pricewire.imports.columns import Wanted, choose
from pricewire.imports.files import FileRow, PriceFile, opened
from pricewire.imports.rows import RowReader, Rules, zone_named

PATH = "/v1/imports"
SHOWN = 20
INTERRUPTED = 130
AGAIN = "run it again: what is there already is not recorded twice"

Column = Annotated[str | None, typer.Option(help="Name of the column; else it is guessed.")]


@dataclass(slots=True)
class Bad:
    """Tells the first bad rows, counts them all, and writes all into a file if there is one."""

    rejects: IO[str] | None
    count: int = 0

    def tell(self, row: FileRow, reason: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            typer.echo(f"line {row.line}: {_printable(reason)}", err=True)
        elif self.count == SHOWN + 1:
            typer.echo("…", err=True)
        if self.rejects is not None:
            raw = row.raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
            csv.writer(self.rejects).writerow((row.line, _printable(reason), raw))


@dataclass(slots=True)
class Tally:
    """What the service said so far."""

    rows: int = 0
    recorded: int = 0
    repeated: int = 0
    events: list[str] = field(default_factory=list)

    def add(self, answer: Any) -> None:
        self.recorded += answer["recorded"]
        self.repeated += answer["repeated"]


def import_file(  # noqa: PLR0913, PLR0917
    file: Annotated[Path, typer.Argument(help="CSV (also .csv.gz) or Parquet, with a header")],
    symbol: Annotated[str | None, typer.Option(help="Every row is of this symbol.")] = None,
    symbol_column: Column = None,
    time_column: Column = None,
    price_column: Column = None,
    size_column: Column = None,
    trade_id_column: Column = None,
    source: Annotated[str, typer.Option(help="Whose prices they are.")] = "import",
    currency: Annotated[str | None, typer.Option(help="Of all prices: USD, GBp.")] = None,
    kind: Annotated[PriceKind | None, typer.Option(help="What the prices are.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times without an offset.")] = None,
    time_format: Annotated[
        str | None, typer.Option(help="s, ms, us, ns since 1970, or as strptime: %d.%m.%Y %H:%M")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between columns; else guessed.")] = None,
    rejects: Annotated[Path | None, typer.Option(help="Write all bad rows to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="One bad row: store none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and tell; store none.")] = False,
) -> None:
    """Bring past prices into the running service; they are published on price-history."""
    try:
        wanted = Wanted(
            time=time_column,
            price=price_column,
            symbol=symbol_column,
            size=size_column,
            trade_id=trade_id_column,
            symbol_of_all=symbol,
        )
        rules = Rules(
            symbol=symbol,
            timezone=zone_named(timezone) if timezone else None,
            time_format=time_format,
            currency=currency,
            kind=kind,
        )
        if delimiter is not None and len(delimiter) != 1:
            raise typer.BadParameter("--delimiter is one character")
        job = _Import(file, wanted, rules, source, delimiter)
        with _written(rejects) as opened_rejects:
            bad = Bad(opened_rejects)
            if strict or dry_run:
                _check(job, bad, dry_run=dry_run)
                if dry_run:
                    raise typer.Exit(1 if bad.count else 0)
            tally = _bring(job, bad if not strict else Bad(None))
    except InvalidRequest as error:
        typer.echo(f"pricewire: {error.detail}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; {AGAIN}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _tell(tally, bad, rejects)
    if bad.count:
        raise typer.Exit(1)


class _Import:
    """What is to be read and how; may be read twice."""

    def __init__(
        self, file: Path, wanted: Wanted, rules: Rules, source: str, delimiter: str | None
    ) -> None:
        self.file = file
        self.source = source
        self._wanted = wanted
        self._rules = rules
        self._delimiter = delimiter

    @contextmanager
    def chunks(self, bad: Bad) -> Iterator[tuple[PriceFile, Iterator[Chunk]]]:
        with opened(self.file, self._delimiter) as content:
            columns = choose(content.header, self._wanted)
            typer.echo(f"columns    {columns.told}")
            yield content, chunks(content, RowReader(columns, self._rules), bad.tell)


def _check(job: _Import, bad: Bad, *, dry_run: bool) -> None:
    """Read the whole file and store nothing; where a row is bad, go no further."""
    good = 0
    with job.chunks(bad) as (content, read), _progress("checking", content) as moved:
        for chunk in read:
            good += len(chunk.prices)
            moved()
    if dry_run:
        typer.echo(f"rows       {good} prices, {bad.count} bad rows; nothing was stored")
    elif bad.count:
        typer.echo(f"pricewire: {bad.count} bad rows: nothing was stored (--strict)", err=True)
        raise typer.Exit(1)


def _bring(job: _Import, bad: Bad) -> Tally:
    """Send chunk after chunk; the next one is read while the service has the one before."""
    tally = Tally()
    link = Link()
    origin = job.file.name[-100:]
    with (
        ThreadPoolExecutor(1) as sending,
        job.chunks(bad) as (content, read),
        _progress("importing", content) as moved,
    ):
        sent: Future[Any] | None = None
        for chunk in read:
            body = chunk.body(origin, job.source)
            if sent is not None:
                tally.add(sent.result())
            sent = sending.submit(link.post, PATH, body, AGAIN)
            tally.rows += len(chunk.prices)
            moved()
        if sent is not None:
            tally.add(sent.result())
    return tally


def _tell(tally: Tally, bad: Bad, rejects: Path | None) -> None:
    typer.echo(f"rows       {tally.rows + bad.count}: {tally.recorded} recorded, "
               f"{tally.repeated} there already, {bad.count} bad")  # fmt: skip
    if bad.count > SHOWN and rejects is None:
        typer.echo(
            f"           {SHOWN} of the bad rows were named; --rejects FILE has all", err=True
        )
    if rejects is not None:
        typer.echo(f"rejects    {rejects}")


@contextmanager
def _written(file: Path | None) -> Iterator[IO[str] | None]:
    if file is None:
        yield None
        return
    try:
        opened_file = file.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}") from None
    with opened_file:
        csv.writer(opened_file).writerow(("line", "reason", "row"))
        yield opened_file


class _Moved(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def _progress(what: str, content: PriceFile) -> Iterator[_Moved]:
    """Show a bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=content.total)
        yield lambda: bar.update(task, completed=content.read)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:300]
