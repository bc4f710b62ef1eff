"""The frames of Kraken's feeds: objects of version 2, arrays of version 1; `kraken` calls this.

Invariant: a frame without a price is told as such, never read as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pricewire.errors import NotAPrice
from pricewire.providers.found import Found
from pricewire.providers.readers import at, epoch_seconds, members, rfc3339, rows, text
from pricewire.providers.symbols import coin_currency

_NONE: Final = "Kraken sent a frame without a price"


def read_object(frame: Mapping[str, object], found: Found) -> None:
    """File the prices of a frame of version 2.

    Raises:
        NotAPrice: it has none.
    """
    channel = frame.get("channel")
    if channel not in ("ticker", "trade", "ohlc"):
        raise NotAPrice(_NONE)
    for content in map(members, rows(frame.get("data"))):
        if (symbol := found.caller(content.get("symbol"))) is None:
            continue
        if channel == "ticker":
            _read_ticker(content, symbol, found)
        elif channel == "trade":
            _read_trade(content, symbol, found)
        else:
            _read_bar(content, symbol, found)


def _read_ticker(content: Mapping[str, object], symbol: str, found: Found) -> None:
    # Older frames have no time.
    given = "timestamp" in content
    found.quote(
        symbol,
        content.get("last"),
        rfc3339(content["timestamp"]) if given else found.no_time,
        currency=coin_currency(symbol),
        bid=content.get("bid"),
        ask=content.get("ask"),
    )


def _read_trade(content: Mapping[str, object], symbol: str, found: Found) -> None:
    found.quote(
        symbol,
        content.get("price"),
        rfc3339(content.get("timestamp")),
        currency=coin_currency(symbol),
        size=content.get("qty"),
        trade_id=content.get("trade_id"),
    )


def _read_bar(content: Mapping[str, object], symbol: str, found: Found) -> None:
    minutes = content.get("interval")
    found.bar(
        symbol,
        rfc3339(content.get("interval_begin")),
        [content.get(name) for name in ("open", "high", "low", "close")],
        volume=content.get("volume"),
        interval=f"{minutes}m" if isinstance(minutes, int) else None,
        currency=coin_currency(symbol),
    )


def read_array(frame: object, found: Found) -> None:
    """File the prices of a frame of version 1: [channel id, data, channel, pair].

    Raises:
        NotAPrice: it has none.
    """
    channel, pair = text(at(frame, 2)), at(frame, 3)
    symbol = found.asked(pair)
    content = at(frame, 1)
    if channel == "ticker":
        ticker = members(content)
        last, bid, ask = (at(ticker.get(name), 0) for name in "cba")
        currency = coin_currency(symbol)
        found.quote(symbol, last, found.no_time, currency=currency, bid=bid, ask=ask)
    elif channel == "trade":
        for trade in rows(content):
            found.quote(
                symbol,
                at(trade, 0),
                epoch_seconds(at(trade, 2)),
                currency=coin_currency(symbol),
                size=at(trade, 1),
            )
    elif channel.startswith("ohlc"):
        _read_array_bar(content, channel, symbol, found)
    else:
        raise NotAPrice(_NONE)


def _read_array_bar(content: object, channel: str, symbol: str, found: Found) -> None:
    # [time of the last change, end of the interval, open, high, low, close, average, volume, …]
    minutes = channel.removeprefix("ohlc-")
    known = minutes.isascii() and minutes.isdigit() and len(minutes) <= 5
    end = epoch_seconds(at(content, 1))
    found.bar(
        symbol,
        end.before(60 * int(minutes)) if end and known else None,
        [at(content, place) for place in (2, 3, 4, 5)],
        volume=at(content, 7),
        interval=f"{minutes}m",
        currency=coin_currency(symbol),
    )
