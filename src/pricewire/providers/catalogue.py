"""All vendors with an anatomy, by name; the composition root makes providers of them.

Invariant: a name is here once; `polygon` is what Massive was called until 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pricewire.providers.alpaca import ALPACA
from pricewire.providers.alpha_vantage import ALPHA_VANTAGE
from pricewire.providers.anatomy import Vendor
from pricewire.providers.binance import BINANCE
from pricewire.providers.coinbase import COINBASE
from pricewire.providers.finnhub import FINNHUB
from pricewire.providers.kraken import KRAKEN
from pricewire.providers.massive import MASSIVE
from pricewire.providers.tiingo import TIINGO
from pricewire.providers.twelve_data import TWELVE_DATA
from pricewire.providers.yahoo import YAHOO

VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        vendor.name: vendor
        for vendor in (
            ALPHA_VANTAGE,
            FINNHUB,
            TWELVE_DATA,
            MASSIVE,
            ALPACA,
            TIINGO,
            YAHOO,
            COINBASE,
            BINANCE,
            KRAKEN,
        )
    }
)

OTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType({"polygon": "massive"})
