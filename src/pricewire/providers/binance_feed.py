"""Binance spot's streams, keyless: each trade of a symbol (`@trade`), over one connection.

Trades of a symbol are counted one by one, and `/api/v3/historicalTrades` has those that did not
come. Binance takes subscriptions of symbols that it does not have, and never says so. Invariant:
times are milliseconds; a price's symbol is that of its own frame, whatever the stream is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.domain.feed import FeedLimits, Tick
from pricewire.domain.quote import Precision
from pricewire.errors import ProviderDown
from pricewire.providers.anatomy import Answer, Request
from pricewire.providers.binance import BINANCE, counted_in, own_symbol
from pricewire.providers.binance_refusals import refusal
from pricewire.providers.feed_anatomy import Feed, Fill, Gap
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_fill import Trades, bare_list, filled
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import Members, epoch, members, whole

# Five messages a second may come from us, and the answers to its pings are among them.
_LIMITS: Final = FeedLimits(
    symbols=1024,
    per_message=200,
    messages_per_second=3,
    silence_seconds=60,
    lifetime_seconds=86_400,
)
_MOST_TRADES: Final = 1000


class _Conversation(Conversation):
    def __init__(self, _url: str, keys: Mapping[str, str]) -> None:
        super().__init__(BINANCE, _roster(), keys, per_message=_LIMITS.per_message)
        self._asked: dict[int, tuple[str, ...]] = {}
        self._messages = 0

    def asking(self, own: Sequence[str]) -> str:
        message = self._message("SUBSCRIBE", own)
        self._asked[self._messages] = tuple(own)
        return message

    def leaving(self, own: Sequence[str]) -> str:
        return self._message("UNSUBSCRIBE", own)

    def hear(self, body: object, heard: Heard) -> None:
        frame = members(body)
        data = frame.get("data")
        event = data if isinstance(data, dict) else frame
        kind = event.get("e")
        if kind == "trade":
            _file(event, event.get("s"), heard, ("p", "T", "q", "t"))
        elif kind == "serverShutdown":
            heard.ended(ProviderDown("Binance shuts this server down", retry_after=1))
        elif "code" in frame or "error" in frame:
            self._refused(frame, heard)
        elif "result" in frame:
            heard.subscribed(self._asked.pop(whole(frame.get("id")) or 0, ()))
        else:
            heard.unreadable("a frame of another kind")

    def _refused(self, frame: Members, heard: Heard) -> None:
        content = members(frame.get("error")) or frame
        heard.ended(refusal(content, str(content.get("msg") or ""), self.answer()))

    def _message(self, method: str, own: Sequence[str]) -> str:
        self._messages += 1
        streams = [f"{symbol.lower()}@trade" for symbol in own]
        return json.dumps({"method": method, "params": streams, "id": self._messages})


def _file(trade: Members, symbol: object, heard: Heard, names: Sequence[str]) -> None:
    """File a trade: its price, time, size and number by these names."""
    price, time, size, number = (trade.get(name) for name in names)
    stamp = epoch(time, Precision.MILLISECOND)
    heard.tick(symbol, price, stamp, size=size, trade_id=number, count=whole(number))


def _request(gap: Gap) -> Request:
    """Ask for the oldest trades of the gap."""
    return Request(
        path="/api/v3/historicalTrades",
        params={
            "symbol": own_symbol(gap.symbol),
            "fromId": str(gap.first),
            "limit": str(min(gap.last - gap.first + 1, _MOST_TRADES)),
        },
    )


def _roster() -> Roster:
    return Roster(own_symbol, counted_in)


def _file_missed(trade: object, symbol: str, heard: Heard) -> None:
    _file(members(trade), symbol, heard, ("price", "time", "qty", "id"))


def _read(answer: Answer, gap: Gap) -> list[Tick]:
    return filled(BINANCE, _TRADES, answer, gap)


_TRADES: Final = Trades(roster=_roster, of=bare_list, file=_file_missed)


BINANCE_FEED: Final = Feed(
    vendor=BINANCE,
    url="wss://stream.binance.com:9443/stream",
    limits=_LIMITS,
    protocol=_Conversation,
    fill=Fill(request=_request, read=_read),
)
