"""All feeds, by the names of their providers; the composition root makes drivers of them.

Invariant: a feed's name is its vendor's in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pricewire.providers.alpaca_feed import ALPACA_FEED
from pricewire.providers.binance_feed import BINANCE_FEED
from pricewire.providers.coinbase_feed import COINBASE_FEED
from pricewire.providers.feed_anatomy import Feed
from pricewire.providers.finnhub_feed import FINNHUB_FEED
from pricewire.providers.kraken_feed import KRAKEN_FEED
from pricewire.providers.massive_feed import MASSIVE_FEED
from pricewire.providers.twelve_data_feed import TWELVE_DATA_FEED

FEEDS: Final[Mapping[str, Feed]] = MappingProxyType(
    {
        feed.name: feed
        for feed in (
            COINBASE_FEED,
            BINANCE_FEED,
            KRAKEN_FEED,
            FINNHUB_FEED,
            ALPACA_FEED,
            TWELVE_DATA_FEED,
            MASSIVE_FEED,
        )
    }
)
