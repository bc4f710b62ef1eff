"""Alpaca's feed: trades of shares (`/v2/iex`, `/v2/sip`, `/v2/delayed_sip`) or pairs, by the URL.

Alpaca greets, wants both keys, and answers each message in its order, which is how a refusal finds
the symbols that it is about. Trades have ids, per exchange and day, and no numbers. Invariant: the
keys stand in the one reply to the greeting; corrections and cancels of trades are passed over.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pricewire.domain.feed import FeedLimits, Ready, Reply
from pricewire.providers.alpaca import ALPACA
from pricewire.providers.alpaca_answers import own_symbol
from pricewire.providers.completed import counted_in
from pricewire.providers.feed_anatomy import Feed
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import Members, members, rfc3339, rows, text
from pricewire.providers.symbols import pair_of

# The free plan's symbols.
_LIMITS: Final = FeedLimits(symbols=30, per_message=100, messages_per_second=5, silence_seconds=60)
_PASSED_OVER: Final = ("q", "b", "u", "d", "c", "x", "l", "s", "o", "n")
_ALREADY: Final = 403
_OF_THE_MESSAGE: Final = (400, 405, 410)
"""Invalid syntax, symbol limit, invalid action: the message is refused, the rest goes on."""


class _Conversation(Conversation):
    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        roster = Roster(own_symbol, counted_in)
        delayed = urlsplit(url).path.rstrip("/").endswith("/delayed_sip")
        super().__init__(ALPACA, roster, keys, per_message=_LIMITS.per_message, delayed=delayed)
        self._unanswered: deque[tuple[str, ...]] = deque()

    def asking(self, own: Sequence[str]) -> str:
        self._unanswered.append(tuple(own))
        return json.dumps({"action": "subscribe", "trades": list(own)})

    def leaving(self, own: Sequence[str]) -> str:
        self._unanswered.append(())
        return json.dumps({"action": "unsubscribe", "trades": list(own)})

    def hear(self, body: object, heard: Heard) -> None:
        for frame in map(members, rows(body)):
            kind = frame.get("T")
            if kind == "t":
                _file(frame, heard)
            elif kind in ("success", "subscription", "error"):
                self._answered(kind, frame, heard)
            elif kind not in _PASSED_OVER:
                heard.unreadable("a frame of another kind")
        if not isinstance(body, list):
            heard.unreadable("a frame that is no list")

    def _answered(self, kind: str, frame: Members, heard: Heard) -> None:
        if kind == "error":
            self._refused(frame, heard)
        elif kind == "subscription":
            if self._unanswered:
                self._unanswered.popleft()
            heard.subscribed(list(filter(None, map(text, rows(frame.get("trades"))))))
        elif frame.get("msg") == "connected":
            heard.said.append(Reply(self._authentication()))
        elif frame.get("msg") == "authenticated":
            heard.said.append(Ready())

    def _authentication(self) -> str:
        key, secret = self.keys["api_key_id"], self.keys["api_secret_key"]
        return json.dumps({"action": "auth", "key": key, "secret": secret})

    def _refused(self, frame: Members, heard: Heard) -> None:
        code, error = frame.get("code"), self.refusal()
        if code == _ALREADY:
            return
        if code in _OF_THE_MESSAGE and self._unanswered:
            for own in self._unanswered.popleft():
                heard.refused(own, error)
        else:
            heard.ended(error)


def _file(trade: Members, heard: Heard) -> None:
    heard.tick(
        trade.get("S"),
        trade.get("p"),
        rfc3339(trade.get("t")),
        exchange=text(trade.get("x")) or None,
        size=trade.get("s"),
        trade_id=trade.get("i"),
    )


def _covers(url: str, symbol: str) -> bool:
    return ("/crypto" in urlsplit(url).path) is (pair_of(symbol) is not None)


ALPACA_FEED: Final = Feed(
    vendor=ALPACA,
    url="wss://stream.data.alpaca.markets/v2/iex",
    limits=_LIMITS,
    protocol=_Conversation,
    covers=_covers,
    greets=True,
)
