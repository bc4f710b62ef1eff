"""Alpaca's market data: what it is asked for the latest prices and for history.

Shares and pairs have endpoints of their own, so a request holds symbols of one kind. Invariant:
the feed is named, `iex`: left out it would be the one that the free plan refuses. Both keys travel
in headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.errors import InvalidParameter
from pricewire.providers.alpaca_answers import own_symbol, parse
from pricewire.providers.anatomy import Credentials, Request, Span, Vendor
from pricewire.providers.readers import after, parameter
from pricewire.providers.symbols import pair_of

_BATCH: Final = 100
_MOST_BARS: Final = "10000"
_FEED: Final = {"feed": "iex"}
_INTERVALS: Final = {"1m": "1Min", "5m": "5Min", "15m": "15Min", "1h": "1Hour", "1d": "1Day"}
_LAST_WORDS: Final = ("trades", "quotes", "bars", "snapshots")


def _request(symbols: Sequence[str]) -> Request:
    listed = {"symbols": ",".join(dict.fromkeys(map(own_symbol, symbols)))}
    if _are_pairs(symbols):
        return Request(path="/v1beta3/crypto/us/latest/trades", params=listed)
    return Request(path="/v2/stocks/trades/latest", params=listed | _FEED)


def _are_pairs(symbols: Sequence[str]) -> bool:
    kinds = {pair_of(symbol) is not None for symbol in symbols}
    if len(kinds) > 1:
        raise InvalidParameter("alpaca takes shares and pairs in calls of their own")
    return kinds == {True}


def _history(span: Span) -> Request:
    params = {
        "symbols": own_symbol(span.symbol),
        "timeframe": _INTERVALS[span.interval],
        "start": f"{span.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{span.end:%Y-%m-%dT%H:%M:%SZ}",
        "sort": "asc",
        "limit": _MOST_BARS,
    }
    if _are_pairs((span.symbol,)):
        return Request(path="/v1beta3/crypto/us/bars", params=params)
    return Request(path="/v2/stocks/bars", params=params | _FEED | {"adjustment": "raw"})


def _sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(
        headers={
            "APCA-API-KEY-ID": keys["api_key_id"],
            "APCA-API-SECRET-KEY": keys["api_secret_key"],
        }
    )


def _asked(url: str) -> tuple[str, ...]:
    if listed := parameter(url, "symbols"):
        return tuple(filter(None, listed.split(",")))
    symbol = after(url, "v2", "stocks")
    return () if not symbol or symbol in _LAST_WORDS else (symbol,)


ALPACA: Final = Vendor(
    name="alpaca",
    title="Alpaca",
    origin="https://data.alpaca.markets",
    needs=("api_key_id", "api_secret_key"),
    request=_request,
    history=_history,
    parse=parse,
    sign=_sign,
    asked=_asked,
    batch=_BATCH,
)
