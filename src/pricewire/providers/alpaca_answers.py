"""Alpaca's answers, bytes to quotes and bars; pure, called by `alpaca` for each raw answer.

Answers are keyed by symbol, and one that Alpaca does not know is left out of them. Invariant: a
quote has the digits and the nanoseconds that the vendor sent; any other body is a `ProviderError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Final

from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer, Parsed
from pricewire.providers.bar_times import bar_times
from pricewire.providers.completed import complete, owner
from pricewire.providers.found import Found
from pricewire.providers.mids import file_mid
from pricewire.providers.readers import (
    Members,
    NotJson,
    members,
    parameter,
    read_json,
    rfc3339,
    rows,
    text,
)
from pricewire.providers.refusals import by_status, detail, plain, wait
from pricewire.providers.symbols import class_share, pair_of

_VENDOR: Final = "Alpaca"
_ABSENT: Final = re.compile(
    r"invalid symbol|no (trade|quote|bar|snapshot)s? found|(asset|symbol|trade|quote|bar) not found"
)


def own_symbol(symbol: str) -> str:
    """Return Alpaca's form: BRK.B, BTC/USD."""
    if (pair := pair_of(symbol)) is not None:
        return f"{pair.base}/{pair.quote}"
    return class_share(symbol, ".")


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise by_status(_VENDOR, plain(answer), answer) from None
    content = members(body)
    if "message" in content or answer.status != 200:
        words = content.get("message")
        raise _refusal(words if isinstance(words, str) else "", answer)
    delayed = parameter(answer.url, "feed") == "delayed_sip"
    found = Found(_VENDOR, answer, own_symbol, delayed=delayed)
    if isinstance(body, list):
        _read_frames([members(frame) for frame in body], found)
    elif isinstance(content.get("symbol"), str):
        _read_one(content, found)
    elif isinstance(body, dict):
        _read_map(content, found)
    else:
        raise NotAPrice("Alpaca answered something that is no price")
    # A symbol that is not known is left out, and so may be all.
    is_empty = isinstance(body, dict) and all(value in ({}, None) for value in content.values())
    return complete(found, is_empty=is_empty)


def _read_one(content: Members, found: Found) -> None:
    symbol = found.asked(content["symbol"])
    for name, item in content.items():
        if name in _READERS:
            _read_each(_READERS[name], symbol, item, found)
    if "latestTrade" in content:
        _read_snapshot(symbol, content, found)


def _read_map(content: Members, found: Found) -> None:
    kinds = [name for name in content if name in _READERS]
    for kind in kinds:
        if not isinstance(content[kind], dict | NoneType):
            raise NotAPrice(f"Alpaca gave {kind} in another shape")
        for name, item in members(content[kind]).items():
            if (symbol := owner(found, name)) is not None:
                _read_each(_READERS[kind], symbol, item, found)
    for name, item in ({} if kinds else content).items():
        if isinstance(item, dict) and (symbol := owner(found, name)) is not None:
            _read_snapshot(symbol, item, found)


def _read_each(read: Reader, symbol: str, item: object, found: Found) -> None:
    for row in rows(item) if isinstance(item, list) else (item,):
        read(symbol, members(row), found)


def _read_trade(symbol: str, trade: Members, found: Found) -> None:
    found.quote(
        symbol,
        trade.get("p"),
        rfc3339(trade.get("t")),
        exchange=text(trade.get("x")) or None,
        size=trade.get("s"),
        trade_id=trade.get("i"),
    )


def _read_quote(symbol: str, quote: Members, found: Found) -> None:
    sides = (quote.get("bp"), quote.get("ap"))
    file_mid(found, symbol, sides, rfc3339(quote.get("t")))


def _read_bar(symbol: str, bar: Members, found: Found) -> None:
    interval = parameter(found.answer.url, "timeframe")
    is_pair = pair_of(symbol) is not None
    # Shares are not traded at midnight in New York, pairs are at any.
    within_a_day = is_pair and not interval.endswith(("Day", "D"))
    zone = "UTC" if is_pair else "America/New_York"
    stamp = bar_times([rfc3339(bar.get("t"))], zone, within_a_day=within_a_day)[0]
    found.bar(
        symbol,
        stamp,
        [bar.get(side) for side in "ohlc"],
        volume=bar.get("v"),
        interval=interval or None,
    )


def _read_snapshot(symbol: str, snapshot: Members, found: Found) -> None:
    _read_trade(symbol, members(snapshot.get("latestTrade")), found)


Reader = Callable[[str, Members, Found], None]
_READERS: Final[Mapping[str, Reader]] = {
    "trade": _read_trade,
    "trades": _read_trade,
    "quote": _read_quote,
    "quotes": _read_quote,
    "bar": _read_bar,
    "bars": _read_bar,
    "snapshots": _read_snapshot,
}
_FRAMES: Final[Mapping[str, Reader]] = {
    "t": _read_trade,
    "q": _read_quote,
    "b": _read_bar,
    "u": _read_bar,
    "d": _read_bar,
}


def _read_frames(frames: Sequence[Members], found: Found) -> None:
    for frame in frames:
        if frame.get("T") == "error":
            raise _socket_refusal(frame, found.answer)
        read, symbol = _FRAMES.get(text(frame.get("T"))), found.caller(frame.get("S"))
        if read is not None and symbol is not None:
            read(symbol, frame, found)
    if not any(text(frame.get("T")) in _FRAMES for frame in frames):
        raise NotAPrice("Alpaca sent a frame without a price")


def _socket_refusal(frame: Members, answer: Answer) -> ProviderError:
    said, code = detail(_VENDOR, text(frame.get("msg")), answer), frame.get("code")
    if code in (401, 402):
        return ProviderRefused(said, code="invalid_key")
    if code in (405, 409):
        return ProviderRefused(said, code="premium_required")
    if code == 406:
        # The other connection goes on; this one is closed after about 10 s.
        return Throttled(said, throttle=Throttle.UNSPECIFIED, retry_after=10)
    return ProviderDown(said) if code in (404, 407, 500) else NotAPrice(said)


def _refusal(words: str, answer: Answer) -> ProviderError:
    lower = words.lower()
    said = detail(_VENDOR, words, answer)
    if answer.status >= 500:
        return by_status(_VENDOR, words, answer)
    if "too many requests" in lower or "rate limit" in lower:
        return Throttled(said, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, 60))
    if "subscription" in lower:
        return ProviderRefused(said, code="premium_required")
    if _ABSENT.search(lower):
        return UnknownSymbol(said)
    return by_status(_VENDOR, words, answer)
