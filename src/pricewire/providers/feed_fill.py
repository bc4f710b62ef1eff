"""Reading the trades of a gap out of a REST answer; the feeds that can fill gaps call this.

Invariant: only trades whose numbers lie in the gap come out, in the order of their numbers, each
once; an answer that refuses raises what the vendor's parser makes of it, and one without any of
the trades is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pricewire.domain.feed import Tick
from pricewire.providers.anatomy import Answer, Vendor
from pricewire.providers.feed_anatomy import Gap, refusal
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import NotJson, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """How a vendor's answers hold trades.

    Args:
        roster: makes a fresh one.
        of: the trades of a symbol (the vendor's form or a caller's) in a body; None: there is no
            such list in it.
        file: files one of them as one of that symbol.
    """

    roster: Callable[[], Roster]
    of: Callable[[object, str], Sequence[object] | None]
    file: Callable[[object, str, Heard], None]


def filled(vendor: Vendor, trades: Trades, answer: Answer, gap: Gap) -> list[Tick]:
    """Return the trades of a gap.

    Raises:
        ProviderError: the answer refuses.
    """
    try:
        listed = trades.of(read_json(answer.body), gap.symbol)
    except NotJson:
        raise refusal(vendor, answer) from None
    if listed is None or answer.status != 200:
        raise refusal(vendor, answer)
    roster = trades.roster()
    roster.add([gap.symbol])
    heard = Heard(vendor.title, roster)
    for trade in listed:
        trades.file(trade, gap.symbol, heard)
    ticks = {one.number: one for one in heard.said if isinstance(one, Tick)}
    numbers = sorted(number for number in ticks if number and gap.first <= number <= gap.last)
    return [ticks[number] for number in numbers]


def bare_list(body: object, _symbol: str) -> Sequence[object] | None:
    """Return a body that is the list of one symbol's trades."""
    return body if isinstance(body, list) else None
