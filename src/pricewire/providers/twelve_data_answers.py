"""Twelve Data's answers, bytes to quotes and bars; pure, called by `twelve_data`.

Errors come with HTTP 200 or with a status of their own, alone or in the place of one symbol of
several. Invariant: a quote has the digits that the vendor sent and no finer a time than it gives:
`/price` has none, and the `timestamp` of `/quote` is when its bar opened, not when it was priced.
"""

from __future__ import annotations

from dataclasses import replace
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
from pricewire.providers.completed import complete
from pricewire.providers.found import Found
from pricewire.providers.readers import (
    Members,
    NotJson,
    Stamp,
    day,
    epoch,
    local_minute,
    members,
    parameter,
    read_json,
    rows,
    text,
)
from pricewire.providers.refusals import (
    by_status,
    detail,
    plain,
    to_next_day,
    to_next_minute,
    wait,
)
from pricewire.providers.symbols import class_share, index_of, pair_of

_VENDOR: Final = "Twelve Data"
_TELLING: Final = ("price", "close", "rate", "values")
_SYMBOL_WORDING: Final = ("**symbol**", "**figi**", "symbol not found")
_PLAN_WORDING: Final = ("available starting with", "available exclusively", "upgrad")


def own_symbol(symbol: str) -> str:
    """Return Twelve Data's form: BRK.B, BTC/USD, EUR/USD, SPX."""
    if (pair := pair_of(symbol)) is not None:
        return f"{pair.base}/{pair.quote}"
    return index_of(symbol) or class_share(symbol, ".")


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        content = members(read_json(answer.body))
    except NotJson:
        raise by_status(_VENDOR, plain(answer), answer) from None
    if _is_error(content) or answer.status != 200:
        raise _refusal(content, answer)
    found = Found(_VENDOR, answer, own_symbol)
    if any(name in content for name in _TELLING):
        _read(content, _asked(content, found), found)
    else:
        _read_each(content, found)
    return complete(found)


def _is_error(content: Members) -> bool:
    return content.get("status") == "error" or ("code" in content and "message" in content)


def _read_each(content: Members, found: Found) -> None:
    """Read an object keyed by symbol, which is what several symbols are answered with."""
    answered = {
        name: item
        for name, item in content.items()
        if isinstance(item, dict) and found.caller(name) is not None
    }
    if not answered:
        raise NotAPrice("Twelve Data answered something that is no price")
    for name, item in answered.items():
        symbol = found.asked(name)
        try:
            _read_item(item, symbol, found)
        except ProviderError as error:
            found.refuse(symbol, error)


def _read_item(item: Members, symbol: str, found: Found) -> None:
    if _is_error(item):
        raise _refusal(item, found.answer)
    if _named(item) and _asked(item, found) != symbol:
        raise NotAPrice(f"Twelve Data answered another symbol in the place of {symbol}")
    _read(item, symbol, found)


def _named(content: Members) -> str:
    return text(content.get("symbol")) or text(members(content.get("meta")).get("symbol"))


def _asked(content: Members, found: Found) -> str:
    """Return the caller's form of the symbol in `content`, which may go with an exchange."""
    name, about = _named(content), members(content.get("meta")) or content
    if "base_instrument" in about:
        raise NotAPrice("Twelve Data answered one instrument counted in another")
    if not name:
        return found.only()
    venues = (text(about.get("exchange")), text(about.get("mic_code")))
    return found.asked(name, *(f"{name}:{venue}" for venue in venues))


def _read(content: Members, symbol: str, found: Found) -> None:
    if "values" in content:
        _read_series(content, symbol, found)
    elif "close" in content:
        _read_quote(content, symbol, found)
    else:
        timed = "timestamp" in content
        found.quote(
            symbol,
            content.get("rate", content.get("price")),
            epoch(content["timestamp"], Precision.SECOND) if timed else found.no_time,
            currency=text(content.get("currency")) or None,
            exchange=_exchange(content),
            bid=content.get("bid"),
            ask=content.get("ask"),
        )


def _read_quote(content: Members, symbol: str, found: Found) -> None:
    # /eod has no open; while the market is closed, /quote has the day's close.
    closed = "open" not in content or content.get("is_market_open") is False
    found.quote(
        symbol,
        content["close"],
        _quote_time(content),
        kind=PriceKind.CLOSE if closed else PriceKind.LAST,
        currency=text(content.get("currency")) or None,
        exchange=_exchange(content),
    )


def _quote_time(content: Members) -> Stamp | None:
    """Return the last candle's minute where it is given, else the day or minute of the bar."""
    last = epoch(content.get("last_quote_at"), Precision.SECOND)
    opened = epoch(content.get("timestamp"), Precision.SECOND)
    if last is not None:
        return last.coarser(Precision.MINUTE)
    return day(content.get("datetime")) or (opened and opened.coarser(Precision.MINUTE))


def _read_series(content: Members, symbol: str, found: Found) -> None:
    # Pairs have no exchange; their local time is UTC.
    meta = members(content.get("meta"))
    zone = parameter(found.answer.url, "timezone") or text(meta.get("exchange_timezone")) or "UTC"
    for bar in map(members, rows(content["values"])):
        opened = bar.get("datetime")
        prices = [bar.get(name) for name in ("open", "high", "low", "close")]
        found.bar(
            symbol,
            day(opened) or local_minute(opened, zone),
            prices,
            volume=bar.get("volume"),
            interval=text(meta.get("interval")) or None,
            currency=text(meta.get("currency")) or None,
        )


def _exchange(content: Members) -> str | None:
    return text(content.get("exchange")) or None


def _refusal(content: Members, answer: Answer) -> ProviderError:
    words, code = content.get("message"), content.get("code")
    words = words if isinstance(words, str) else ""
    lower = words.lower()
    # The code in the body counts; the HTTP status is 200 beside most of them.
    told = replace(answer, status=code) if type(code) is int and code >= 400 else answer
    if told.status == 429 or "run out of api credits" in lower:
        return _throttled(lower, detail(_VENDOR, words, told), told)
    if any(wording in lower for wording in _PLAN_WORDING):
        return ProviderRefused(detail(_VENDOR, words, told), code="premium_required")
    if told.status in (400, 404) and any(wording in lower for wording in _SYMBOL_WORDING):
        return UnknownSymbol(detail(_VENDOR, words, told))
    forbidden = "invalid_key" if "apikey" in lower else "premium_required"
    return by_status(_VENDOR, words, told, forbidden=forbidden)


def _throttled(lower: str, said: str, answer: Answer) -> Throttled:
    # What comes after the first sentence is advice and names other spans.
    span = lower.partition("wait for")[0]
    soon = to_next_minute(answer.fetched_at)
    if "minute" in span:
        return Throttled(said, throttle=Throttle.MINUTE, retry_after=soon)
    if "for the day" in span or "daily" in span:
        until = to_next_day(answer.fetched_at, "UTC")
        return Throttled(said, throttle=Throttle.DAY, retry_after=until)
    return Throttled(said, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, soon))
