"""A stored body read again by the code that reads live ones; `pricewire parse` prints the result.

Invariant: nothing is read that the provider's parser does not read; a body of several documents,
one a line, is a feed's frames, each read by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pricewire.domain.quote import PriceKind, Quote
from pricewire.errors import NotAPrice, ProviderError
from pricewire.providers.anatomy import Answer, Parsed, Vendor, read
from pricewire.providers.readers import NotJson, read_json


@dataclass(slots=True)
class Frames:
    """What a feed's frames hold.

    Args:
        latest: the last quote of each symbol, a trade where there is one.
        trades: how often each trade was told, by symbol and the provider's number.
        refusals: the errors that frames told, by their class.
    """

    messages: int = 0
    quotes: int = 0
    latest: dict[str, Quote] = field(default_factory=dict)
    trades: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


def read_stored(vendor: Vendor, answer: Answer) -> Parsed | Frames:
    """Return what a stored body holds; the symbols are those of the call, of the URL, or its own.

    Raises:
        ProviderError: it is no price; the class says why.
    """
    if not answer.symbols:
        answer = replace(answer, symbols=vendor.asked(answer.url))
    lines = [line for line in answer.body.splitlines() if line.strip()]
    if len(lines) < 2 or not all(map(_is_document, lines)):
        return read(vendor, answer)
    return _frames(vendor, answer, lines)


def _is_document(line: bytes) -> bool:
    try:
        return isinstance(read_json(line), dict | list)
    except NotJson:
        return False


def _frames(vendor: Vendor, answer: Answer, lines: Sequence[bytes]) -> Frames:
    frames = Frames(messages=len(lines))
    for line in lines:
        try:
            parsed = read(vendor, replace(answer, body=line))
        except NotAPrice:
            continue
        except ProviderError as error:
            frames.refusals[error.code] += 1
            continue
        for quote in parsed.quotes:
            frames.quotes += 1
            known = frames.latest.get(quote.symbol)
            # Between bid and ask is the price only as long as nobody has told a trade.
            if known is None or known.kind is PriceKind.MID or quote.kind is not PriceKind.MID:
                frames.latest[quote.symbol] = quote
            if quote.trade_id is not None:
                frames.trades[quote.symbol, quote.trade_id] += 1
    return frames
