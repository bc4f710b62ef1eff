"""Which ticks of a symbol were seen, so that none is recorded twice and no gap goes unseen; pure.

`services.feeds.driver` keeps one ledger for each symbol of a feed, and its state beside the ticks.
Where the vendor counts a symbol's trades, the count tells repetitions and gaps exactly; where
trades only have ids, the last ones are remembered; where they have neither, every tick is new.
Invariant: memory does not grow with the number of ticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from pricewire.domain.feed import Tick

MAX_RANGES = 64
MAX_IDS = 256
MAX_NUMBER = 2**63 - 1
ANEW = timedelta(seconds=1)
"""A lower number that is traded so much later than the highest one is no repetition: the vendor
counts anew. Trades that overtake each other are nearer together."""

Range = tuple[int, int]
"""Numbers from the first to the last, both of them missing."""


class Judgement(Enum):
    """What a tick is: `LATE` fills a gap."""

    NEW = "new"
    LATE = "late"
    REPEAT = "repeat"


@dataclass(slots=True)
class FeedLedger:
    """Begins with the first tick that is seen: what came before it is nobody's gap.

    Args:
        last_number: the highest; None where the vendor does not count.
        last_timestamp: of the tick that has it, or of the last tick.
        ids: of the last trades, the oldest first; only where there are no numbers.
        missing: ranges of numbers that never came, ascending; at most `MAX_RANGES`.
        ticks: new and late ones.
        gaps: jumps of the number.
        lost: numbers that are looked out for no more.
        anew: the next tick begins: a jump to it is no gap.
        before: the market's times of the ticks in front of gaps, by the gaps' last numbers.
    """

    last_number: int | None = None
    last_timestamp: datetime | None = None
    ids: dict[str, None] = field(default_factory=dict)
    missing: list[Range] = field(default_factory=list)
    ticks: int = 0
    repeats: int = 0
    gaps: int = 0
    healed: int = 0
    lost: int = 0
    anew: bool = False
    before: dict[int, datetime] = field(default_factory=dict)

    @property
    def missing_now(self) -> int:
        """How many numbers are missing."""
        return count(self.missing)

    def judge(self, tick: Tick) -> Judgement:
        """Note a tick and tell what it is."""
        number = tick.number
        if number is not None and 0 <= number <= MAX_NUMBER:
            judgement = self._by_number(tick, number)
        elif tick.quote.trade_id is not None:
            judgement = self._by_id(f"{tick.quote.exchange or ''}|{tick.quote.trade_id}")
        else:
            judgement = Judgement.NEW
        if judgement is Judgement.REPEAT:
            self.repeats += 1
            return judgement
        self.ticks += 1
        if judgement is Judgement.NEW:
            self.last_timestamp = tick.quote.timestamp
        return judgement

    def begin_anew(self) -> None:
        """Say that nobody looked: what passed until the next tick is nobody's gap."""
        self.anew = True

    def is_missing(self, number: int | None) -> bool:
        """Tell whether a number is one of the missing."""
        return number is not None and any(low <= number <= high for low, high in self.missing)

    def since(self, last: int) -> datetime | None:
        """Return the market's time of the tick in front of missing numbers up to `last`."""
        gap = min((one for one in self.before if one >= last), default=None)
        return None if gap is None else self.before[gap]

    def give_up(self, first: int, last: int) -> int:
        """Look out for the missing numbers of a span no more; return how many those were."""
        before = self.missing_now
        kept: list[Range] = []
        for low, high in self.missing:
            kept += [one for one in ((low, min(high, first - 1)), (max(low, last + 1), high))
                     if one[0] <= one[1]]  # fmt: skip
        self.missing = kept
        given_up = before - self.missing_now
        self.lost += given_up
        return given_up

    def _by_number(self, tick: Tick, number: int) -> Judgement:
        last = self.last_number
        if last is None or number == last + 1:
            self.last_number = number
            self.anew = False
            return Judgement.NEW
        if number > last:
            if not self.anew:
                self._note_gap(last + 1, number - 1)
            self.last_number = number
            self.anew = False
            return Judgement.NEW
        if self._heal(number):
            self.healed += 1
            return Judgement.LATE
        if self._counts_anew(tick):
            self.give_up(0, MAX_NUMBER)
            self.last_number = number
            return Judgement.NEW
        return Judgement.REPEAT

    def _by_id(self, trade: str) -> Judgement:
        if trade in self.ids:
            return Judgement.REPEAT
        self.ids[trade] = None
        if len(self.ids) > MAX_IDS:
            del self.ids[next(iter(self.ids))]
        return Judgement.NEW

    def _counts_anew(self, tick: Tick) -> bool:
        last = self.last_timestamp
        return not tick.old and last is not None and tick.quote.timestamp - last > ANEW

    def _note_gap(self, first: int, last: int) -> None:
        self.gaps += 1
        self.missing.append((first, last))
        if self.last_timestamp is not None:
            self.before[last] = self.last_timestamp
        if len(self.missing) > MAX_RANGES:
            self.lost += count([self.missing.pop(0)])
        if len(self.before) > MAX_RANGES:
            del self.before[min(self.before)]

    def _heal(self, number: int) -> bool:
        """Take `number` out of what is missing."""
        for index, (first, last) in enumerate(self.missing):
            if first <= number <= last:
                parts = ((first, number - 1), (number + 1, last))
                self.missing[index : index + 1] = [one for one in parts if one[0] <= one[1]]
                # Two may stand where one did.
                while len(self.missing) > MAX_RANGES:
                    self.lost += count([self.missing.pop(0)])
                return True
        return False


def count(ranges: Iterable[Range]) -> int:
    """Return how many numbers are in ranges."""
    return sum(last - first + 1 for first, last in ranges)
