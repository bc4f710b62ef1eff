"""Yahoo Finance's chart endpoint, keyless and unofficial: the price is `meta.regularMarketPrice`.

The series beside it may be years old, forming, full of nulls or missing. Invariant: a series gives
bars only, never the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pricewire.domain.quote import Precision
from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer, Parsed, Request, Span, Vendor, segment
from pricewire.providers.found import Found
from pricewire.providers.readers import (
    Members,
    NotJson,
    after,
    at,
    epoch,
    members,
    number,
    parameter,
    read_json,
    rows,
    text,
)
from pricewire.providers.refusals import by_status, detail, wait
from pricewire.providers.symbols import class_share, index_of, pair_of

_TITLE: Final = "Yahoo"
# Others are answered 429 at the first call.
_HEADERS: Final = {"User-Agent": "Mozilla/5.0"}
# Suffixes of exchanges that look like a class of shares: London, Frankfurt, Toronto's ventures.
_EXCHANGES: Final = (".L", ".F", ".V")
_INDICES: Final = {"SPX": "^GSPC", "GSPC": "^GSPC"}


def own_symbol(symbol: str) -> str:
    """Return Yahoo's form: BRK-B, ^GSPC, BTC-USD, EURUSD=X."""
    if pair := pair_of(symbol):
        return f"{pair.base}{pair.quote}=X" if pair.is_fiat else f"{pair.base}-{pair.quote}"
    if index := index_of(symbol):
        return _INDICES.get(index, f"^{index}")
    return symbol if symbol.endswith(_EXCHANGES) else class_share(symbol, "-")


def _path(symbol: str) -> str:
    return f"/v8/finance/chart/{segment(own_symbol(symbol))}"


def request(symbols: Sequence[str]) -> Request:
    """Ask for one symbol's chart of today, the smallest that has the price."""
    (symbol,) = symbols
    return Request(path=_path(symbol), params={"range": "1d", "interval": "1d"}, headers=_HEADERS)


def history(span: Span) -> Request:
    """Ask for bars; Yahoo keeps minutes for 30 days and gives 7 of them a call."""
    return Request(
        path=_path(span.symbol),
        params={
            "period1": str(int(span.start.timestamp())),
            "period2": str(int(span.end.timestamp())),
            "interval": span.interval,
            "includePrePost": "false",
        },
        headers=_HEADERS,
    )


def asked(url: str) -> tuple[str, ...]:
    if named := after(url, "finance", "chart"):
        return (named,)
    return tuple(filter(None, parameter(url, "symbols").split(",")))


def parse(answer: Answer) -> Parsed:
    """Return what `answer` holds.

    Raises:
        ProviderError: nothing; the class says why.
    """
    try:
        body = members(read_json(answer.body))
    except NotJson:
        raise _refusal("", answer.body.decode("utf-8", "replace").strip(), answer) from None
    envelope = next((body[name] for name in _ENVELOPES if name in body), None)
    error = members(members(envelope).get("error"))
    if error or answer.status != 200:
        raise _refusal(text(error.get("code")), str(error.get("description") or ""), answer)
    results = [members(one) for one in rows(members(envelope).get("result"))]
    if envelope is None:
        raise NotAPrice(f"{_TITLE} answered something that is no price")
    if not results:
        raise UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    found = Found(_TITLE, answer, own_symbol)
    for result in results:
        if "meta" in result:
            _read_chart(result, found)
        else:
            _read_quote(result, found)
    return found.result()


_ENVELOPES: Final = ("chart", "quoteResponse", "spark", "finance")


def _read_chart(result: Members, found: Found) -> None:
    meta = members(result["meta"])
    symbol = found.asked(meta.get("symbol"))
    if "regularMarketPrice" in meta:
        _read_market(meta, symbol, text(meta.get("exchangeName")), found)
    _read_series(result, meta, symbol, found)


def _read_quote(quote: Members, found: Found) -> None:
    """File an element of quoteResponse (v7)."""
    if (symbol := found.caller(quote.get("symbol"))) is not None:
        _read_market(quote, symbol, text(quote.get("exchange")), found)


def _read_market(meta: Members, symbol: str, exchange: str, found: Found) -> None:
    found.quote(
        symbol,
        meta.get("regularMarketPrice"),
        epoch(meta.get("regularMarketTime"), Precision.SECOND),
        # As it stands: GBp is a hundredth of a pound.
        currency=text(meta.get("currency")) or None,
        exchange=exchange or None,
        delayed=(number(meta.get("exchangeDataDelayedBy")) or 0) > 0,
    )


def _read_series(result: Members, meta: Members, symbol: str, found: Found) -> None:
    """File the bars; intervals without trades are nulls and left out."""
    columns = members(at(members(result.get("indicators")).get("quote"), 0))
    for place, time in enumerate(rows(result.get("timestamp"))):
        prices = [at(columns.get(name), place) for name in ("open", "high", "low", "close")]
        if None in prices:
            continue
        found.bar(
            symbol,
            epoch(time, Precision.SECOND),
            prices,
            volume=at(columns.get("volume"), place),
            interval=text(meta.get("dataGranularity")) or None,
            currency=text(meta.get("currency")) or None,
            adjusted=True,
        )


def _refusal(code: str, words: str, answer: Answer) -> ProviderError:
    lower, told = words.lower(), detail(_TITLE, "" if words.startswith("<") else words, answer)
    if "too many requests" in lower or answer.status == 429:
        # By address, for a quarter of an hour and more, for invented symbols alike.
        return Throttled(told, throttle=Throttle.UNSPECIFIED, retry_after=wait(answer, 900))
    if "will be right back" in lower:
        return ProviderDown(told)
    if code == "Not Found" or "no data found" in lower or "delisted" in lower:
        return UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    if "crumb" in lower or "cookie" in lower or code == "Unauthorized":
        return ProviderRefused(told, code="invalid_key")
    if answer.status == 404:
        return UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    return by_status(_TITLE, "" if words.startswith("<") else words, answer)


YAHOO: Final = Vendor(
    name="yahoo",
    title=_TITLE,
    origin="https://query2.finance.yahoo.com",
    request=request,
    parse=parse,
    asked=asked,
    history=history,
)
