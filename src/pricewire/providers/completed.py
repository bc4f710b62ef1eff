"""What follows from an answer beyond its words; the parsers of the stock vendors end with it.

A pair's price is counted in its second code, and a series ends with a price. Invariant: what the
answer itself says is never overwritten.
"""

from __future__ import annotations

from dataclasses import replace

from pricewire.domain.quote import Bar, Precision, PriceKind, Quote
from pricewire.errors import UnknownSymbol
from pricewire.providers.anatomy import Parsed
from pricewire.providers.found import Found
from pricewire.providers.symbols import pair_of


def complete(found: Found, *, is_empty: bool = False) -> Parsed:
    """Return what was found.

    Args:
        is_empty: the answer is what this vendor gives for symbols that it does not know.

    Raises:
        ProviderError: there is neither a quote nor a bar.
    """
    if is_empty:
        asked = ", ".join(found.answer.symbols[:10]) or "what was asked for"
        raise UnknownSymbol(f"{found.vendor} has no data for {asked}")
    parsed = found.result()
    bars = tuple(
        bar if bar.currency else replace(bar, currency=counted_in(bar.symbol))
        for bar in parsed.bars
    )
    quotes = parsed.quotes + _newest_closes(parsed.quotes, bars)
    quotes = tuple(
        quote if quote.currency else replace(quote, currency=counted_in(quote.symbol))
        for quote in quotes
    )
    return replace(parsed, quotes=quotes, bars=bars)


def owner(found: Found, named: object) -> str | None:
    """Return the caller's form of one of the symbols of a body; None for one to be passed over.

    Raises:
        NotAPrice: one symbol was asked for, and this is another.
    """
    return found.asked(named) if len(found.answer.symbols) == 1 else found.caller(named)


def counted_in(symbol: str) -> str | None:
    """Return the second code of a pair."""
    pair = pair_of(symbol)
    return pair.quote if pair else None


def _newest_closes(quotes: tuple[Quote, ...], bars: tuple[Bar, ...]) -> tuple[Quote, ...]:
    """Return what the newest bar of each symbol closed at, where it has bars alone."""
    quoted = {quote.symbol for quote in quotes}
    newest: dict[str, Bar] = {}
    for bar in bars:
        if bar.symbol not in newest or bar.timestamp > newest[bar.symbol].timestamp:
            newest[bar.symbol] = bar
    return tuple(_close(bar) for symbol, bar in newest.items() if symbol not in quoted)


def _close(bar: Bar) -> Quote:
    return Quote(
        symbol=bar.symbol,
        price=bar.close,
        timestamp=bar.timestamp,
        precision=bar.precision,
        kind=PriceKind.CLOSE if bar.precision is Precision.DAY else PriceKind.LAST,
        currency=bar.currency,
        adjusted=bar.adjusted,
    )
