"""Binance spot, keyless: tickers, trades and klines over REST, and the frames of its streams.

A price in USDT is no price in dollars: BTC/USD is asked for as BTCUSD, which Binance does not have.
Invariant: times are milliseconds, Binance's unit where none is asked for, and none ever is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pricewire.domain.quote import Precision, PriceKind
from pricewire.errors import NotAPrice
from pricewire.providers.anatomy import Answer, Parsed, Request, Span, Vendor
from pricewire.providers.binance_refusals import refusal
from pricewire.providers.completed import complete
from pricewire.providers.found import Found
from pricewire.providers.readers import (
    Members,
    NotJson,
    Stamp,
    epoch,
    members,
    mid,
    parameter,
    read_json,
    rows,
)
from pricewire.providers.refusals import plain
from pricewire.providers.symbols import coin_currency, coin_pair

_TITLE: Final = "Binance"
_PRICE: Final = "/api/v3/ticker/price"
_INTERVALS: Final = ("1m", "5m", "15m", "1h", "1d")


def own_symbol(symbol: str) -> str:
    """Return Binance's form: BTCUSDT."""
    pair = coin_pair(symbol)
    return f"{pair.base}{pair.quote}" if pair else symbol.upper()


def counted_in(symbol: str) -> str | None:
    """Return what a price is counted in; Binance has pairs in stablecoins, none in dollars."""
    own = own_symbol(symbol)
    return own[-4:] if own.endswith(("TUSD", "BUSD")) else coin_currency(own)


def request(symbols: Sequence[str]) -> Request:
    """Ask for last prices; one unknown symbol makes Binance refuse them all."""
    own = [own_symbol(symbol) for symbol in dict.fromkeys(symbols)]
    if len(own) == 1:
        return Request(path=_PRICE, params={"symbol": own[0]})
    return Request(path=_PRICE, params={"symbols": json.dumps(own, separators=(",", ":"))})


def history(span: Span) -> Request:
    """Ask for at most 1000 klines."""
    return Request(
        path="/api/v3/klines",
        params={
            "symbol": own_symbol(span.symbol),
            "interval": span.interval,
            "startTime": str(int(span.start.timestamp()) * 1000),
            "endTime": str(int(span.end.timestamp()) * 1000),
            "limit": "1000",
        },
    )


def asked(url: str) -> tuple[str, ...]:
    if named := parameter(url, "symbol"):
        return (named,)
    try:
        several = read_json(parameter(url, "symbols").encode())
    except NotJson:
        return ()
    return tuple(one for one in rows(several) if isinstance(one, str))


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise refusal({}, plain(answer), answer) from None
    content = members(body)
    if answer.status != 200 or "msg" in content:
        raise refusal(content, str(content.get("msg") or ""), answer)
    found = Found(_TITLE, answer, own_symbol)
    _read(body, found)
    return complete(found)


def _read(body: object, found: Found) -> None:
    listed = rows(body)
    if listed and all(isinstance(row, list) for row in listed):
        _read_klines(listed, found)
    elif listed and "symbol" in members(listed[0]):
        for content in map(members, listed):
            _read_ticker(content, found.caller(content.get("symbol")), found)
    elif listed:
        # Oldest first, of one symbol that is not named.
        _read_trade(members(listed[-1]), found.only(), found)
    elif "stream" in members(body):
        _read_frame(members(members(body).get("data")), found)
    elif "symbol" in members(body):
        content = members(body)
        _read_ticker(content, found.asked(content.get("symbol")), found)
    else:
        _read_frame(members(body), found)


def _read_ticker(ticker: Members, symbol: str | None, found: Found) -> None:
    """File ticker/price, ticker/24hr or ticker/bookTicker."""
    if symbol is None:
        return
    bid, ask, currency = ticker.get("bidPrice"), ticker.get("askPrice"), counted_in(symbol)
    if "price" in ticker:
        found.quote(symbol, ticker["price"], found.no_time, currency=currency)
    elif "lastPrice" in ticker:
        stamp = _time(ticker.get("closeTime"))
        price, size = ticker["lastPrice"], ticker.get("lastQty")
        found.quote(symbol, price, stamp, currency=currency, size=size, bid=bid, ask=ask)
    else:
        _read_book(symbol, bid, ask, found)


def _read_book(symbol: str, bid: object, ask: object, found: Found) -> None:
    kind, currency = PriceKind.MID, counted_in(symbol)
    price = mid(bid, ask)
    found.quote(symbol, price, found.no_time, kind=kind, currency=currency, bid=bid, ask=ask)


def _read_trade(trade: Members, symbol: str, found: Found) -> None:
    """File a trade, in the long names of REST or the short ones of aggregates and frames."""
    number = next((trade[name] for name in ("id", "a", "t") if name in trade), None)
    found.quote(
        symbol,
        trade.get("price") or trade.get("p"),
        _time(trade.get("time") or trade.get("T")),
        currency=counted_in(symbol),
        size=trade.get("qty") or trade.get("q"),
        trade_id=number,
    )


def _read_frame(frame: Members, found: Found) -> None:
    if "s" not in frame:
        raise NotAPrice(f"{_TITLE} answered something that is no price")
    symbol = found.asked(frame["s"])
    event = frame.get("e")
    if event in ("trade", "aggTrade"):
        _read_trade(frame, symbol, found)
    elif event in ("24hrTicker", "24hrMiniTicker"):
        bid, ask, currency = frame.get("b"), frame.get("a"), counted_in(symbol)
        found.quote(
            symbol, frame.get("c"), _time(frame.get("E")), currency=currency, bid=bid, ask=ask
        )
    elif event == "kline":
        kline = members(frame.get("k"))
        _read_kline([kline.get(name) for name in "tohlcv"], symbol, str(kline.get("i")), found)
    elif event is None:
        _read_book(symbol, frame.get("b"), frame.get("a"), found)
    else:
        raise NotAPrice(f"{_TITLE} sent a frame without a price")


def _read_klines(klines: Sequence[object], found: Found) -> None:
    symbol = found.only()
    for kline in map(rows, klines):
        _read_kline(kline, symbol, parameter(found.answer.url, "interval"), found)


def _read_kline(kline: Sequence[object], symbol: str, interval: str, found: Found) -> None:
    found.bar(
        symbol,
        _time(kline[0] if kline else None),
        kline[1:5],
        volume=kline[5] if len(kline) > 5 else None,
        interval=interval if interval in _INTERVALS else None,
        currency=counted_in(symbol),
    )


def _time(value: object) -> Stamp | None:
    return epoch(value, Precision.MILLISECOND)


BINANCE: Final = Vendor(
    name="binance",
    title=_TITLE,
    origin="https://api.binance.com",
    request=request,
    parse=parse,
    asked=asked,
    history=history,
    batch=50,
)
