"""Alpha Vantage over REST: what is asked for, and where its key goes.

A pair of codes such as BTC/USD or EUR-USD is asked for as an exchange rate, everything else as a
quote. Invariant: the key is a secret parameter, as the vendor takes it nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.providers.alpha_vantage_answers import own_symbol, parse, split_pair
from pricewire.providers.anatomy import Credentials, Request, Span, Vendor
from pricewire.providers.readers import parameter

_PATH: Final = "/query"
_INTERVALS: Final = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "60min"}


def request(symbols: Sequence[str]) -> Request:
    """Ask for the latest price of one symbol."""
    (symbol,) = symbols
    if (pair := split_pair(symbol)) is None:
        return Request(path=_PATH, params={"function": "GLOBAL_QUOTE", "symbol": symbol})
    return Request(
        path=_PATH,
        params={
            "function": "CURRENCY_EXCHANGE_RATE",
            "from_currency": pair.base,
            "to_currency": pair.quote,
        },
    )


def history(span: Span) -> Request:
    """Ask for bars: the newest hundred days, or the month in which the span begins."""
    if span.interval == "1d":
        return Request(path=_PATH, params={"function": "TIME_SERIES_DAILY", "symbol": span.symbol})
    return Request(
        path=_PATH,
        params={
            "function": "TIME_SERIES_INTRADAY",
            "symbol": span.symbol,
            "interval": _INTERVALS[span.interval],
            "month": f"{span.start:%Y-%m}",
            "outputsize": "full",
        },
    )


def sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(params={"apikey": keys["api_key"]})


def asked(url: str) -> tuple[str, ...]:
    """Return the symbols that a URL names."""
    if base := parameter(url, "from_currency"):
        return (own_symbol(f"{base}/{parameter(url, 'to_currency')}"),)
    named = parameter(url, "symbol")
    return tuple(named.split(",")) if named else ()


ALPHA_VANTAGE: Final = Vendor(
    name="alpha_vantage",
    title="Alpha Vantage",
    origin="https://www.alphavantage.co",
    needs=("api_key",),
    sign=sign,
    request=request,
    parse=parse,
    asked=asked,
    history=history,
)
