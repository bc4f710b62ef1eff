"""Alpha Vantage's answers, bytes to quote; pure, called by `alpha_vantage` for each raw answer.

The kind of answer is told from the body itself. Invariant: a quote has the digits that the vendor
sent and the symbol that was asked for; every other body, whatever its bytes, is a `ProviderError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.errors import NotAPrice, UnknownSymbol
from pricewire.providers.alpha_vantage_refusals import (
    refuse_by_status,
    refuse_by_wording,
    said,
)

_QUOTE: Final = "Global Quote"
_RATE: Final = "Realtime Currency Exchange Rate"
_SERIES: Final = "Time Series ("

_PAIR: Final = re.compile(r"([A-Z]{3,5})[/-]([A-Z]{3,5})")
_NUMBERED: Final = re.compile(r"^\d+[a-z]?\. ")
_PRICE: Final = re.compile(r"[+-]?[0-9]{1,80}(\.[0-9]{1,80})?([eE][+-]?[0-9]{1,3})?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(rf"{_DAY.pattern} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}")

Members = Mapping[str, object]


def split_pair(symbol: str) -> tuple[str, str] | None:
    """Return both codes of BTC/USD or EUR-USD; None for a share such as BRK-B."""
    match = _PAIR.fullmatch(symbol)
    return (match[1], match[2]) if match else None


def parse(
    body: bytes, status: int, *, symbol: str, fetched_at: datetime, secret: str = ""
) -> Quote:
    """Return the price of `symbol` in a raw answer.

    Args:
        symbol: the caller's form; the quote keeps it.
        fetched_at: aware UTC; only the wait for the next daily quota is counted from it.
        secret: the key, to be kept out of error texts.

    Raises:
        ProviderError: the answer is no price for `symbol`; the class says why.
    """
    members = _members(body, status)
    refuse_by_wording(members, symbol=symbol, fetched_at=fetched_at, secret=secret)
    refuse_by_status(status)
    try:
        return _read(members, symbol)
    except NotAPrice as error:
        raise NotAPrice(said(error.detail, secret)) from None


def _members(body: bytes, status: int) -> Members:
    try:
        value = json.loads(
            body, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant
        )
    except (ValueError, ArithmeticError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    refuse_by_status(status)
    raise NotAPrice("Alpha Vantage answered something that is no JSON object")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read(members: Members, symbol: str) -> Quote:
    for title, content in members.items():
        for prefix, read in _READERS.items():
            if title.startswith(prefix) and isinstance(content, dict):
                return read(title, _plain(content), _plain(members.get("Meta Data")), symbol)
    if not members:
        raise UnknownSymbol(f"Alpha Vantage has no data for {symbol}")
    raise NotAPrice(f"Alpha Vantage gave no price for {symbol} but {', '.join(members)}")


def _plain(content: object) -> Members:
    """Return the members under their names without the number, which differs by function."""
    if not isinstance(content, dict):
        return {}
    return {_NUMBERED.sub("", name): value for name, value in content.items()}


def _read_quote(title: str, content: Members, _meta: Members, symbol: str) -> Quote:
    if not content:
        raise UnknownSymbol(f"Alpha Vantage knows no {symbol}")
    _check_symbol(_text(content, "symbol"), symbol)
    day = _text(content, "latest trading day")
    if not _DAY.fullmatch(day):
        raise NotAPrice(f"Alpha Vantage gave no trading day for {symbol}")
    return Quote(
        symbol=symbol,
        price=_price(content, "price", symbol),
        timestamp=_instant(f"{day} 00:00:00", "UTC"),
        precision=Precision.DAY,
        kind=_kind(title),
    )


def _read_rate(title: str, content: Members, _meta: Members, symbol: str) -> Quote:
    currency = _text(content, "To_Currency Code")
    pair = f"{_text(content, 'From_Currency Code')}/{currency}"
    _check_symbol(pair, "/".join(split_pair(symbol) or (symbol,)))
    return Quote(
        symbol=symbol,
        price=_price(content, "Exchange Rate", symbol),
        timestamp=_instant(_text(content, "Last Refreshed"), _text(content, "Time Zone")),
        precision=Precision.SECOND,
        currency=currency,
        kind=_kind(title),
    )


def _read_series(title: str, content: Members, meta: Members, symbol: str) -> Quote:
    _check_symbol(_text(meta, "Symbol"), symbol)
    # The vendor lists the newest bar first, but promises no order.
    newest = max(content, default="")
    return Quote(
        symbol=symbol,
        price=_price(_plain(content.get(newest)), "close", symbol),
        timestamp=_instant(newest, _text(meta, "Time Zone")),
        precision=Precision.MINUTE,
        kind=_kind(title),
    )


_READERS: Final = {_QUOTE: _read_quote, _RATE: _read_rate, _SERIES: _read_series}


def _kind(title: str) -> PriceKind:
    return PriceKind.DELAYED if "DELAYED" in title.upper() else PriceKind.LAST


def _text(members: Members, name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) and len(value) <= 64 else ""


def _check_symbol(answered: str, asked: str) -> None:
    if answered.upper() != asked.upper():
        shown = answered or "no symbol"
        raise NotAPrice(f"Alpha Vantage was asked for {asked} and answered {shown}")


def _price(members: Members, name: str, symbol: str) -> Decimal:
    value = members.get(name)
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str) and _PRICE.fullmatch(value):
        return Decimal(value)
    raise NotAPrice(f"Alpha Vantage gave no price for {symbol}")


def _instant(local: str, zone: str) -> datetime:
    try:
        # The package tzdata knows US/Eastern where the system's zones leave it out.
        moment = _naive(local).replace(tzinfo=ZoneInfo(zone))
        # An hour that the clocks skip or repeat names no instant.
        if moment.utcoffset() == moment.replace(fold=1).utcoffset():
            return moment.astimezone(UTC)
    except (ValueError, KeyError, OSError, OverflowError):
        pass
    raise NotAPrice(f"Alpha Vantage gave {local or 'no time'} {zone} as the time of its price")


def _naive(text: str) -> datetime:
    # fromisoformat by itself takes many more forms than the vendor has.
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)
