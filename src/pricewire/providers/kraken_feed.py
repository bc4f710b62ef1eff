"""Kraken's feed, keyless: the trades of version 2, and the last ones at subscribing.

Trades of a pair are counted one by one; `/0/public/Trades` has those that did not come, by their
time and not by their number. Invariant: the trades of a snapshot are old ones; prices and sizes
are JSON numbers here, and keep their digits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pricewire.domain.feed import FeedLimits, Tick
from pricewire.providers.anatomy import Answer, Request
from pricewire.providers.feed_anatomy import Feed, Fill, Gap
from pricewire.providers.feed_conversation import Conversation
from pricewire.providers.feed_fill import Trades, filled
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.kraken import KRAKEN, altname, own_symbol
from pricewire.providers.readers import (
    Members,
    Stamp,
    at,
    epoch_seconds,
    members,
    rfc3339,
    rows,
    text,
    whole,
)
from pricewire.providers.symbols import coin_currency, coin_pair

# A heartbeat comes every second.
_LIMITS: Final = FeedLimits(per_message=100, messages_per_second=5, silence_seconds=15)
_PASSED_OVER: Final = ("heartbeat", "status")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEFORE: Final = timedelta(milliseconds=1)


class _Conversation(Conversation):
    def __init__(self, _url: str, keys: Mapping[str, str]) -> None:
        super().__init__(KRAKEN, _roster(), keys, per_message=_LIMITS.per_message)

    def asking(self, own: Sequence[str]) -> str:
        return _message("subscribe", own, snapshot=True)

    def leaving(self, own: Sequence[str]) -> str:
        return _message("unsubscribe", own)

    def hear(self, body: object, heard: Heard) -> None:
        frame = members(body)
        channel = frame.get("channel")
        if channel == "trade":
            _hear_trades(frame, heard)
        elif "error" in frame:
            self._refused(frame, heard)
        elif frame.get("method") == "subscribe":
            heard.subscribed([text(members(frame.get("result")).get("symbol"))])
        elif channel not in _PASSED_OVER and "method" not in frame:
            heard.unreadable("a frame of another kind")

    def _refused(self, frame: Members, heard: Heard) -> None:
        named = text(frame.get("symbol"))
        callers = self.roster.symbols([named])
        error = self.refusal(callers)
        if callers:
            heard.refused(named, error)
        elif not named:
            heard.ended(error)


def _message(method: str, own: Sequence[str], **more: bool) -> str:
    params = {"channel": "trade", "symbol": list(own)} | more
    return json.dumps({"method": method, "params": params})


def _hear_trades(frame: Members, heard: Heard) -> None:
    old, trades = frame.get("type") == "snapshot", rows(frame.get("data"))
    # Whatever order a snapshot has: read upwards, it shows no gap that is none.
    for trade in sorted(map(members, trades), key=_number) if old else map(members, trades):
        stamp, number = rfc3339(trade.get("timestamp")), trade.get("trade_id")
        row = (trade.get("price"), trade.get("qty"), number)
        _file(trade.get("symbol"), row, stamp, heard, old=old)
    if not trades and not isinstance(frame.get("data"), list):
        heard.unreadable("trades without data")


def _number(trade: Members) -> int:
    return whole(trade.get("trade_id")) or 0


def _file(
    symbol: object,
    trade: tuple[object, object, object],
    stamp: Stamp | None,
    heard: Heard,
    *,
    old: bool = False,
) -> None:
    """File a trade: its price, size and number."""
    price, size, number = trade
    heard.tick(symbol, price, stamp, size=size, trade_id=number, count=whole(number), old=old)


def _request(gap: Gap) -> Request:
    """Ask for a thousand trades from the gap's beginning on; the newest where it is not known."""
    params = {"pair": altname(gap.symbol)}
    if gap.since is not None:
        microseconds = (gap.since - _BEFORE - _EPOCH) // timedelta(microseconds=1)
        params["since"] = f"{microseconds}000"
    return Request(path="/0/public/Trades", params=params)


def _roster() -> Roster:
    return Roster(own_symbol, coin_currency)


def _missed(body: object, symbol: str) -> Sequence[object] | None:
    """Return the trades under whatever name Kraken has for the pair."""
    for name, trades in members(members(body).get("result")).items():
        if isinstance(trades, list) and own_symbol(name) == own_symbol(symbol):
            return trades
    return None


def _file_missed(trade: object, symbol: str, heard: Heard) -> None:
    row = (at(trade, 0), at(trade, 1), at(trade, 6))
    _file(symbol, row, epoch_seconds(at(trade, 2)), heard)


def _read(answer: Answer, gap: Gap) -> list[Tick]:
    return filled(KRAKEN, _TRADES, answer, gap)


_TRADES: Final = Trades(roster=_roster, of=_missed, file=_file_missed)


def _covers(_url: str, symbol: str) -> bool:
    return coin_pair(symbol) is not None


KRAKEN_FEED: Final = Feed(
    vendor=KRAKEN,
    url="wss://ws.kraken.com/v2",
    limits=_LIMITS,
    protocol=_Conversation,
    covers=_covers,
    fill=Fill(request=_request, read=_read),
)
