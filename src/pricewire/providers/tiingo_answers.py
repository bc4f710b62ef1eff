"""Tiingo's answers, bytes to quotes and bars; pure, called by `tiingo` for each raw answer.

Outside the session, and without a contract with the exchange, `last` is null and `tngoLast` is the
price. That one is throttled comes in plain text, at times with HTTP 200. Invariant: a symbol counts
as unknown only where Tiingo says so; times have the digits and the offset that it sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pricewire.domain.quote import PriceKind
from pricewire.errors import (
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
from pricewire.providers.readers import (
    Members,
    NotJson,
    Stamp,
    members,
    number,
    parameter,
    read_json,
    rfc3339,
    rows,
    text,
)
from pricewire.providers.refusals import (
    by_status,
    detail,
    plain,
    to_next_day,
    to_next_hour,
    to_next_month,
)
from pricewire.providers.symbols import class_share, pair_of
from pricewire.providers.tiingo_frames import read_frame

_VENDOR: Final = "Tiingo"
_MAX_REFUSAL: Final = 400
_ZONE: Final = "America/New_York"
_SALE_TIMES: Final[tuple[str, ...]] = (
    "lastSaleTimestamp",
    "lastSaleTimeStamp",
    "timestamp",
    "quoteTimestamp",
)
_PLAN_WORDING: Final = ("permission", "upgrade", "subscri", "add-on")
_KEY_WORDING: Final = ("token", "credentials")


def own_symbol(symbol: str) -> str:
    """Return Tiingo's form, in capitals: BRK-B, BTCUSD; it answers in either case."""
    if (pair := pair_of(symbol)) is not None:
        return f"{pair.base}{pair.quote}"
    return class_share(symbol.upper(), "-")


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise _refusal(plain(answer), answer) from None
    found = Found(_VENDOR, answer, own_symbol)
    if answer.status != 200 or not isinstance(body, list):
        if "messageType" not in members(body):
            raise _refusal(_words(body), answer)
        read_frame(members(body), found)
    _read([members(row) for row in rows(body)], found)
    return complete(found, is_empty=body == [])


def _words(body: object) -> str:
    content = members(body)
    words = content.get("detail") or content.get("message") or content.get("error") or body
    return words if isinstance(words, str) else ""


def _read(body: Sequence[Members], found: Found) -> None:
    _read_bars([row for row in body if "date" in row], found, currency=None)
    for row in body:
        if "date" not in row and (symbol := _caller(row, found)) is not None:
            _read_latest(symbol, row, found)


def _caller(row: Members, found: Found) -> str | None:
    named = text(row.get("ticker")).upper()
    return owner(found, named) if named else found.only()


def _read_latest(symbol: str, row: Members, found: Found) -> None:
    if "topOfBookData" in row:
        _read_crypto(symbol, row, found)
    elif "priceData" in row:
        ticker = row.get("ticker")
        bars = [{**members(bar), "ticker": ticker} for bar in rows(row["priceData"])]
        _read_bars(bars, found, currency=_quote_currency(row))
    elif "midPrice" in row:
        _read_forex(symbol, row, found)
    else:
        _read_iex(symbol, row, found)


def _read_iex(symbol: str, row: Members, found: Found) -> None:
    price, times = row.get("last"), _SALE_TIMES
    if not number(price):
        price, times = row.get("tngoLast"), ("timestamp", *_SALE_TIMES)
    found.quote(
        symbol,
        price,
        _first_time(row, times, found),
        exchange="IEX",
        size=row.get("lastSize"),
        bid=row.get("bidPrice"),
        ask=row.get("askPrice"),
    )


def _first_time(row: Members, names: Sequence[str], found: Found) -> Stamp | None:
    given = next((row[name] for name in names if row.get(name) is not None), None)
    return found.no_time if given is None else rfc3339(given)


def _read_crypto(symbol: str, row: Members, found: Found) -> None:
    # The book's two sides may be weeks apart; only the last sale has a time of its own.
    for top in map(members, rows(row["topOfBookData"])):
        found.quote(
            symbol,
            top.get("lastPrice"),
            rfc3339(top.get("lastSaleTimestamp")),
            currency=_quote_currency(row),
            exchange=text(top.get("lastExchange")) or None,
            size=top.get("lastSize"),
        )


def _read_forex(symbol: str, row: Members, found: Found) -> None:
    found.quote(
        symbol,
        row["midPrice"],
        rfc3339(row.get("quoteTimestamp")),
        kind=PriceKind.MID,
        bid=row.get("bidPrice"),
        ask=row.get("askPrice"),
    )


def _read_bars(bars: Sequence[Members], found: Found, *, currency: str | None) -> None:
    interval = parameter(found.answer.url, "resampleFreq").lower()
    stamps = [rfc3339(bar.get("date")) for bar in bars]
    times = bar_times(stamps, "UTC", within_a_day=interval.endswith(("min", "hour")))
    for bar, stamp in zip(bars, times, strict=True):
        if (symbol := _caller(bar, found)) is not None:
            found.bar(
                symbol,
                stamp,
                [bar.get(name) for name in ("open", "high", "low", "close")],
                volume=bar.get("volume"),
                interval=interval or None,
                currency=currency,
                adjusted=False if "adjClose" in bar else None,
            )


def _quote_currency(row: Members) -> str | None:
    return text(row.get("quoteCurrency")).upper() or None


def _refusal(words: str, answer: Answer) -> ProviderError:
    # A file is no refusal, whatever words are in it.
    lower = words.lower() if len(words) <= _MAX_REFUSAL else ""
    said = detail(_VENDOR, words, answer)
    if "run over your" in lower:
        return _throttled(lower, said, answer)
    if answer.status >= 500 or answer.status == 429:
        return by_status(_VENDOR, words, answer)
    if answer.status in (200, 404) and "not found" in lower:
        return UnknownSymbol(said)
    if any(wording in lower for wording in _PLAN_WORDING):
        return ProviderRefused(said, code="premium_required")
    if any(wording in lower for wording in _KEY_WORDING):
        return ProviderRefused(said, code="invalid_key")
    return by_status(_VENDOR, words, answer)


def _throttled(lower: str, said: str, answer: Answer) -> Throttled:
    # The days and months of the vendor begin in New York, by its own words on its limits.
    now = answer.fetched_at
    span = lower.partition("please upgrade")[0]
    if "month" in span:
        until = to_next_month(now, _ZONE)
        return Throttled(said, throttle=Throttle.MONTH, retry_after=until)
    if "daily" in span or "day" in span:
        return Throttled(said, throttle=Throttle.DAY, retry_after=to_next_day(now, _ZONE))
    throttle = Throttle.HOUR if "hour" in span else Throttle.UNSPECIFIED
    return Throttled(said, throttle=throttle, retry_after=to_next_hour(now))
