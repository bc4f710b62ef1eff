"""Bodies of every provider: what mutations start from, and what servers in tests answer with."""

from __future__ import annotations

from tests.keyless_bodies import alpha_vantage, binance, coinbase, kraken, yahoo
from tests.provider_bodies_stocks import BODIES as STOCK_BODIES
from tests.provider_bodies_stocks import Body

CASES = [
    *alpha_vantage.CASES,
    *coinbase.CASES,
    *binance.CASES,
    *kraken.CASES,
    *yahoo.CASES,
]
"""Those that say themselves what they are to be read as."""

BODIES: list[Body] = [*STOCK_BODIES, *(case.body for case in CASES)]
