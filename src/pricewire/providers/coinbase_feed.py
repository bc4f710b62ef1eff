"""Coinbase Exchange's feed, keyless: its trades (channel `matches`) and its heartbeats.

Trades of a product are counted one by one, and `/products/ID/trades` has those that did not come.
A product that Coinbase does not know makes it refuse the whole message; the others are asked for
again. Invariant: `last_match`, which is told at subscribing, is an old trade; what the channel
`ticker` says are the same trades once more, and is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.domain.feed import FeedLimits, Reply, Tick
from pricewire.providers.anatomy import Answer, Request, segment
from pricewire.providers.coinbase import COINBASE, own_symbol
from pricewire.providers.feed_anatomy import Feed, Fill, Gap
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_fill import Trades, bare_list, filled
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import Members, members, rfc3339, rows, text, whole
from pricewire.providers.symbols import coin_currency, coin_pair

_LIMITS: Final = FeedLimits(per_message=100, messages_per_second=10, silence_seconds=15)
_PASSED_OVER: Final = ("heartbeat", "ticker")
_PRODUCT: Final = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{2,20}")
_MOST_TRADES: Final = 1000


class _Conversation(Conversation):
    def __init__(self, _url: str, keys: Mapping[str, str]) -> None:
        super().__init__(COINBASE, _roster(), keys, per_message=_LIMITS.per_message)
        self._unanswered: list[list[str]] = []

    def asking(self, own: Sequence[str]) -> str:
        self._unanswered.append(list(own))
        return _message("subscribe", own)

    def leaving(self, own: Sequence[str]) -> str:
        return _message("unsubscribe", own)

    def hear(self, body: object, heard: Heard) -> None:
        frame = members(body)
        kind = frame.get("type")
        if kind in ("match", "last_match"):
            _file(frame, frame.get("product_id"), heard, old=kind == "last_match")
        elif kind == "subscriptions":
            self._confirmed(frame, heard)
        elif kind == "error":
            self._refused(frame, heard)
        elif kind not in _PASSED_OVER:
            heard.unreadable("a frame of another kind")

    def _confirmed(self, frame: Members, heard: Heard) -> None:
        names: list[str] = []
        for channel in map(members, rows(frame.get("channels"))):
            if channel.get("name") == "matches":
                names += filter(None, map(text, rows(channel.get("product_ids"))))
        self._unanswered = [
            left for asked in self._unanswered if (left := [o for o in asked if o not in names])
        ]
        heard.subscribed(names)

    def _refused(self, frame: Members, heard: Heard) -> None:
        words = f"{frame.get('message')} {frame.get('reason')}"
        bad = [name for name in _PRODUCT.findall(words) if self.roster.find(name)]
        for name in bad:
            callers = self.roster.symbols([name])
            heard.refused(name, self.refusal(callers))
            self._ask_again(name, heard)
        if not bad:
            heard.ended(self.refusal())

    def _ask_again(self, bad: str, heard: Heard) -> None:
        """Ask for those that were in one message with a product that is refused."""
        together = [asked for asked in self._unanswered if bad in asked]
        self._unanswered = [asked for asked in self._unanswered if bad not in asked]
        for asked in together:
            if left := [own for own in asked if self.roster.find(own)]:
                heard.said.append(Reply(self.asking(left)))


def _message(what: str, own: Sequence[str]) -> str:
    channels = ["matches", "heartbeat"]
    return json.dumps({"type": what, "product_ids": list(own), "channels": channels})


def _file(trade: Members, product: object, heard: Heard, *, old: bool = False) -> None:
    """File a trade of the feed or of REST."""
    number = trade.get("trade_id")
    heard.tick(
        product,
        trade.get("price"),
        rfc3339(trade.get("time")),
        size=trade.get("size"),
        trade_id=number,
        count=whole(number),
        old=old,
    )


def _request(gap: Gap) -> Request:
    """Ask for the newest trades of the gap: `after` means older than, and the newest come first."""
    own, limit = own_symbol(gap.symbol), min(gap.last - gap.first + 1, _MOST_TRADES)
    return Request(
        path=f"/products/{segment(own)}/trades",
        params={"after": str(gap.last + 1), "limit": str(limit)},
    )


def _roster() -> Roster:
    return Roster(own_symbol, coin_currency)


def _file_missed(trade: object, symbol: str, heard: Heard) -> None:
    _file(members(trade), symbol, heard)


def _read(answer: Answer, gap: Gap) -> list[Tick]:
    return filled(COINBASE, _TRADES, answer, gap)


_TRADES: Final = Trades(roster=_roster, of=bare_list, file=_file_missed)


def _covers(_url: str, symbol: str) -> bool:
    return coin_pair(symbol) is not None


COINBASE_FEED: Final = Feed(
    vendor=COINBASE,
    url="wss://ws-feed.exchange.coinbase.com",
    limits=_LIMITS,
    protocol=_Conversation,
    covers=_covers,
    fill=Fill(request=_request, read=_read),
)
