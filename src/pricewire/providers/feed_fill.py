"""Reading the trades of a gap out of a REST answer; the feeds that can fill gaps call this.

Invariant: only trades whose numbers lie in the gap come out, in the order of their numbers, each
once; an answer that refuses raises what the vendor's parser makes of it.
"""

from __future__ import annotations

from collections.abc import Callable

from pricewire.domain.feed import Tick
from pricewire.providers.anatomy import Answer, Vendor
from pricewire.providers.feed_anatomy import Gap, refusal
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import NotJson, read_json


def filled(
    vendor: Vendor,
    answer: Answer,
    gap: Gap,
    roster: Roster,
    file: Callable[[object, Heard], None],
) -> list[Tick]:
    """Return the trades of a gap.

    Args:
        roster: a fresh one.
        file: files each trade of the body.

    Raises:
        ProviderError: the answer refuses.
    """
    roster.add([gap.symbol])
    heard = Heard(vendor.title, roster)
    try:
        body = read_json(answer.body)
    except NotJson:
        raise refusal(vendor, answer) from None
    if answer.status == 200:
        file(body, heard)
    if not heard.said and not (answer.status == 200 and body == []):
        raise refusal(vendor, answer)
    ticks = {one.number: one for one in heard.said if isinstance(one, Tick)}
    numbers = sorted(number for number in ticks if number and gap.first <= number <= gap.last)
    return [ticks[number] for number in numbers]
