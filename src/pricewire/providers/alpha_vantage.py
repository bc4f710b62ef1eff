"""Alpha Vantage over REST: symbol → request → raw answer → quote; built by the composition root.

A pair of codes such as BTC/USD or EUR-USD is asked for as an exchange rate, everything else as a
quote. Invariant: the key travels as a secret parameter only, and error texts are cleaned of it,
since the vendor likes to repeat it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from pricewire.domain.quote import Fetched
from pricewire.providers.alpha_vantage_answers import parse, split_pair
from pricewire.providers.http import HttpClient

__all__ = ["AlphaVantage", "parse"]

_PATH: Final = "/query"


class AlphaVantage:
    """The provider `alpha_vantage`.

    Args:
        api_key: goes into each call's query and nowhere else.
        base_url: the origin, `https://www.alphavantage.co`.
        timeout_seconds: for a whole call.
        clock: now, aware UTC.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        timeout_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._api_key = api_key
        self._secret_params = {"apikey": api_key}
        self._http = HttpClient(
            provider=self.name, origin=base_url, timeout_seconds=timeout_seconds, clock=clock
        )

    @property
    def name(self) -> str:
        return "alpha_vantage"

    async def fetch(self, symbol: str) -> Fetched:
        """Ask for the latest price of `symbol`; the answer holds exactly one quote.

        Raises:
            ProviderError: as `parse` and `HttpClient.get` say.
        """
        raw = await self._http.get(_PATH, _params(symbol), self._secret_params)
        quote = parse(
            raw.body, raw.status, symbol=symbol, fetched_at=raw.fetched_at, secret=self._api_key
        )
        return Fetched(raw, (quote,))

    async def aclose(self) -> None:
        await self._http.aclose()


def _params(symbol: str) -> dict[str, str]:
    if (pair := split_pair(symbol)) is not None:
        return {
            "function": "CURRENCY_EXCHANGE_RATE",
            "from_currency": pair[0],
            "to_currency": pair[1],
        }
    return {"function": "GLOBAL_QUOTE", "symbol": symbol}
