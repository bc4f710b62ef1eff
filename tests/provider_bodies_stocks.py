"""Bodies of the stock vendors, as the tests of all providers take them.

`body("finnhub", "quote")` gives one; `BODIES` are the seeds of what is mutated.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from tests.stock_bodies import alpaca, finnhub, massive, tiingo, twelve_data


class Body(NamedTuple):
    provider: str
    name: str
    body: bytes
    status: int
    symbols: tuple[str, ...]
    url: str


_ALL = {
    "finnhub": finnhub.CASES,
    "twelve_data": twelve_data.CASES,
    "massive": massive.CASES,
    "alpaca": alpaca.CASES,
    "tiingo": tiingo.CASES,
}

BODIES: list[Body] = [
    Body(
        provider,
        name,
        content if isinstance(content, bytes) else json.dumps(content).encode(),
        status,
        tuple(symbols.split(",")),
        "",
    )
    for provider, cases in _ALL.items()
    for name, content, status, symbols in cases
]

_BY_NAME = {(case.provider, case.name): case for case in BODIES}


def body(provider: str, name: str) -> Body:
    return _BY_NAME[provider, name]
