"""A stand-in for every vendor: a local server that knows one symbol, and providers that ask it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

from werkzeug import Request, Response

from pricewire.providers.catalogue import VENDORS
from pricewire.providers.rest import RestProvider
from tests.provider_bodies import BODIES
from tests.provider_bodies_stocks import Body

CANARY = "C4NARY+secret/key="
"""Begins every key; a URL has it encoded."""


Answering = Callable[[Request], Response]


class Known(NamedTuple):
    """How a vendor answers for the one symbol that it knows, and for any other."""

    symbol: str
    own: str
    live: Body
    unknown: Body


def _body(provider: str, name: str) -> Body:
    [found] = [one for one in BODIES if (one.provider, one.name) == (provider, name)]
    return found


def _known(provider: str, symbol: str, own: str, live: str, unknown: str) -> Known:
    return Known(symbol, own, _body(provider, live), _body(provider, unknown))


KNOWN = {
    "alpha_vantage": _known("alpha_vantage", "ACME", "ACME", "quote", "unknown"),
    "finnhub": _known("finnhub", "ACME", "ACME", "quote", "unknown"),
    "twelve_data": _known("twelve_data", "ACME", "ACME", "quote", "unknown"),
    "massive": _known("massive", "ACME", "ACME", "trade", "unknown"),
    "alpaca": _known("alpaca", "ACME", "ACME", "trade", "unknown"),
    "tiingo": _known("tiingo", "ACME", "ACME", "iex_closed", "iex_unknown"),
    "yahoo": _known("yahoo", "ACME", "ACME", "chart", "unknown"),
    "coinbase": _known("coinbase", "ABC/USD", "ABC-USD", "ticker", "unknown"),
    "binance": _known("binance", "ABC/USDT", "ABCUSDT", "price", "unknown"),
    "kraken": _known("kraken", "BTC/USD", "XBTUSD", "ticker", "unknown"),
}


def now() -> datetime:
    return datetime.now(UTC)


def canaries(provider: str) -> dict[str, str]:
    return {need: f"{CANARY}{provider}.{need}" for need in VENDORS[provider].needs}


def rest(provider: str, origin: str, timeout_seconds: float = 5) -> RestProvider:
    return RestProvider(
        VENDORS[provider],
        keys=canaries(provider),
        base_url=origin,
        timeout_seconds=timeout_seconds,
        clock=now,
    )


def answering(provider: str, asked: list[Request] | None = None) -> Answering:
    """Return a handler that answers as the vendor does, and notes what it was asked."""
    known = KNOWN[provider]

    def answer(request: Request) -> Response:
        if asked is not None:
            asked.append(request)
        named = unquote(request.full_path).upper().replace("/", ",").replace("=", ",")
        words = named.replace("?", ",").replace("&", ",").split(",")
        body = known.live if known.own in words else known.unknown
        return Response(body.body, body.status, content_type="application/json")

    return answer
