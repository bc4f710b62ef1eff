"""Any exchange that the package ccxt knows, as `ccxt:<exchange>`; needs the extra `ccxt`.

ccxt asks, parses and names things by itself, so there is no anatomy here: its answer is kept as it
came, and its numbers are taken as text. Invariant: no float on the way: JSON numbers are read as
text, and ccxt is told to hand them out as they are.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from uuid_utils.compat import uuid7

from pricewire.domain.quote import Fetched, Precision, RawResponse
from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    ProviderTimedOut,
    StartupError,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer
from pricewire.providers.found import Found
from pricewire.providers.readers import Members, epoch, members, text
from pricewire.providers.refusals import said
from pricewire.providers.symbols import coin_currency, coin_pair

_EXTRA: Final = "ccxt:… needs the package ccxt: install pricewire with the extra ccxt"

# What ccxt's parsers raise where an answer has another shape than they expect.
_STUMBLES: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Heard:
    """The last answer of one call, whichever of its requests that was."""

    raw: RawResponse | None = None


_heard: ContextVar[_Heard] = ContextVar("heard")


def own_symbol(symbol: str) -> str:
    """Return ccxt's form: BTC/USD."""
    pair = coin_pair(symbol)
    return f"{pair.base}/{pair.quote}" if pair else symbol


class CcxtProvider:
    """The provider `ccxt:<exchange>`.

    Args:
        exchange: as ccxt names it.
        timeout_seconds: for each of a call's requests; the first call also asks for the markets.
        clock: now, aware UTC.
        origin: where the exchange is asked instead of where ccxt asks it.

    Raises:
        StartupError: ccxt is not installed or has no such exchange.
    """

    def __init__(
        self,
        exchange: str,
        *,
        timeout_seconds: float,
        clock: Callable[[], datetime],
        origin: str | None = None,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        try:
            self._ccxt: Any = importlib.import_module("ccxt.async_support")
        except ImportError:
            raise StartupError(_EXTRA) from None
        if exchange not in self._ccxt.exchanges:
            raise StartupError(f"ccxt has no exchange {exchange!r}")
        self._client: Any = getattr(self._ccxt, exchange)({"timeout": timeout_seconds * 1000})
        self._client.number = str
        self._client.on_json_response = _exact_json
        self._client.on_rest_response = self._hear
        if origin is not None:
            self._client.urls["api"] = _moved(self._client.urls["api"], origin)

    @property
    def name(self) -> str:
        return f"ccxt:{self._exchange}"

    async def fetch(self, symbol: str) -> Fetched:
        """Ask for the last trade of `symbol`; the answer holds exactly one quote.

        Raises:
            ProviderError: there is no price for that symbol; the class says why.
        """
        heard = _Heard()
        token = _heard.set(heard)
        try:
            return await self._fetched(symbol, heard)
        except ProviderError as error:
            error.raw = heard.raw
            raise
        finally:
            _heard.reset(token)

    async def _fetched(self, symbol: str, heard: _Heard) -> Fetched:
        try:
            ticker = members(await self._client.fetch_ticker(own_symbol(symbol)))
        except self._ccxt.BaseError as error:
            raise self._refusal(error, symbol) from None
        except _STUMBLES:
            raise NotAPrice(f"ccxt cannot read what {self._exchange} answered") from None
        if heard.raw is None:
            raise NotAPrice(f"{self.name} gave a price without an answer")
        return Fetched(heard.raw, self._read(ticker, symbol, heard.raw).quotes)

    async def aclose(self) -> None:
        await self._client.close()

    def _read(self, ticker: Members, symbol: str, raw: RawResponse) -> Any:
        answer = Answer(
            body=raw.body, status=raw.status, fetched_at=raw.fetched_at, symbols=(symbol,)
        )
        found = Found(self.name, answer, own_symbol)
        time = ticker.get("timestamp")
        found.quote(
            found.asked(ticker.get("symbol")),
            ticker.get("last"),
            found.no_time if time is None else epoch(time, Precision.MILLISECOND),
            currency=coin_currency(symbol),
            bid=ticker.get("bid"),
            ask=ticker.get("ask"),
        )
        return found.result()

    def _hear(self, code: int, _reason: str, url: str, *rest: Any) -> str:
        """Keep an answer; ccxt calls this with each, before it reads it."""
        _method, headers, body, *_ = rest
        heard = _heard.get(None)
        if heard is not None:
            kind = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
            heard.raw = RawResponse(
                id=uuid7(),
                provider=self.name,
                url=url,
                status=code,
                headers=(("content-type", kind),),
                body=body.encode(),
                fetched_at=self._clock(),
            )
        return str(body.strip())

    def _refusal(self, error: Exception, symbol: str) -> ProviderError:
        answer = Answer(body=b"", status=0, fetched_at=self._clock(), symbols=(symbol,))
        told = f"{self.name}: {said(str(error), answer)}"
        kinds = self._ccxt
        if isinstance(error, kinds.BadSymbol):
            return UnknownSymbol(f"{self.name} knows no {symbol}")
        if isinstance(error, kinds.DDoSProtection | kinds.RateLimitExceeded):
            return Throttled(told, throttle=Throttle.UNSPECIFIED, retry_after=60)
        if isinstance(error, kinds.AuthenticationError):
            return ProviderRefused(told, code="invalid_key")
        if isinstance(error, kinds.RequestTimeout):
            return ProviderTimedOut(told, retry_after=1)
        if isinstance(error, kinds.NetworkError):
            return ProviderDown(told)
        return NotAPrice(told)


def _exact_json(body: str) -> object:
    """Read JSON with all numbers as text.

    Raises:
        ValueError: it is none; ccxt expects no other error here.
    """
    try:
        return json.loads(body, parse_float=str, parse_int=str)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _moved(urls: Any, origin: str) -> Any:
    """Return ccxt's URLs of an exchange with another origin."""
    if isinstance(urls, dict):
        return {name: _moved(value, origin) for name, value in urls.items()}
    path = urlsplit(text(urls)).path
    return f"{origin.rstrip('/')}{path}" if isinstance(urls, str) else urls
