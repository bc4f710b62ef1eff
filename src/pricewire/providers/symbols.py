"""Callers' symbols in the vendors' forms; every vendor's file asks with these.

Class shares, pairs and indices are written differently everywhere. Invariant: what is not one of
these three is passed on as it is, and so is a vendor's own form.
"""

from __future__ import annotations

import re
from typing import Final

from pricewire.domain.pair import Pair, pair_of

__all__ = ["Pair", "class_share", "coin_currency", "coin_pair", "index_of", "pair_of"]

_CLASS_SHARE: Final = re.compile(r"([A-Z]{1,5})[.-]([A-Z])")
_INDEX: Final = re.compile(r"(?:\^|I:)([A-Z0-9]+)")
_INDICES: Final = {"GSPC": "SPX"}


def class_share(symbol: str, separator: str) -> str:
    """Return BRK.B or BRK-B with `separator`; any other symbol as it is."""
    match = _CLASS_SHARE.fullmatch(symbol)
    return f"{match[1]}{separator}{match[2]}" if match else symbol


def index_of(symbol: str) -> str | None:
    """Return SPX for ^GSPC, ^SPX and I:SPX; None for what is no index."""
    match = _INDEX.fullmatch(symbol)
    return _INDICES.get(match[1], match[1]) if match else None


# Crypto exchanges: every symbol is a pair, and each writes it in its own way.

# Without TUSD and BUSD: DOTUSD and ARBUSD are far more than BTCTUSD ever was.
_QUOTES: Final = (
    "FDUSD|USDT|USDC|USDD|PYUSD|RLUSD|DAI|USD|EUR|GBP|JPY|CHF|CAD|AUD|TRY|BRL|PLN|BTC|XBT|ETH|BNB"
)
_JOINED: Final = re.compile(rf"([A-Z0-9]{{2,10}}?)({_QUOTES})")
_SEPARATED: Final = re.compile(r"([A-Z0-9]{1,20})[/_-]([A-Z0-9]{2,20})")
_LEGACY: Final = re.compile(
    r"[XZ](XBT|XDG|ETC|ETH|LTC|MLN|REP|XLM|XMR|XRP|ZEC|EUR|GBP|USD|AUD|CAD)"
    r"[XZ](XBT|ETH|EUR|GBP|USD|JPY|CAD|AUD)"
)
_RENAMED: Final = {"XBT": "BTC", "XDG": "DOGE"}


def coin_pair(symbol: str) -> Pair | None:
    """Return both codes, BTC and USD, of BTC/USD, btc-usd, BTC_USD, BTCUSD, XBTUSD or XXBTZUSD."""
    upper = symbol.upper()
    for form in (_SEPARATED, _LEGACY, _JOINED):
        if match := form.fullmatch(upper):
            base, quote = match.groups()
            return Pair(_RENAMED.get(base, base), _RENAMED.get(quote, quote))
    return pair_of(upper)


def coin_currency(symbol: str) -> str | None:
    """Return what a price of the pair is counted in."""
    pair = coin_pair(symbol)
    return pair.quote if pair else None
