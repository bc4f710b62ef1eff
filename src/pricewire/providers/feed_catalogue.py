"""All feeds, by the names of their providers; the composition root makes drivers of them.

Invariant: a feed's name is its vendor's in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pricewire.providers.coinbase_feed import COINBASE_FEED
from pricewire.providers.feed_anatomy import Feed

FEEDS: Final[Mapping[str, Feed]] = MappingProxyType({feed.name: feed for feed in (COINBASE_FEED,)})
