"""Twelve Data: what it is asked for the latest price and for history; listed in the catalogue.

`/quote` costs the same credit as `/price` and says whose price it is, in which currency, and when.
Invariant: the key travels in a header; a batch is no larger than the free plan's credits a minute,
since a larger one is refused whole, on a fresh minute too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.providers.anatomy import Credentials, Request, Span, Vendor
from pricewire.providers.readers import parameter
from pricewire.providers.twelve_data_answers import own_symbol, parse

_CREDITS_A_MINUTE: Final = 8
_MOST_BARS: Final = "5000"
_INTERVALS: Final = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "1h", "1d": "1day"}


def _request(symbols: Sequence[str]) -> Request:
    return Request(
        path="/quote", params={"symbol": ",".join(dict.fromkeys(map(own_symbol, symbols)))}
    )


def _history(span: Span) -> Request:
    return Request(
        path="/time_series",
        params={
            "symbol": own_symbol(span.symbol),
            "interval": _INTERVALS[span.interval],
            "start_date": f"{span.start:%Y-%m-%d %H:%M:%S}",
            "end_date": f"{span.end:%Y-%m-%d %H:%M:%S}",
            "timezone": "UTC",
            "order": "ASC",
            "outputsize": _MOST_BARS,
        },
    )


def _sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(headers={"Authorization": f"apikey {keys['api_key']}"})


def _asked(url: str) -> tuple[str, ...]:
    return tuple(filter(None, parameter(url, "symbol").split(",")))


TWELVE_DATA: Final = Vendor(
    name="twelve_data",
    title="Twelve Data",
    origin="https://api.twelvedata.com",
    needs=("api_key",),
    request=_request,
    history=_history,
    parse=parse,
    sign=_sign,
    asked=_asked,
    batch=_CREDITS_A_MINUTE,
)
