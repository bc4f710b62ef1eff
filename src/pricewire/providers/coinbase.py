"""Coinbase Exchange, keyless: REST tickers, trades and candles, and the frames of its feed.

Invariant: a body that names a product is read for that product only; most of them name none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pricewire.domain.quote import Precision
from pricewire.errors import NotAPrice, ProviderError, Throttle, Throttled, UnknownSymbol
from pricewire.providers.anatomy import Answer, Parsed, Request, Span, Vendor, segment
from pricewire.providers.completed import complete
from pricewire.providers.found import Found
from pricewire.providers.readers import (
    Members,
    NotJson,
    after,
    epoch,
    members,
    parameter,
    read_json,
    rfc3339,
    rows,
    text,
)
from pricewire.providers.refusals import by_status, detail, plain, wait
from pricewire.providers.symbols import coin_currency, coin_pair

_TITLE: Final = "Coinbase"
_TRADES: Final = ("ticker", "match", "last_match")
_SECONDS: Final = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400}


def own_symbol(symbol: str) -> str:
    """Return Coinbase's form: BTC-USD."""
    pair = coin_pair(symbol)
    return f"{pair.base}-{pair.quote}" if pair else symbol


def request(symbols: Sequence[str]) -> Request:
    """Ask for the last trade of one product."""
    (symbol,) = symbols
    return Request(path=f"/products/{segment(own_symbol(symbol))}/ticker")


def history(span: Span) -> Request:
    """Ask for at most 300 candles."""
    return Request(
        path=f"/products/{segment(own_symbol(span.symbol))}/candles",
        params={
            "granularity": str(_SECONDS[span.interval]),
            "start": f"{span.start:%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{span.end:%Y-%m-%dT%H:%M:%SZ}",
        },
    )


def asked(url: str) -> tuple[str, ...]:
    named = after(url, "products")
    return (named,) if named else ()


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise _refusal(plain(answer), answer) from None
    message = members(body).get("message")
    if answer.status != 200 or isinstance(message, str):
        reason = members(body).get("reason")
        words = " ".join(one for one in (message, reason) if isinstance(one, str))
        raise _refusal(words, answer)
    found = Found(_TITLE, answer, own_symbol)
    _read(body, found)
    return complete(found)


def _read(body: object, found: Found) -> None:
    content = members(body)
    if content.get("type") in _TRADES:
        _read_trade(content, found.asked(content.get("product_id")), found)
    elif "type" in content:
        raise NotAPrice(f"{_TITLE} sent a frame without a price")
    elif "price" in content:
        _read_trade(content, found.only(), found)
    elif isinstance(body, list) and body and all(isinstance(row, list) for row in body):
        _read_candles(body, found)
    elif isinstance(body, list) and body:
        newest = max(map(members, body), key=_trade_number)
        _read_trade(newest, found.only(), found)
    else:
        raise NotAPrice(f"{_TITLE} answered something that is no price")


def _read_trade(trade: Members, symbol: str, found: Found) -> None:
    found.quote(
        symbol,
        trade.get("price"),
        rfc3339(trade.get("time")),
        currency=coin_currency(symbol or text(trade.get("product_id"))),
        size=trade.get("size") or trade.get("last_size"),
        bid=trade.get("bid") or trade.get("best_bid"),
        ask=trade.get("ask") or trade.get("best_ask"),
        trade_id=trade.get("trade_id"),
    )


def _trade_number(trade: Members) -> int:
    number = trade.get("trade_id")
    return number if isinstance(number, int) else 0


def _read_candles(candles: list[object], found: Found) -> None:
    """File candles: low and high come before open and close."""
    symbol = found.only()
    granularity = parameter(found.answer.url, "granularity")
    names = {str(seconds): name for name, seconds in _SECONDS.items()}
    for candle in map(rows, candles):
        if len(candle) < 5:
            found.refuse(symbol, NotAPrice(f"{_TITLE} gave no candle for {symbol}"))
            continue
        opened, low, high, first, last = candle[:5]
        found.bar(
            symbol,
            epoch(opened, Precision.SECOND),
            (first, high, low, last),
            volume=candle[5] if len(candle) > 5 else None,
            interval=names.get(granularity),
            currency=coin_currency(symbol),
        )


def _refusal(words: str, answer: Answer) -> ProviderError:
    lower = words.lower()
    told = detail(_TITLE, words, answer)
    if "rate limit" in lower or "too many requests" in lower or answer.status == 429:
        return Throttled(told, throttle=Throttle.BURST, retry_after=wait(answer, 1))
    if answer.status >= 500:
        return by_status(_TITLE, words, answer)
    if "notfound" in lower or "not a valid product" in lower or answer.status == 404:
        return UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    return by_status(_TITLE, words, answer)


COINBASE: Final = Vendor(
    name="coinbase",
    title=_TITLE,
    origin="https://api.exchange.coinbase.com",
    request=request,
    parse=parse,
    asked=asked,
    history=history,
)
