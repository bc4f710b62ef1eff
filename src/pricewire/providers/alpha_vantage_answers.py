"""Alpha Vantage's answers, bytes to quotes and bars; pure, called by `alpha_vantage`.

The kind of answer is told from the body itself. Invariant: a quote has the digits that the vendor
sent and the symbol that was asked for; every other body, whatever its bytes, is a `ProviderError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pricewire.domain.quote import Precision, PriceKind
from pricewire.errors import NotAPrice, UnknownSymbol
from pricewire.providers.alpha_vantage_csv import SERIES, from_csv
from pricewire.providers.alpha_vantage_refusals import refuse_by_status, refuse_by_wording
from pricewire.providers.anatomy import Answer, Parsed
from pricewire.providers.found import Found
from pricewire.providers.readers import (
    Members,
    NotJson,
    Stamp,
    day,
    local_time,
    members,
    read_json,
    rows,
    text,
)
from pricewire.providers.refusals import plain, said
from pricewire.providers.symbols import Pair, pair_of

_TITLE: Final = "Alpha Vantage"
_EASTERN: Final = "America/New_York"
_PAIR: Final = re.compile(r"([A-Z]{3,5})[/-]([A-Z]{3,5})")
_NUMBERED: Final = re.compile(r"^\d+[a-z]?\. ")
_MARKET: Final = re.compile(r"(?P<name>.+) \((?P<currency>[A-Z]{3,5})\)")


def split_pair(symbol: str) -> Pair | None:
    """Return both codes of BTC/USD, EUR-USD or EURUSD=X; None for a share such as BRK-B."""
    match = _PAIR.fullmatch(symbol)
    return Pair(match[1], match[2]) if match else pair_of(symbol) if "=" in symbol else None


def own_symbol(symbol: str) -> str:
    """Return the form by which an answer is compared: pairs with a slash, letters in upper case."""
    pair = split_pair(symbol)
    return f"{pair.base}/{pair.quote}" if pair else symbol.upper()


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing for the symbol; the class says why.
    """
    body = _body(answer)
    refuse_by_wording(body, answer)
    refuse_by_status(answer)
    found = Found(_TITLE, answer, own_symbol)
    _read(body, found)
    return found.result()


def _body(answer: Answer) -> Members:
    try:
        value = read_json(answer.body)
    except NotJson:
        value = from_csv(plain(answer))
    if isinstance(value, dict):
        return value
    refuse_by_status(answer)
    raise NotAPrice(f"{_TITLE} answered something that is no JSON object")


def _read(body: Members, found: Found) -> None:
    meta = _plain(body.get("Meta Data"))
    for title, content in body.items():
        if read := _reader(title, content):
            read(title, content, meta, found)
            return
    if not body:
        raise UnknownSymbol(f"{_TITLE} has no data for {found.answer.asked_for}")
    raise NotAPrice(f"{_TITLE} gave no price but {said(', '.join(body), found.answer)}")


_Reader = Callable[[str, object, Members, Found], None]


def _reader(title: str, content: object) -> _Reader | None:
    if title == "data" and isinstance(content, list):
        return _read_bulk
    if not isinstance(content, dict):
        return None
    if title.startswith("Global Quote"):
        return _read_quote
    if title.startswith("Realtime Currency Exchange Rate"):
        return _read_rate
    return _read_series if "Time Series" in title else None


def _plain(content: object) -> Members:
    """Return the members under their names without the number, which differs by function."""
    return {_NUMBERED.sub("", name): value for name, value in members(content).items()}


def _read_quote(title: str, content: object, _meta: Members, found: Found) -> None:
    quote = _plain(content)
    if not quote:
        raise UnknownSymbol(f"{_TITLE} knows no {found.answer.asked_for}")
    symbol = found.asked(quote.get("symbol"))
    if (stamp := day(quote.get("latest trading day"))) is None:
        raise NotAPrice(f"{_TITLE} gave no trading day for {symbol}")
    found.quote(symbol, quote.get("price"), stamp, delayed=_is_delayed(title))


def _read_rate(title: str, content: object, _meta: Members, found: Found) -> None:
    rate = _plain(content)
    currency = text(rate.get("To_Currency Code"))
    symbol = found.asked(f"{text(rate.get('From_Currency Code'))}/{currency}")
    stamp = _instant(rate.get("Last Refreshed"), rate.get("Time Zone"), found, Precision.SECOND)
    found.quote(
        symbol,
        rate.get("Exchange Rate"),
        stamp,
        currency=currency,
        delayed=_is_delayed(title),
        bid=rate.get("Bid Price"),
        ask=rate.get("Ask Price"),
    )


def _read_series(title: str, content: object, meta: Members, found: Found) -> None:
    """File all bars, and the close of the newest as the price."""
    series = members(content)
    symbol, currency, zone = _whose(title, meta, found)
    # The vendor lists the newest bar first, but promises no order.
    newest = max(series, default="")
    stamp = _bar_stamp(newest, zone)
    if stamp is None:
        raise _no_time(newest, zone, found)
    latest = _prices(series[newest], currency)
    # Pairs of coins once had a price instead of four.
    close = latest.get("close") or latest.get("price")
    kind = PriceKind.CLOSE if stamp.precision is Precision.DAY else PriceKind.LAST
    found.quote(symbol, close, stamp, kind=kind, currency=currency, delayed=_is_delayed(title))
    interval = text(meta.get("Interval")) or ("1d" if "daily" in title.lower() else None)
    for time, bar in series.items():
        prices = _prices(bar, currency)
        if "price" not in prices:
            found.bar(
                symbol,
                _bar_stamp(time, zone),
                [prices.get(name) for name in ("open", "high", "low", "close")],
                volume=prices.get("volume"),
                interval=interval,
                currency=currency,
            )


def _whose(title: str, meta: Members, found: Found) -> tuple[str, str | None, str]:
    """Return the symbol of a series, its currency and its time zone."""
    if title == SERIES:
        symbol = found.only()
        return symbol, None, "UTC" if split_pair(symbol) else _EASTERN
    zone = text(meta.get("Time Zone")) or "UTC"
    base = text(meta.get("Digital Currency Code") or meta.get("From Symbol"))
    if not base:
        return found.asked(meta.get("Symbol")), None, zone
    currency = text(meta.get("Market Code") or meta.get("To Symbol"))
    return found.asked(f"{base}/{currency}"), currency, zone


def _read_bulk(_title: str, content: object, _meta: Members, found: Found) -> None:
    """File the quotes of REALTIME_BULK_QUOTES; symbols without data are just missing."""
    for quote in map(members, rows(content)):
        if (symbol := found.caller(quote.get("symbol"))) is None:
            continue
        time = text(quote.get("timestamp"))
        found.quote(symbol, quote.get("close"), local_time(time, _EASTERN))


def _prices(bar: object, currency: str | None) -> Members:
    """Return a bar's members, those of the pair's currency where old bodies have them in two."""
    prices: dict[str, object] = {}
    for name, value in _plain(bar).items():
        match = _MARKET.fullmatch(name)
        if match is None or match["currency"] == currency:
            prices[match["name"] if match else name] = value
    return prices


def _bar_stamp(time: str, zone: str) -> Stamp | None:
    if stamp := day(time):
        return stamp
    stamp = local_time(time, zone)
    return stamp.coarser(Precision.MINUTE) if stamp else None


def _instant(time: object, zone: object, found: Found, precision: Precision) -> Stamp:
    if (stamp := local_time(time, text(zone))) is None:
        raise _no_time(text(time), text(zone), found)
    return stamp.coarser(precision)


def _no_time(time: str, zone: str, found: Found) -> NotAPrice:
    given = said(f"{time or 'no time'} {zone}", found.answer)
    return NotAPrice(f"{_TITLE} gave {given} as the time of its price")


def _is_delayed(title: str) -> bool:
    return "DELAYED" in title.upper()
