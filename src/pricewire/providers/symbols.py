"""Callers' symbols in the vendors' forms; every vendor's file asks with these.

Class shares, pairs and indices are written differently everywhere. Invariant: what is not one of
these three is passed on as it is, and so is a vendor's own form.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_FIAT: Final = frozenset(
    re.findall(
        r"[A-Z]{3}",
        "AED ARS AUD BGN BRL CAD CHF CLP CNH CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS "
        "INR ISK JPY KES KRW KWD MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD RUB "
        "SAR SEK SGD THB TRY TWD UAH USD VND XAG XAU ZAR",
    )
)
_COINS: Final = frozenset(("USDT", "USDC", "BTC", "ETH"))
_SLASHED: Final = re.compile(r"([A-Z0-9]{2,10})/([A-Z]{3,5})")
_DASHED: Final = re.compile(r"([A-Z0-9]{2,10})-([A-Z]{3,5})")
_YAHOO: Final = re.compile(r"([A-Z]{3})?([A-Z]{3})=X")
_CLASS_SHARE: Final = re.compile(r"([A-Z]{1,5})[.-]([A-Z])")
_INDEX: Final = re.compile(r"(?:\^|I:)([A-Z0-9]+)")
_INDICES: Final = {"GSPC": "SPX"}


class Pair(NamedTuple):
    """A price of `base`, counted in `quote`."""

    base: str
    quote: str

    @property
    def is_fiat(self) -> bool:
        return self.base in _FIAT and self.quote in _FIAT


def pair_of(symbol: str) -> Pair | None:
    """Return both codes of BTC/USD, BTC-USD or EURUSD=X; None for a share such as BRK-B."""
    if match := _SLASHED.fullmatch(symbol):
        return Pair(match[1], match[2])
    if match := _YAHOO.fullmatch(symbol):
        return Pair(match[1] or "USD", match[2])
    match = _DASHED.fullmatch(symbol)
    return Pair(match[1], match[2]) if match and match[2] in _FIAT | _COINS else None


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
