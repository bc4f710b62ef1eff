"""`pricewire fetch AAPL MSFT`: the latest prices, a line each, from the running service.

Invariant: exit code 0 if there is a price of each, 1 if one failed; why is a line on stderr.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pricewire.cli.remote import ask
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidRequest, PricewireError

PATH = "/v1/prices/latest"


def fetch(
    symbols: Annotated[list[str], typer.Argument(help="AAPL MSFT ...")],
    provider: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    max_age: Annotated[int, typer.Option(help="A stored price will do, so old.", min=0)] = 0,
) -> None:
    """Fetch the latest prices: each is stored and published like any other."""
    try:
        for symbol in symbols:
            parse_symbol(symbol)
    except InvalidRequest as error:
        typer.echo(f"pricewire: {error.detail}", err=True)
        raise typer.Exit(2) from None
    failed = [symbol for symbol in symbols if not _fetched(symbol, provider, max_age)]
    if failed:
        raise typer.Exit(1)


def _fetched(symbol: str, provider: str | None, max_age: int) -> bool:
    given = {"symbol": symbol, "max_age": max_age} | ({"provider": provider} if provider else {})
    try:
        _print(ask("GET", f"{PATH}?{urlencode(given)}", exact=True))
    except PricewireError as error:
        typer.echo(f"{symbol:<12} {error.detail}", err=True)
        return False
    return True


def _print(price: Any) -> None:
    typer.echo(
        f"{price['symbol']:<12} {price['price']:>16} {price['currency'] or '':<5} "
        f"{price['timestamp']}  {price['kind']}, {price['source']}, {price['event']['id']}"
    )
