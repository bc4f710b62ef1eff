"""Massive's (Polygon's) answers, bytes to quotes and bars; pure, called by `massive`.

The unit of a time goes by its place: trades, quotes and snapshots of shares count nanoseconds,
bars and whatever is about pairs milliseconds. Invariant: a time is read as an integer in the unit
of its place, never through a float; a price has the digits that the vendor sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pricewire.domain.quote import Precision, PriceKind
from pricewire.errors import (
    NotAPrice,
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
from pricewire.providers.massive_frames import read_frames
from pricewire.providers.massive_symbols import answered_forms, is_pair, own_symbol
from pricewire.providers.mids import file_mid
from pricewire.providers.readers import (
    Members,
    NotJson,
    Stamp,
    day,
    day_at_midnight,
    epoch,
    members,
    number,
    read_json,
    rows,
    segments,
    text,
)
from pricewire.providers.refusals import by_status, detail, plain, wait

_VENDOR: Final = "Massive"
_NS: Final = Precision.NANOSECOND
_MS: Final = Precision.MILLISECOND
_REFUSING: Final = ("ERROR", "NOT_AUTHORIZED", "NOT_FOUND")
_PLACES: Final = ("sip_timestamp", "participant_timestamp", "last_updated")


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise _refusal(plain(answer), None, answer) from None
    content = members(body)
    words = content.get("error") or content.get("message")
    if answer.status != 200 or isinstance(words, str) or content.get("status") in _REFUSING:
        raise _refusal(words if isinstance(words, str) else "", content.get("status"), answer)
    found = Found(_VENDOR, answer, own_symbol, delayed=content.get("status") == "DELAYED")
    if isinstance(body, list):
        read_frames([members(frame) for frame in body], found)
    else:
        _read(content, found)
    is_empty = "resultsCount" in content and not content.get("results")
    return complete(found, is_empty=is_empty or content.get("results") == [])


def _read(content: Members, found: Found) -> None:
    results, ticker = content.get("results"), content.get("ticker")
    if isinstance(ticker, dict):
        _read_snapshot(ticker, found)
    elif "tickers" in content:
        for item in map(members, rows(content["tickers"])):
            _read_snapshot(item, found)
    elif "last" in content:
        _read_last(content, found)
    elif "from" in content and "close" in content:
        _read_open_close(content, found)
    elif isinstance(results, dict):
        (_read_trade if "T" in results else _read_unified)(results, found)
    elif "results" in content or "resultsCount" in content:
        _read_rows(content, [members(row) for row in rows(results)], found)
    else:
        raise NotAPrice("Massive answered something that is no price")


def _read_rows(content: Members, results: Sequence[Members], found: Found) -> None:
    first = results[0] if results else {}
    if "o" in first and "c" in first:
        _read_aggregates(content, results, found)
    elif "ticker" in first or "details" in first:
        for item in results:
            _read_unified(item, found)
    elif any(place in first for place in _PLACES):
        _read_newest(results, found)
    elif results:
        raise NotAPrice("Massive answered rows that are no prices")


def _read_trade(result: Members, found: Found) -> None:
    symbol = found.asked(result.get("T"))
    stamp = epoch(result.get("t"), _NS)
    if "P" in result:  # a quote: p is its bid, P its ask
        file_mid(found, symbol, (result.get("p"), result["P"]), stamp)
    else:
        found.quote(
            symbol,
            result.get("p"),
            stamp,
            size=result.get("s"),
            trade_id=result.get("i"),
        )


def _read_newest(results: Sequence[Members], found: Found) -> None:
    symbol = found.only()
    newest = max(results, key=_nanoseconds)
    stamp = epoch(_nanoseconds(newest), _NS)
    if "price" in newest:
        found.quote(symbol, newest["price"], stamp, size=newest.get("size"))
    else:
        sides = (newest.get("bid_price"), newest.get("ask_price"))
        file_mid(found, symbol, sides, stamp)


def _nanoseconds(row: Members) -> int:
    times = (row.get(place) for place in _PLACES)
    return next((time for time in times if isinstance(time, int)), 0)


def _read_aggregates(content: Members, results: Sequence[Members], found: Found) -> None:
    """Read bars: of one ticker; of yesterday, which is a closing price; or of a whole market."""
    name, adjusted = content.get("ticker"), content.get("adjusted")
    adjusted = adjusted if isinstance(adjusted, bool) else None
    interval = "".join(_after_range(found.answer.url)) or None
    are_closes = name is None or (len(results) == 1 and "T" in results[0])
    for row, stamp in zip(
        results, _bar_times(results, name, found, are_closes=are_closes), strict=True
    ):
        named = row.get("T", name)
        symbol = found.caller(named) if name is None else found.asked(named)
        if symbol is None:
            continue
        found.bar(
            symbol,
            stamp,
            [row.get(side) for side in "ohlc"],
            volume=row.get("v"),
            interval=interval,
            adjusted=adjusted,
        )
        if are_closes:
            found.quote(symbol, row.get("c"), stamp, kind=PriceKind.CLOSE, adjusted=adjusted)


def _bar_times(
    results: Sequence[Members], name: object, found: Found, *, are_closes: bool
) -> list[Stamp | None]:
    """Return when bars begin; a closing price may come with the instant of the close."""
    stamps = [epoch(row.get("t"), _MS) for row in results]
    zone = "UTC" if is_pair(name) else "America/New_York"
    within_a_day = not {"second", "minute", "hour"}.isdisjoint(_after_range(found.answer.url))
    if are_closes and None in (day_at_midnight(stamp, zone) for stamp in stamps if stamp):
        return stamps
    return bar_times(stamps, zone, within_a_day=within_a_day)


def _after_range(url: str) -> list[str]:
    """Return ["1", "day"] of …/range/1/day/…"""
    parts = segments(url)
    return parts[parts.index("range") + 1 :][:2] if "range" in parts else []


def _read_open_close(content: Members, found: Found) -> None:
    symbol = found.asked(*answered_forms(content.get("symbol")))
    date = day(content.get("from"))
    found.bar(symbol, date, [content.get(name) for name in ("open", "high", "low", "close")])
    found.quote(symbol, content["close"], date, kind=PriceKind.CLOSE)


def _read_last(content: Members, found: Found) -> None:
    symbol = found.asked(*answered_forms(content.get("symbol")))
    last = members(content["last"])
    stamp = epoch(last.get("timestamp"), _MS)
    if "price" in last:
        found.quote(symbol, last["price"], stamp, size=last.get("size"))
    else:
        file_mid(found, symbol, (last.get("bid"), last.get("ask")), stamp)


def _read_snapshot(ticker: Members, found: Found) -> None:
    """Read the last trade; plans without trades see the last minute, or the day as a whole."""
    if (symbol := owner(found, ticker.get("ticker"))) is None:
        return
    unit = _MS if is_pair(ticker.get("ticker")) else _NS
    trade, quote = members(ticker.get("lastTrade")), members(ticker.get("lastQuote"))
    minute, today = members(ticker.get("min")), members(ticker.get("day"))
    if trade:
        size, stamp = trade.get("s"), epoch(trade.get("t"), unit)
        found.quote(symbol, trade.get("p"), stamp, size=size, trade_id=trade.get("i"))
    elif "a" in quote:
        file_mid(found, symbol, (quote.get("b"), quote["a"]), epoch(quote.get("t"), unit))
    elif number(minute.get("c")):
        found.quote(symbol, minute["c"], _minute(minute.get("t"), _MS))
    else:
        found.quote(symbol, today.get("c"), _minute(ticker.get("updated"), unit))


def _minute(value: object, unit: Precision) -> Stamp | None:
    stamp = epoch(value, unit)
    return stamp and stamp.coarser(Precision.MINUTE)


def _read_unified(item: Members, found: Found) -> None:
    """Read one item of a v3 snapshot, which has its own error and its own delay."""
    named = text(item.get("ticker")) or text(members(item.get("details")).get("ticker"))
    # An index is asked for as I:SPX and answered as SPX, or as it was asked for.
    symbol = found.caller(f"I:{named}") if found.answer.symbols else None
    symbol = symbol or owner(found, named)
    if symbol is None:
        return
    if "error" in item:
        words = text(item.get("message"))
        found.refuse(symbol, _refusal(words, item["error"], found.answer))
        return
    trade, quote = members(item.get("last_trade")), members(item.get("last_quote"))
    minute = members(item.get("last_minute"))
    delayed = "DELAYED" in (part.get("timeframe") for part in (item, trade or quote))
    delayed = delayed or found.delayed
    if "value" in item:  # of an index
        stamp = epoch(item["last_updated"], _NS) if "last_updated" in item else found.no_time
        found.quote(symbol, item["value"], stamp, delayed=delayed)
    elif trade:
        found.quote(symbol, trade.get("price"), epoch(_nanoseconds(trade), _NS), delayed=delayed)
    elif minute:
        stamp = _minute(minute.get("last_updated"), _NS)
        found.quote(symbol, minute.get("close"), stamp, delayed=delayed)
    else:
        stamp = epoch(_nanoseconds(quote), _NS)
        file_mid(found, symbol, (quote.get("bid"), quote.get("ask")), stamp, delayed=delayed)


def _refusal(words: str, status: object, answer: Answer) -> ProviderError:
    lower = words.lower()
    said = detail(_VENDOR, words, answer)
    if "requests per minute" in lower:
        return Throttled(said, throttle=Throttle.MINUTE, retry_after=wait(answer, 60))
    if answer.status >= 500 or answer.status == 429:
        return by_status(_VENDOR, words, answer)
    if "api key" in lower:
        return ProviderRefused(said, code="invalid_key")
    if status in ("NOT_AUTHORIZED", "NOT_ENTITLED") or "not entitled" in lower:
        return ProviderRefused(said, code="premium_required")
    if status == "NOT_FOUND":
        return UnknownSymbol(said)
    return by_status(_VENDOR, words, answer, forbidden="premium_required")
