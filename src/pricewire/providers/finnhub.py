"""Finnhub: what it is asked for the latest price and for history; listed in the catalogue.

`/quote` is free for shares listed in the US; candles and most other exchanges need a plan.
Invariant: the key travels in a header, never in a URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.providers.anatomy import Credentials, Request, Span, Vendor
from pricewire.providers.finnhub_answers import own_symbol, parse
from pricewire.providers.readers import parameter
from pricewire.providers.symbols import pair_of

_RESOLUTIONS: Final = {"1m": "1", "5m": "5", "15m": "15", "1h": "60", "1d": "D"}


def _request(symbols: Sequence[str]) -> Request:
    return Request(path="/api/v1/quote", params={"symbol": own_symbol(symbols[0])})


def _history(span: Span) -> Request:
    pair = pair_of(span.symbol)
    market = "stock" if pair is None else "forex" if pair.is_fiat else "crypto"
    return Request(
        path=f"/api/v1/{market}/candle",
        params={
            "symbol": own_symbol(span.symbol),
            "resolution": _RESOLUTIONS[span.interval],
            "from": f"{span.start.timestamp():.0f}",
            "to": f"{span.end.timestamp():.0f}",
        },
    )


def _sign(keys: Mapping[str, str]) -> Credentials:
    return Credentials(headers={"X-Finnhub-Token": keys["api_key"]})


def _asked(url: str) -> tuple[str, ...]:
    symbol = parameter(url, "symbol")
    return (symbol,) if symbol else ()


FINNHUB: Final = Vendor(
    name="finnhub",
    title="Finnhub",
    origin="https://finnhub.io",
    needs=("api_key",),
    request=_request,
    history=_history,
    parse=parse,
    sign=_sign,
    asked=_asked,
)
