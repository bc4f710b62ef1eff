"""Symbols in Massive's forms: BRK.B, X:BTCUSD, C:EURUSD, I:SPX; its requests and answers use them.

Invariant: a form of Massive's own is passed on as it is, in its own case: `BACpE` is a share.
"""

from __future__ import annotations

from collections.abc import Iterator

from pricewire.providers.readers import text
from pricewire.providers.symbols import class_share, index_of, pair_of


def own_symbol(symbol: str) -> str:
    """Return Massive's form of a caller's symbol."""
    if (pair := pair_of(symbol)) is not None:
        return f"{'C' if pair.is_fiat else 'X'}:{pair.base}{pair.quote}"
    index = index_of(symbol)
    return f"I:{index}" if index else class_share(symbol, ".")


def is_pair(named: object) -> bool:
    return text(named).startswith(("X:", "C:"))


def answered_forms(named: object) -> Iterator[object]:
    """Return a symbol of an answer, and what a caller may have meant by it: BTC-USD, AUD/USD."""
    yield named
    yield own_symbol(text(named).replace("-", "/"))
