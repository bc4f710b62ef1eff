"""Pairs: prices of one money or coin, counted in another.

`domain.exchange` tells coins and money from shares with it, `providers.symbols` the vendors' forms.
Invariant: a class share such as BRK-B is never taken for a pair.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

METALS: Final = frozenset(("XAG", "XAU"))
FIAT: Final = METALS | frozenset(
    re.findall(
        r"[A-Z]{3}",
        "AED ARS AUD BGN BRL CAD CHF CLP CNH CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS "
        "INR ISK JPY KES KRW KWD MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD RUB "
        "SAR SEK SGD THB TRY TWD UAH USD VND ZAR",
    )
)
_COINS: Final = frozenset(("USDT", "USDC", "BTC", "ETH", "DAI", "BUSD", "FDUSD"))
_SLASHED: Final = re.compile(r"([A-Z0-9]{2,10})/([A-Z]{3,5})")
_DASHED: Final = re.compile(r"([A-Z0-9]{2,10})-([A-Z]{3,5})")
_YAHOO: Final = re.compile(r"([A-Z]{3})?([A-Z]{3})=X")


class Pair(NamedTuple):
    """A price of `base`, counted in `quote`."""

    base: str
    quote: str

    @property
    def is_fiat(self) -> bool:
        return self.base in FIAT and self.quote in FIAT


def pair_of(symbol: str) -> Pair | None:
    """Return both codes of BTC/USD, BTC-USD or EURUSD=X; None for a share such as BRK-B."""
    if match := _SLASHED.fullmatch(symbol):
        return Pair(match[1], match[2])
    if match := _YAHOO.fullmatch(symbol):
        return Pair(match[1] or "USD", match[2])
    match = _DASHED.fullmatch(symbol)
    return Pair(match[1], match[2]) if match and is_money(match[2]) else None


def is_money(code: str) -> bool:
    """Tell whether prices are commonly counted in it."""
    return code in FIAT or code in _COINS
