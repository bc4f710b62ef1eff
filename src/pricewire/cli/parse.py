"""`pricewire parse`: what the service's own code makes of a stored answer, as JSON.

Invariant: digits and times are printed as the provider gave them. Exit code 0: prices; 1: a typed
error, which is printed as JSON too; 2: a wrong call, one line on stderr.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pricewire.bootstrap import now
from pricewire.bootstrap_providers import Frames, Parsed, parse_stored
from pricewire.domain.quote import Bar, Precision, PriceKind, Quote, price_text
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidRequest, ProviderError

_DIGITS = {
    Precision.MILLISECOND: 3,
    Precision.MICROSECOND: 6,
    Precision.NANOSECOND: 9,
}

Members = dict[str, Any]


def parse(
    provider: Annotated[str, typer.Argument(help="whose answer it is: finnhub, coinbase, ...")],
    file: Annotated[str, typer.Argument(help="the stored body; - reads standard input")],
    url: Annotated[str, typer.Option(help="what was asked; else the body's shape tells")] = "",
    status: Annotated[int, typer.Option(help="the HTTP status", min=100, max=599)] = 200,
    symbol: Annotated[str, typer.Option(help="what was asked for; several with commas")] = "",
) -> None:
    """Print what the service makes of a stored answer: quotes, bars, or why it is no price."""
    try:
        symbols = tuple(parse_symbol(one) for one in symbol.split(",")) if symbol else ()
        parsed = parse_stored(
            provider, _body(file), status=status, url=url, symbols=symbols, now=now()
        )
    except InvalidRequest as error:
        raise _wrong_call(error.detail) from None
    except OSError as error:
        raise _wrong_call(f"{file} cannot be read: {error.strerror}") from None
    except ProviderError as error:
        _print(_error(error))
        raise typer.Exit(1) from None
    _print(_stream(parsed) if isinstance(parsed, Frames) else _document(parsed))


def _body(file: str) -> bytes:
    if file == "-":
        return typer.get_binary_stream("stdin").read()
    return Path(file).read_bytes()


def _wrong_call(detail: str) -> typer.Exit:
    typer.echo(f"pricewire: {detail}", err=True)
    return typer.Exit(2)


def _print(document: Members) -> None:
    text = msgspec.json.format(msgspec.json.encode(document), indent=1)
    typer.echo(text.decode())


def _document(parsed: Parsed) -> Members:
    bars = [_bar(bar) for bar in parsed.bars]
    if not parsed.quotes:
        return {"kind": "bars", "symbol": parsed.bars[0].symbol or None, "items": bars}
    if len(parsed.quotes) == 1 and not parsed.refused:
        return _quote(parsed.quotes[0]) | ({"bars": bars} if bars else {})
    refused = [
        {"symbol": symbol or None} | _error(error) for symbol, error in parsed.refused.items()
    ]
    items = [*map(_quote, parsed.quotes), *refused]
    return {"kind": "batch", "items": items} | ({"bars": bars} if bars else {})


def _stream(frames: Frames) -> Members:
    return {
        "kind": "stream",
        "messages": frames.messages,
        "quotes": frames.quotes,
        "distinct_trades": len(frames.trades),
        "trades_seen_more_than_once": sum(times > 1 for times in frames.trades.values()),
        "errors": dict(frames.refusals),
        "items": [_quote(frames.latest[symbol]) for symbol in sorted(frames.latest)],
    }


def _quote(quote: Quote) -> Members:
    has_time = quote.precision is not Precision.NONE
    kind = PriceKind.LAST if quote.kind is PriceKind.DELAYED else quote.kind
    told = {
        "currency": quote.currency,
        "exchange": quote.exchange,
        "adjusted": quote.adjusted,
        "size": _digits(quote.size),
        "bid": _digits(quote.bid),
        "ask": _digits(quote.ask),
        "trade_id": _number(quote.trade_id),
    }
    return {
        "kind": "quote",
        "symbol": quote.symbol or None,
        "price": price_text(quote.price),
        "timestamp_utc": _time(quote.timestamp, quote.precision, quote.nanosecond)
        if has_time
        else None,
        "timestamp_precision": quote.precision.value,
        "price_kind": kind.value,
        "delayed": quote.delayed,
    } | {name: value for name, value in told.items() if value is not None}


def _bar(bar: Bar) -> Members:
    told = {
        "volume": _digits(bar.volume),
        "interval": bar.interval,
        "currency": bar.currency,
        "adjusted": bar.adjusted,
    }
    return {
        "symbol": bar.symbol or None,
        "time": _time(bar.timestamp, bar.precision, 0),
        "timestamp_precision": bar.precision.value,
        "open": price_text(bar.open),
        "high": price_text(bar.high),
        "low": price_text(bar.low),
        "close": price_text(bar.close),
    } | {name: value for name, value in told.items() if value is not None}


def _error(error: ProviderError) -> Members:
    return {
        "kind": "error",
        "error_class": error.code,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "detail": error.detail,
    }


def _time(moment: datetime, precision: Precision, nanosecond: int) -> str:
    """Return a time in all the digits that are known of it."""
    if precision is Precision.DAY:
        return f"{moment:%Y-%m-%d}"
    digits = f"{moment.microsecond:06}{nanosecond:03}"[: _DIGITS.get(precision, 0)]
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{digits}Z" if digits else "Z")


def _digits(value: Decimal | None) -> str | None:
    return None if value is None else price_text(value)


def _number(identity: str | None) -> int | str | None:
    """Return a number as one, as most providers count their trades."""
    if identity is not None and identity.isascii() and identity.isdigit() and len(identity) < 16:
        return int(identity)
    return identity
