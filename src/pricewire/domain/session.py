"""Whether a market is open at a moment; `services.latest` says it with every price.

Invariant: what is not known is said to be unknown. Coins are traded at all hours; calendars of
exchanges are not known here yet.
"""

from __future__ import annotations

import re
from enum import StrEnum

_COINS_ONLY = ("coinbase", "binance", "kraken", "ccxt:")
_PAIR = re.compile(r"(?:X:)?([A-Z0-9]{2,10})[-/]([A-Z]{3,5})")
# fmt: off
_MONEY = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNH", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR",
    "ILS", "INR", "JPY", "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "SEK", "SGD",
    "THB", "TRY", "TWD", "USD", "ZAR", "XAG", "XAU",
})
# fmt: on
_STABLE = frozenset({"USDT", "USDC", "DAI", "BUSD", "FDUSD", "BTC", "ETH"})


class Session(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    EARLY_CLOSE = "early_close"
    UNKNOWN = "unknown"


def session_of(symbol: str, provider: str) -> Session:
    """Return the session of a symbol's market."""
    if provider.startswith(_COINS_ONLY) or _is_coin(symbol):
        return Session.OPEN
    return Session.UNKNOWN


def _is_coin(symbol: str) -> bool:
    """Tell `BTC/USD` from `EUR/USD` and from a class share such as `BRK-B`."""
    pair = _PAIR.fullmatch(symbol)
    return pair is not None and pair[1] not in _MONEY and pair[2] in _MONEY | _STABLE
