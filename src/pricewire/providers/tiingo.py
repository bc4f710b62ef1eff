"""Tiingo: what it is asked for the latest prices and for history; listed in the catalogue.

Shares, coins and currencies have endpoints of their own, so a request holds symbols of one kind.
Invariant: the key travels in a header, never in a URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.errors import InvalidParameter
from pricewire.providers.anatomy import Credentials, Request, Span, Vendor, segment
from pricewire.providers.readers import after, parameter
from pricewire.providers.symbols import pair_of
from pricewire.providers.tiingo_answers import own_symbol, parse

_BATCH: Final = 100
_INTERVALS: Final = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "1hour", "1d": "1day"}
_LATEST: Final = {
    "shares": "/iex/",
    "coins": "/tiingo/crypto/top",
    "currencies": "/tiingo/fx/top",
}


def _request(symbols: Sequence[str]) -> Request:
    kinds = {_kind(symbol) for symbol in symbols}
    if len(kinds) > 1:
        raise InvalidParameter("tiingo takes shares, coins and currencies in calls of their own")
    return Request(
        path=_LATEST[kinds.pop()],
        params={"tickers": ",".join(dict.fromkeys(own_symbol(one).lower() for one in symbols))},
    )


def _kind(symbol: str) -> str:
    if (pair := pair_of(symbol)) is None:
        return "shares"
    return "currencies" if pair.is_fiat else "coins"


def _history(span: Span) -> Request:
    kind, ticker = _kind(span.symbol), own_symbol(span.symbol).lower()
    dates = {"startDate": f"{span.start:%Y-%m-%d}", "endDate": f"{span.end:%Y-%m-%d}"}
    if kind == "shares" and span.interval == "1d":
        return Request(path=f"/tiingo/daily/{segment(ticker)}/prices", params=dates)
    params = dates | {"resampleFreq": _INTERVALS[span.interval]}
    if kind == "coins":
        return Request(path="/tiingo/crypto/prices", params=params | {"tickers": ticker})
    if kind == "currencies":
        return Request(path=f"/tiingo/fx/{segment(ticker)}/prices", params=params)
    columns = {"columns": "open,high,low,close,volume"}
    return Request(path=f"/iex/{segment(ticker)}/prices", params=params | columns)


def _sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(headers={"Authorization": f"Token {keys['api_key']}"})


def _asked(url: str) -> tuple[str, ...]:
    if listed := parameter(url, "tickers"):
        return tuple(name.upper() for name in listed.split(",") if name)
    for names in (("iex",), ("tiingo", "daily"), ("tiingo", "fx")):
        if (symbol := after(url, *names)) and symbol != "top":
            return (symbol.upper(),)
    return ()


TIINGO: Final = Vendor(
    name="tiingo",
    title="Tiingo",
    origin="https://api.tiingo.com",
    needs=("api_key",),
    request=_request,
    history=_history,
    parse=parse,
    sign=_sign,
    asked=_asked,
    batch=_BATCH,
)
