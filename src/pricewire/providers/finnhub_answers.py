"""Finnhub's answers, bytes to quotes and bars; pure, called by `finnhub` for each raw answer.

A quote names no symbol, and a symbol that Finnhub does not know is answered with zeros. Invariant:
a price is above zero and has the digits that the vendor sent; any other body is a `ProviderError`.
"""

from __future__ import annotations

from typing import Final

from pricewire.domain.quote import Precision
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
from pricewire.providers.completed import complete
from pricewire.providers.found import Found
from pricewire.providers.readers import Members, NotJson, epoch, members, parameter, read_json, rows
from pricewire.providers.refusals import by_status, detail, plain, wait
from pricewire.providers.symbols import class_share, pair_of

_VENDOR: Final = "Finnhub"
_SYMBOL_WORDING: Final = ("invalid symbol", "symbol not supported", "symbol not found")
_PLAN_WORDING: Final = ("have access", "premium", "upgrade")
_KEY_WORDING: Final = ("sign up", "api key", "token")


def own_symbol(symbol: str) -> str:
    """Return Finnhub's form: BRK.B, COINBASE:BTC-USD, BINANCE:BTCUSDT, OANDA:EUR_USD."""
    if (pair := pair_of(symbol)) is None:
        return class_share(symbol, ".")
    if pair.is_fiat:
        return f"OANDA:{pair.base}_{pair.quote}"
    # Binance has no dollars, and a price in tethers is another price.
    if pair.quote in ("USDT", "USDC"):
        return f"BINANCE:{pair.base}{pair.quote}"
    return f"COINBASE:{pair.base}-{pair.quote}"


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        content = members(read_json(answer.body))
    except NotJson:
        raise _refusal(plain(answer), answer) from None
    words = content.get("error") or content.get("msg")
    if words or answer.status != 200:
        raise _refusal(words if isinstance(words, str) else "", answer)
    found = Found(_VENDOR, answer, own_symbol)
    if content.get("type") == "trade":
        _read_trades(content, found)
    elif "s" in content:
        _read_candles(content, found)
    elif "c" in content:
        _read_quote(content, found)
    else:
        raise NotAPrice("Finnhub answered something that is no price")
    return complete(found, is_empty=content.get("s") == "no_data")


def _read_quote(content: Members, found: Found) -> None:
    symbol = found.only()
    if all(content.get(name) == 0 for name in ("c", "h", "l", "o", "pc", "t")):
        raise UnknownSymbol(f"Finnhub knows no {symbol}")
    found.quote(symbol, content["c"], epoch(content.get("t"), Precision.SECOND))


def _read_candles(content: Members, found: Found) -> None:
    symbol = found.only()
    columns = [rows(content.get(name)) for name in "tvohlc"]
    if len({len(column) for column in columns}) != 1:
        raise NotAPrice(f"Finnhub gave columns of unequal length for {symbol}")
    resolution = parameter(found.answer.url, "resolution")
    stamps = [epoch(opened, Precision.SECOND) for opened in columns[0]]
    times = bar_times(stamps, "UTC", within_a_day=resolution.isdigit())
    for opened, (volume, *prices) in zip(times, zip(*columns[1:], strict=True), strict=True):
        found.bar(symbol, opened, prices, volume=volume, interval=resolution or None)


def _read_trades(content: Members, found: Found) -> None:
    for trade in map(members, rows(content.get("data"))):
        if (symbol := found.caller(trade.get("s"))) is not None:
            stamp = epoch(trade.get("t"), Precision.MILLISECOND)
            found.quote(symbol, trade.get("p"), stamp, size=trade.get("v"))


def _refusal(words: str, answer: Answer) -> ProviderError:
    lower = words.lower()
    text = detail(_VENDOR, words, answer)
    # "Please sign up" is what a call without a key gets: with 429, yet no waiting cures it.
    if "limit reached" in lower and "sign up" not in lower:
        return Throttled(text, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, 60))
    if answer.status >= 500:
        return by_status(_VENDOR, words, answer)
    if any(wording in lower for wording in _SYMBOL_WORDING):
        return UnknownSymbol(text)
    if any(wording in lower for wording in _PLAN_WORDING):
        return ProviderRefused(text, code="premium_required")
    if any(wording in lower for wording in _KEY_WORDING):
        return ProviderRefused(text, code="invalid_key")
    return by_status(_VENDOR, words, answer, forbidden="premium_required")
