"""Twelve Data's feed: prices as they change, without ids or numbers, known to the second.

It wants to hear a heartbeat every ten seconds. A price names its exchange, and of the same name on
several exchanges the one that was asked for with it (`VOD:LSE`) is meant before the bare one.
Invariant: the key travels in the URL that is dialled, and in no other text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.domain.feed import FeedLimits
from pricewire.domain.quote import Precision
from pricewire.errors import ProviderDown, ProviderError, ProviderRefused, UnknownSymbol
from pricewire.providers.completed import counted_in
from pricewire.providers.feed_anatomy import Dialled, Feed, with_parameter
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import Members, epoch, members, rows, text
from pricewire.providers.refusals import detail
from pricewire.providers.twelve_data import TWELVE_DATA
from pricewire.providers.twelve_data_answers import own_symbol

_LIMITS: Final = FeedLimits(
    per_message=100,
    messages_per_second=2,
    silence_seconds=35,
    heartbeat_seconds=10,
    heartbeat='{"action": "heartbeat"}',
)
_PASSED_OVER: Final = ("heartbeat", "unsubscribe-status", "reset-status")
_PLAN_WORDING: Final = ("not authorized", "available starting with", "upgrad", "plan", "limit")
_WORDS: Final = ("message", "msg", "reason")


class _Conversation(Conversation):
    def __init__(self, _url: str, keys: Mapping[str, str]) -> None:
        roster = Roster(own_symbol, counted_in)
        super().__init__(TWELVE_DATA, roster, keys, per_message=_LIMITS.per_message)

    def asking(self, own: Sequence[str]) -> str:
        return json.dumps({"action": "subscribe", "params": {"symbols": ",".join(own)}})

    def leaving(self, own: Sequence[str]) -> str:
        return json.dumps({"action": "unsubscribe", "params": {"symbols": ",".join(own)}})

    def hear(self, body: object, heard: Heard) -> None:
        frame = members(body)
        event = frame.get("event")
        if event == "price":
            self._file(frame, heard)
        elif event == "subscribe-status":
            self._answered(frame, heard)
        elif frame.get("status") == "error" or "code" in frame:
            heard.ended(self.refusal())
        elif event not in _PASSED_OVER:
            heard.unreadable("a frame of another kind")

    def _file(self, price: Members, heard: Heard) -> None:
        heard.tick(
            self._named(price),
            price.get("price"),
            epoch(price.get("timestamp"), Precision.SECOND),
            currency=text(price.get("currency")) or None,
            exchange=text(price.get("exchange")) or None,
            bid=price.get("bid"),
            ask=price.get("ask"),
        )

    def _named(self, about: object) -> str:
        """Return the form under which a symbol with an exchange was asked for."""
        content = members(about)
        name = text(content.get("symbol"))
        venues = (text(content.get("exchange")), text(content.get("mic_code")))
        exact = (f"{name}:{venue}" for venue in filter(None, venues))
        return next((form for form in exact if self.roster.find(form)), name)

    def _answered(self, frame: Members, heard: Heard) -> None:
        heard.subscribed([self._named(one) for one in rows(frame.get("success"))])
        fails = rows(frame.get("fails"))
        for fail in fails:
            named = self._named(fail)
            if not self.roster.find(named):
                heard.unreadable("a refusal of a symbol that nobody asked for")
            heard.refused(named, self._of_one(members(fail), named))
        if frame.get("status") == "error" and not fails:
            words = "; ".join(filter(None, map(text, rows(frame.get("messages")))))
            heard.ended(ProviderDown(detail(self.vendor.title, words, self.answer())))

    def _of_one(self, fail: Members, named: str) -> ProviderError:
        said = next((fail[name] for name in _WORDS if isinstance(fail.get(name), str)), "")
        words = said or f"no {named}"
        told = detail(self.vendor.title, words, self.answer())
        if any(wording in words.lower() for wording in _PLAN_WORDING):
            return ProviderRefused(told, code="premium_required")
        return UnknownSymbol(told)


def _dial(url: str, keys: Mapping[str, str]) -> Dialled:
    return Dialled(url=with_parameter(url, "apikey", keys["api_key"]))


TWELVE_DATA_FEED: Final = Feed(
    vendor=TWELVE_DATA,
    url="wss://ws.twelvedata.com/v1/quotes/price",
    limits=_LIMITS,
    protocol=_Conversation,
    dial=_dial,
)
