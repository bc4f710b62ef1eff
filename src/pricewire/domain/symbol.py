"""The caller's name of an instrument; every way in calls `parse_symbol` first.

Invariant: a symbol holds no `~` (event ids are `<symbol>~<sequence>`), no control character and no
white space, so that it can be a Kafka key, a part of an id and a log field as it is. The caller's
form is kept: nothing is folded or trimmed.
"""

from __future__ import annotations

import re

from pricewire.errors import InvalidSymbol

MAX_SYMBOL_LENGTH = 32

_SYMBOL = re.compile(rf"[A-Za-z0-9^.$][A-Za-z0-9^.$&:/=_-]{{0,{MAX_SYMBOL_LENGTH - 1}}}")

_RULE = (
    f"a symbol has 1 to {MAX_SYMBOL_LENGTH} letters, digits or . ^ - / : = _ & $, "
    "such as BRK.B, ^GSPC, BTC-USD, EUR/USD, BINANCE:BTCUSDT or EURUSD=X"
)


def is_symbol(text: str) -> bool:
    return _SYMBOL.fullmatch(text) is not None


def parse_symbol(text: str) -> str:
    """Return `text` if it is a symbol.

    Raises:
        InvalidSymbol: says what is allowed.
    """
    if not is_symbol(text):
        raise InvalidSymbol(f"{text[:64]!r} is no symbol: {_RULE}")
    return text
