"""A tally of what one answer holds, by the callers' symbols; every vendor's parser fills one.

Invariant: each symbol that was asked for ends with a quote, a bar or the error that says why not,
and nothing is filed under a symbol that nobody asked for. Where none was asked for (a stored body),
the body's own symbols count, and a price without one is filed under the empty symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypedDict, Unpack

from pricewire.domain.quote import Bar, Precision, PriceKind, Quote
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidSymbol, NotAPrice, ProviderError, UnknownSymbol
from pricewire.providers.anatomy import Answer, Parsed
from pricewire.providers.readers import Stamp, identity, number, text
from pricewire.providers.refusals import said

UNNAMED = ""
"""The symbol of a price that neither the caller nor the body names; only of stored bodies."""


class Details(TypedDict, total=False):
    """What else an answer says about a price; the last four as they stand in the body."""

    kind: PriceKind
    currency: str | None
    exchange: str | None
    delayed: bool
    adjusted: bool | None
    size: object
    bid: object
    ask: object
    trade_id: object


class BarDetails(TypedDict, total=False):
    """What else an answer says about a bar; the volume as it stands in the body."""

    volume: object
    interval: str | None
    currency: str | None
    adjusted: bool | None


class Found:
    """The tally.

    Args:
        vendor: the name in error texts.
        own: the vendor's form of a caller's symbol.
        delayed: whether the answer as a whole says so.
    """

    def __init__(
        self, vendor: str, answer: Answer, own: Callable[[str], str], *, delayed: bool = False
    ) -> None:
        self.vendor = vendor
        self.answer = answer
        self.delayed = delayed
        self._own = own
        # The first of several forms of one instrument; the others get their copies in the end.
        self._callers = {own(symbol): symbol for symbol in reversed(answer.symbols)}
        self._quotes: list[Quote] = []
        self._bars: list[Bar] = []
        self._refused: dict[str, ProviderError] = {}

    @property
    def no_time(self) -> Stamp:
        """The stamp of a price that came without a time."""
        return Stamp(self.answer.fetched_at, Precision.NONE)

    def caller(self, named: object) -> str | None:
        """Return the caller's form of a symbol in the body; None if nobody asked for it."""
        name = text(named)
        if self._callers:
            return self._callers.get(name) or self._callers.get(self._own(name))
        try:
            return parse_symbol(name)
        except InvalidSymbol:
            return None

    def asked(self, *names: object) -> str:
        """Return the caller's form of the one symbol that the body is about, under any name.

        Raises:
            NotAPrice: it is another one.
        """
        for name in names:
            if (symbol := self.caller(name)) is not None:
                return symbol
        answered = said(text(names[0]), self.answer) or "no symbol"
        asked = self.answer.asked_for
        raise NotAPrice(f"{self.vendor} was asked for {asked} and answered {answered}")

    def only(self) -> str:
        """Return the one symbol that was asked for, for a body that names none.

        Raises:
            NotAPrice: it was not one.
        """
        if len(self.answer.symbols) > 1:
            raise NotAPrice(f"{self.vendor} does not say whose price this is")
        return self.answer.symbols[0] if self.answer.symbols else UNNAMED

    def quote(
        self, symbol: str, price: object, stamp: Stamp | None, **details: Unpack[Details]
    ) -> None:
        """File a price; what is none is filed as an error."""
        value = number(price)
        if value is None or stamp is None:
            what = "price" if value is None else "time"
            self.refuse(symbol, NotAPrice(f"{self.vendor} gave no {what} for {symbol}"))
            return
        try:
            self._quotes.append(
                Quote(
                    symbol=symbol,
                    price=value,
                    timestamp=stamp.moment,
                    precision=stamp.precision,
                    nanosecond=stamp.nanosecond,
                    kind=details.get("kind", PriceKind.LAST),
                    currency=details.get("currency"),
                    exchange=details.get("exchange"),
                    delayed=self.delayed or details.get("delayed", False),
                    adjusted=details.get("adjusted"),
                    size=number(details.get("size")),
                    bid=number(details.get("bid")),
                    ask=number(details.get("ask")),
                    trade_id=identity(details.get("trade_id")),
                )
            )
        except NotAPrice as error:
            self.refuse(symbol, error)

    def bar(
        self,
        symbol: str,
        stamp: Stamp | None,
        prices: Iterable[object],
        **details: Unpack[BarDetails],
    ) -> None:
        """File open, high, low and close, in this order; what is no bar is filed as an error."""
        values = [value for value in map(number, prices) if value is not None]
        if stamp is None or len(values) != 4:
            self.refuse(symbol, NotAPrice(f"{self.vendor} gave no bar for {symbol}"))
            return
        try:
            self._bars.append(
                Bar(
                    symbol=symbol,
                    timestamp=stamp.moment,
                    precision=stamp.precision,
                    open=values[0],
                    high=values[1],
                    low=values[2],
                    close=values[3],
                    volume=number(details.get("volume")),
                    interval=details.get("interval"),
                    currency=details.get("currency"),
                    adjusted=details.get("adjusted"),
                )
            )
        except NotAPrice as error:
            self.refuse(symbol, error)

    def refuse(self, symbol: str, error: ProviderError) -> None:
        """File why `symbol` has no price; the first reason stays."""
        self._refused.setdefault(symbol, error)

    def result(self) -> Parsed:
        """Return the tally.

        Raises:
            ProviderError: there is neither a quote nor a bar; the first reason.
        """
        self._copy_other_forms()
        held = {quote.symbol for quote in self._quotes} | {bar.symbol for bar in self._bars}
        for symbol in self.answer.symbols:
            if symbol not in held:
                self.refuse(symbol, UnknownSymbol(f"{self.vendor} has no data for {symbol}"))
        if not held:
            reasons = iter(self._refused.values())
            raise next(reasons, NotAPrice(f"{self.vendor} gave no price"))
        refused = {name: error for name, error in self._refused.items() if name not in held}
        return Parsed(tuple(self._quotes), tuple(self._bars), refused)

    def _copy_other_forms(self) -> None:
        """Give BRK-B what BRK.B has where both were asked for."""
        for symbol in self.answer.symbols:
            first = self._callers[self._own(symbol)]
            if first == symbol:
                continue
            self._quotes += [replace(one, symbol=symbol) for one in self._quotes_of(first)]
            self._bars += [replace(one, symbol=symbol) for one in self._bars if one.symbol == first]
            if first in self._refused:
                self.refuse(symbol, self._refused[first])

    def _quotes_of(self, symbol: str) -> list[Quote]:
        return [one for one in self._quotes if one.symbol == symbol]
