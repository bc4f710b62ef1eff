"""A quote between bid and ask, for answers of the stock vendors that hold no trade.

Invariant: its kind is `mid`, and both sides are filed beside it as they stand in the body.
"""

from __future__ import annotations

from pricewire.domain.quote import PriceKind
from pricewire.providers.found import Found
from pricewire.providers.readers import Stamp, mid


def file_mid(
    found: Found,
    symbol: str,
    sides: tuple[object, object],
    stamp: Stamp | None,
    *,
    currency: str | None = None,
    exchange: str | None = None,
    delayed: bool = False,
) -> None:
    """File the middle of bid and ask; crossed or missing sides are filed as an error."""
    bid, ask = sides
    found.quote(
        symbol,
        mid(bid, ask),
        stamp,
        kind=PriceKind.MID,
        bid=bid,
        ask=ask,
        currency=currency,
        exchange=exchange,
        delayed=delayed,
    )
