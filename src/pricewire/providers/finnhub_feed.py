"""Finnhub's feed: last trades, many in a frame; on free plans those of one exchange (IEX).

Trades have no ids and no numbers: what is told twice is two trades, and what does not come is not
missed. Invariant: the key travels in the URL that is dialled, since the vendor reads it nowhere
else, and in no other text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.domain.feed import FeedLimits
from pricewire.domain.quote import Precision
from pricewire.errors import ProviderError, ProviderRefused
from pricewire.providers.completed import counted_in
from pricewire.providers.feed_anatomy import Dialled, Feed, with_parameter
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.finnhub import FINNHUB
from pricewire.providers.finnhub_answers import own_symbol
from pricewire.providers.readers import Members, epoch, members, rows

# The free plan's symbols. At night and on holidays only pings come.
_LIMITS: Final = FeedLimits(symbols=50, per_message=1, messages_per_second=10, silence_seconds=120)


class _Conversation(Conversation):
    def __init__(self, _url: str, keys: Mapping[str, str]) -> None:
        roster = Roster(own_symbol, counted_in)
        super().__init__(FINNHUB, roster, keys, per_message=_LIMITS.per_message)

    def asking(self, own: Sequence[str]) -> str:
        return json.dumps({"type": "subscribe", "symbol": own[0]})

    def leaving(self, own: Sequence[str]) -> str:
        return json.dumps({"type": "unsubscribe", "symbol": own[0]})

    def hear(self, body: object, heard: Heard) -> None:
        frame = members(body)
        kind = frame.get("type")
        if kind == "trade" and isinstance(frame.get("data"), list):
            for trade in map(members, rows(frame["data"])):
                stamp = epoch(trade.get("t"), Precision.MILLISECOND)
                heard.tick(trade.get("s"), trade.get("p"), stamp, size=trade.get("v"))
        elif kind == "error":
            self._refused(frame, heard)
        elif kind != "ping":
            heard.unreadable("a frame of another kind")

    def _refused(self, frame: Members, heard: Heard) -> None:
        """Refuse the symbol that the text ends with, or everything where it names none."""
        words = str(frame.get("msg") or "")
        named = words.rpartition(" ")[2]
        callers = self.roster.symbols([named])
        error = self.refusal(callers)
        if callers:
            heard.refused(named, error)
        else:
            heard.ended(_of_the_plan(words, error))


def _of_the_plan(words: str, error: ProviderError) -> ProviderError:
    if "too many symbols" in words.lower():
        return ProviderRefused(error.detail, code="premium_required")
    return error


def _dial(url: str, keys: Mapping[str, str]) -> Dialled:
    return Dialled(url=with_parameter(url, "token", keys["api_key"]))


FINNHUB_FEED: Final = Feed(
    vendor=FINNHUB,
    url="wss://ws.finnhub.io",
    limits=_LIMITS,
    protocol=_Conversation,
    dial=_dial,
)
