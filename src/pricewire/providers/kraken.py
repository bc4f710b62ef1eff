"""Kraken, keyless: Ticker, Trades and OHLC over REST; its feeds are read in `kraken_frames`.

REST answers HTTP 200 whatever happens, refusals stand in `error`, and a result is named by
Kraken's own pair name, often another one than was asked for (XBTUSD, XXBTZUSD). Invariant: all
forms of a pair are compared as BTC/USD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pricewire.domain.quote import Precision
from pricewire.errors import (
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer, Parsed, Request, Span, Vendor
from pricewire.providers.completed import complete, owner
from pricewire.providers.found import Found
from pricewire.providers.kraken_frames import read_array, read_object
from pricewire.providers.readers import (
    NotJson,
    at,
    epoch,
    epoch_seconds,
    members,
    parameter,
    read_json,
    rows,
)
from pricewire.providers.refusals import by_status, detail, plain, wait
from pricewire.providers.symbols import coin_currency, coin_pair

_TITLE: Final = "Kraken"
_MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}
_ALTNAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}


def own_symbol(symbol: str) -> str:
    """Return the form by which pairs are compared: BTC/USD."""
    pair = coin_pair(symbol)
    return f"{pair.base}/{pair.quote}" if pair else symbol.upper()


def altname(symbol: str) -> str:
    """Return Kraken's name of a pair, as REST takes it: XBTUSD."""
    pair = coin_pair(symbol)
    if pair is None:
        return symbol
    return "".join(_ALTNAMES.get(code, code) for code in pair)


def request(symbols: Sequence[str]) -> Request:
    """Ask for tickers; one unknown pair makes Kraken refuse them all."""
    pairs = dict.fromkeys(altname(symbol) for symbol in symbols)
    return Request(path="/0/public/Ticker", params={"pair": ",".join(pairs)})


def history(span: Span) -> Request:
    """Ask for bars from the span's start on; Kraken has the newest 720 only."""
    return Request(
        path="/0/public/OHLC",
        params={
            "pair": altname(span.symbol),
            "interval": str(_MINUTES[span.interval]),
            "since": str(int(span.start.timestamp())),
        },
    )


def asked(url: str) -> tuple[str, ...]:
    return tuple(filter(None, parameter(url, "pair").split(",")))


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = read_json(answer.body)
    except NotJson:
        raise _refusal(plain(answer), answer) from None
    content = members(body)
    refused = _refused(content)
    if refused or answer.status != 200:
        raise _refusal(refused, answer)
    found = Found(_TITLE, answer, own_symbol)
    if isinstance(body, list):
        read_array(body, found)
    elif "result" in content and "method" not in content:
        _read_result(members(content["result"]), found)
    else:
        read_object(content, found)
    return complete(found)


def _refused(content: Mapping[str, object]) -> str:
    """Return what the body says against; W-strings are warnings beside a result."""
    error = content.get("error")
    said = [one for one in rows(error) if isinstance(one, str) and not one.startswith("W")]
    if isinstance(error, str):
        said.append(error)
    if isinstance(message := content.get("errorMessage"), str):
        said.append(message)
    return "; ".join(said)


def _read_result(result: Mapping[str, object], found: Found) -> None:
    for name, content in result.items():
        if name == "last" or (symbol := owner(found, name)) is None:
            continue
        listed = rows(content)
        if isinstance(content, dict):
            _read_ticker(content, symbol, found)
        elif listed and isinstance(at(listed[-1], 0), str):
            _read_trades(listed, symbol, found)
        else:
            _read_bars(listed, symbol, found)


def _read_ticker(ticker: Mapping[str, object], symbol: str, found: Found) -> None:
    found.quote(
        symbol,
        at(ticker.get("c"), 0),
        found.no_time,
        currency=coin_currency(symbol),
        size=at(ticker.get("c"), 1),
        bid=at(ticker.get("b"), 0),
        ask=at(ticker.get("a"), 0),
    )


def _read_trades(trades: Sequence[object], symbol: str, found: Found) -> None:
    """File the newest trade, which is the last."""
    newest = trades[-1]
    found.quote(
        symbol,
        at(newest, 0),
        epoch_seconds(at(newest, 2)),
        currency=coin_currency(symbol),
        size=at(newest, 1),
        trade_id=at(newest, 6),
    )


def _read_bars(bars: Sequence[object], symbol: str, found: Found) -> None:
    minutes = parameter(found.answer.url, "interval")
    names = {str(count): name for name, count in _MINUTES.items()}
    for bar in bars:
        found.bar(
            symbol,
            epoch(at(bar, 0), Precision.SECOND),
            [at(bar, place) for place in (1, 2, 3, 4)],
            volume=at(bar, 6),
            interval=names.get(minutes),
            currency=coin_currency(symbol),
        )


def _refusal(words: str, answer: Answer) -> ProviderError:
    lower, told = words.lower(), detail(_TITLE, words, answer)
    if "unknown asset pair" in lower or "pair not supported" in lower or "iso 4217" in lower:
        return UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    if "lockout" in lower:
        return Throttled(told, throttle=Throttle.BAN, retry_after=wait(answer, 900))
    if "too many requests" in lower or "rate limit" in lower:
        return Throttled(told, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, 60))
    if lower.startswith("eservice") or "internal error" in lower:
        return ProviderDown(told)
    if "invalid key" in lower or "permission denied" in lower:
        return ProviderRefused(told, code="invalid_key")
    return by_status(_TITLE, words, answer)


KRAKEN: Final = Vendor(
    name="kraken",
    title=_TITLE,
    origin="https://api.kraken.com",
    request=request,
    parse=parse,
    asked=asked,
    history=history,
    batch=20,
)
