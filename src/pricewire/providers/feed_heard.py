"""What one frame says, as it is read; every feed's conversation fills one for each frame.

Invariant: a tick has a caller's form, the digits and the time of the frame; a trade that cannot be
read is `Unreadable` and keeps none of its neighbours from being read; a trade of a symbol that
nobody wants is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from pricewire.domain.feed import Alive, Ended, Refused, Said, Subscribed, Tick, Unreadable
from pricewire.domain.quote import PriceKind, Quote
from pricewire.errors import NotAPrice, ProviderError
from pricewire.providers.feed_anatomy import ending
from pricewire.providers.feed_roster import Caller, Roster
from pricewire.providers.found import Details
from pricewire.providers.readers import Stamp, identity, number, text


class TickDetails(Details, total=False):
    """What else a frame says about a trade.

    `count` is the vendor's number of the trade; where each trade has one, None is an error.
    """

    count: int | None
    old: bool


class Heard:
    """What a frame says.

    Args:
        vendor: the name in error texts.
        delayed: the whole feed is.
    """

    __slots__ = ("delayed", "roster", "said", "vendor")

    def __init__(self, vendor: str, roster: Roster, *, delayed: bool = False) -> None:
        self.vendor = vendor
        self.roster = roster
        self.delayed = delayed
        self.said: list[Said] = []

    def result(self) -> list[Said]:
        return self.said or [Alive()]

    def tick(
        self, named: object, price: object, stamp: Stamp | None, **details: Unpack[TickDetails]
    ) -> None:
        """Say a trade to each caller's form of its symbol."""
        if not text(named):
            self.unreadable("a trade without a symbol")
        elif callers := self.roster.find(text(named)):
            self._tell(callers, price, stamp, **details)

    def _tell(
        self,
        callers: Sequence[Caller],
        price: object,
        stamp: Stamp | None,
        **details: Unpack[TickDetails],
    ) -> None:
        if "count" in details and details["count"] is None:
            self.unreadable(f"a trade of {callers[0].symbol} without its number")
            return
        try:
            quote = self._quote(callers[0], price, stamp, details)
        except NotAPrice as error:
            self.said.append(Unreadable(error.detail))
            return
        count, old = details.get("count"), details.get("old", False)
        self.said.append(Tick(quote=quote, number=count, old=old))
        for caller in callers[1:]:
            currency = details.get("currency") or caller.currency
            other = replace(quote, symbol=caller.symbol, currency=currency)
            self.said.append(Tick(quote=other, number=count, old=old))

    def _quote(
        self, caller: Caller, price: object, stamp: Stamp | None, details: TickDetails
    ) -> Quote:
        value, symbol = number(price), caller.symbol
        if value is None or stamp is None:
            what = "price" if value is None else "time"
            raise NotAPrice(f"{self.vendor} sent a trade of {symbol} without a {what}")
        return Quote(
            symbol=symbol,
            price=value,
            timestamp=stamp.moment,
            precision=stamp.precision,
            nanosecond=stamp.nanosecond,
            kind=details.get("kind", PriceKind.LAST),
            currency=details.get("currency") or caller.currency,
            exchange=details.get("exchange"),
            delayed=self.delayed,
            size=number(details.get("size")),
            bid=number(details.get("bid")),
            ask=number(details.get("ask")),
            trade_id=identity(details.get("trade_id")),
        )

    def unreadable(self, what: str) -> None:
        """Say that the vendor sent what it does not send."""
        self.said.append(Unreadable(f"{self.vendor} sent {what}"))

    def subscribed(self, names: Sequence[str]) -> None:
        """Say that the vendor confirms these."""
        if callers := self.roster.symbols(names):
            self.said.append(Subscribed(callers))

    def refused(self, named: str, error: ProviderError) -> None:
        """Say that the vendor does not give a symbol, and forget it."""
        self.said += [Refused(caller, error) for caller in self.roster.strike(named)]

    def ended(self, error: ProviderError) -> None:
        self.said.append(Ended(ending(error)))
