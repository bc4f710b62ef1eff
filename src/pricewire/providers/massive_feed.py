"""Massive's feed: trades of shares, options and coins, quotes of money, values of indices, by URL.

Massive greets, wants the key, and confirms each channel by a text; it takes subscriptions of
symbols that it does not have, and never says so. Trades have ids, per exchange and day, and no
numbers that are one apart. Invariant: the key stands in the one reply to the greeting; all times
count milliseconds; a socket of the host `delayed` gives delayed prices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from pricewire.domain.feed import FeedLimits, Ready, Reply
from pricewire.domain.quote import Precision, PriceKind
from pricewire.errors import ProviderDown, ProviderError, ProviderRefused, Throttle, Throttled
from pricewire.providers.completed import counted_in
from pricewire.providers.feed_anatomy import Feed
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.massive import MASSIVE
from pricewire.providers.massive_symbols import answered_forms, own_symbol
from pricewire.providers.readers import Members, epoch, identity, members, mid, rows, text
from pricewire.providers.refusals import detail
from pricewire.providers.symbols import coin_pair

_LIMITS: Final = FeedLimits(per_message=100, messages_per_second=5, silence_seconds=60)
_MS: Final = Precision.MILLISECOND
_CLUSTERS: Final = {"X": "crypto", "C": "forex", "I": "indices", "O": "options"}
_CHANNEL: Final = re.compile(r"(?:XT|T|C|V)\.([A-Za-z0-9.:/_-]{1,64})")


class _Conversation(Conversation):
    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        delayed = (urlsplit(url).hostname or "").startswith("delayed.")
        roster = Roster(own_symbol, counted_in)
        super().__init__(MASSIVE, roster, keys, per_message=_LIMITS.per_message, delayed=delayed)

    def asking(self, own: Sequence[str]) -> str:
        return json.dumps({"action": "subscribe", "params": ",".join(map(_channel, own))})

    def leaving(self, own: Sequence[str]) -> str:
        return json.dumps({"action": "unsubscribe", "params": ",".join(map(_channel, own))})

    def hear(self, body: object, heard: Heard) -> None:
        for event in map(members, rows(body)):
            kind = text(event.get("ev"))
            if kind == "status":
                self._answered(event, heard)
            elif kind in _READERS:
                _READERS[kind](event, heard)
            else:
                heard.unreadable("an event of another kind")
        if not isinstance(body, list):
            heard.unreadable("a frame that is no list")

    def _answered(self, event: Members, heard: Heard) -> None:
        status, words = text(event.get("status")), event.get("message")
        words = words if isinstance(words, str) else ""
        if status == "connected":
            key = self.keys["api_key"]
            heard.said.append(Reply(json.dumps({"action": "auth", "params": key})))
        elif status == "auth_success":
            heard.said.append(Ready())
        elif status == "success":
            if not words.startswith("un"):
                heard.subscribed(_CHANNEL.findall(words))
        else:
            self._refused(status, words, heard)

    def _refused(self, status: str, words: str, heard: Heard) -> None:
        told = detail(self.vendor.title, words or status, self.answer())
        error = _refusal(status, words.lower(), told)
        named = [name for name in _CHANNEL.findall(words) if self.roster.find(name)]
        for name in named:
            heard.refused(name, error)
        if not named:
            heard.ended(error)


def _channel(own: str) -> str:
    """Return what to subscribe for T.AAPL, XT.BTC-USD, C.EUR-USD, V.I:SPX."""
    kind, _, code = own.rpartition(":")
    if kind == "I":
        return f"V.{own}"
    if kind not in ("X", "C"):
        return f"T.{own}"
    pair = coin_pair(code) if kind == "X" else None
    base, quote = pair or (code[:-3], code[-3:])
    return f"{'XT' if kind == 'X' else 'C'}.{base}-{quote}"


def _refusal(status: str, lower: str, told: str) -> ProviderError:
    if "not authorized" in lower or "plan" in lower:
        return ProviderRefused(told, code="premium_required")
    if status == "auth_failed":
        return ProviderRefused(told, code="invalid_key")
    if status == "max_connections":
        return Throttled(told, throttle=Throttle.UNSPECIFIED, retry_after=60)
    # Too slow in reading or in giving the key, or whatever else ends a connection.
    return ProviderDown(told)


def _wanted(heard: Heard, named: object) -> str:
    """Return the form of an event's symbol that somebody asked for: X:BTCUSD for BTC-USD."""
    forms = (text(form) for form in answered_forms(named))
    return next((form for form in forms if heard.roster.find(form)), text(named))


def _read_trade(event: Members, heard: Heard) -> None:
    heard.tick(
        _wanted(heard, event.get("sym", event.get("pair"))),
        event.get("p"),
        epoch(event.get("t"), _MS),
        exchange=identity(event.get("x")),
        size=event.get("s"),
        trade_id=event.get("i"),
    )


def _read_quote(event: Members, heard: Heard) -> None:
    bid, ask, stamp = event.get("b"), event.get("a"), epoch(event.get("t"), _MS)
    named, price = _wanted(heard, event.get("p")), mid(event.get("b"), event.get("a"))
    heard.tick(named, price, stamp, kind=PriceKind.MID, bid=bid, ask=ask)


def _read_value(event: Members, heard: Heard) -> None:
    heard.tick(_wanted(heard, event.get("T")), event.get("val"), epoch(event.get("t"), _MS))


_READERS: Final[Mapping[str, Callable[[Members, Heard], None]]] = {
    "T": _read_trade,
    "XT": _read_trade,
    "C": _read_quote,
    "V": _read_value,
}


def _covers(url: str, symbol: str) -> bool:
    """Tell whether a symbol is of the socket's kind; one that is of no known kind has them all."""
    cluster = urlsplit(url).path.strip("/").rpartition("/")[2]
    kind, colon, _ = own_symbol(symbol).partition(":")
    known = {"stocks", *_CLUSTERS.values()}
    return cluster not in known or cluster == (_CLUSTERS.get(kind) if colon else "stocks")


MASSIVE_FEED: Final = Feed(
    vendor=MASSIVE,
    url="wss://socket.massive.com/stocks",
    limits=_LIMITS,
    protocol=_Conversation,
    covers=_covers,
    greets=True,
)
