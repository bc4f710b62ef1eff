"""Massive (Polygon.io until 2025): what it is asked for the latest price and for history.

The last trade needs a paid plan and is refused on the free one; the previous day's bar is open to
every plan and for every kind of symbol. So that one is asked for, and its price says that it is a
close. Invariant: the key travels in a header; prices are as traded, not adjusted for splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.providers.anatomy import Credentials, Request, Span, Vendor, segment
from pricewire.providers.massive_answers import parse
from pricewire.providers.massive_symbols import own_symbol
from pricewire.providers.readers import after, parameter, segments

_MOST_BARS: Final = "50000"
_INTERVALS: Final = {
    "1m": "1/minute",
    "5m": "5/minute",
    "15m": "15/minute",
    "1h": "1/hour",
    "1d": "1/day",
}
_BEFORE_A_SYMBOL: Final = (
    ("aggs", "ticker"),
    ("last", "trade"),
    ("last", "nbbo"),
    ("stocks", "tickers"),
    ("crypto", "tickers"),
    ("forex", "tickers"),
    ("v3", "trades"),
    ("v3", "quotes"),
    ("v1", "open-close"),
)
_BEFORE_A_PAIR: Final = (("last", "crypto"), ("last_quote", "currencies"), ("v1", "conversion"))
_LISTS: Final = ("ticker.any_of", "tickers", "ticker")


def _request(symbols: Sequence[str]) -> Request:
    ticker = segment(own_symbol(symbols[0]))
    return Request(path=f"/v2/aggs/ticker/{ticker}/prev", params={"adjusted": "false"})


def _history(span: Span) -> Request:
    ticker, interval = segment(own_symbol(span.symbol)), _INTERVALS[span.interval]
    start, end = (f"{moment.timestamp() * 1000:.0f}" for moment in (span.start, span.end))
    return Request(
        path=f"/v2/aggs/ticker/{ticker}/range/{interval}/{start}/{end}",
        params={"adjusted": "false", "sort": "asc", "limit": _MOST_BARS},
    )


def _sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(headers={"Authorization": f"Bearer {keys['api_key']}"})


def _asked(url: str) -> tuple[str, ...]:
    for names in _BEFORE_A_SYMBOL:
        if symbol := after(url, *names):
            return (symbol,)
    for names in _BEFORE_A_PAIR:
        if base := after(url, *names):
            return (own_symbol(f"{base}/{segments(url)[-1]}"),)
    listed = next(filter(None, (parameter(url, name) for name in _LISTS)), "")
    return tuple(filter(None, listed.split(",")))


MASSIVE: Final = Vendor(
    name="massive",
    title="Massive",
    origin="https://api.massive.com",
    needs=("api_key",),
    request=_request,
    history=_history,
    parse=parse,
    sign=_sign,
    asked=_asked,
)
