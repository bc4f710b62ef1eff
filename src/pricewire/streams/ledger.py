"""Which events of a source were seen, so that none counts twice and no gap goes unseen; pure.

The runner keeps one ledger for each symbol and source (docs/delivery.md). Invariant: memory does
not grow with the number of events: the last sequence, and what is missing below it as at most
`MAX_RANGES` ranges.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from pricewire.services.processing import Counters

MAX_RANGES = 64


class Judgement(Enum):
    """What to do with an event."""

    TAKE = "take"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Missing(msgspec.Struct, array_like=True, gc=False):
    """Sequences from `first` to `last` that never came; `noticed_at` by Kafka's clock, in ms."""

    first: int
    last: int
    noticed_at: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class Ledger(msgspec.Struct, array_like=True):
    """Begins with the first event that is seen: what came before it is nobody's gap."""

    last: int
    raw_response_id: str
    missing: list[Missing] = []

    def judge(
        self, sequence: int, raw_response_id: str, logged_at: int, counters: Counters
    ) -> Judgement:
        """Note an event; `counters` are moved along."""
        if sequence > self.last:
            if sequence > self.last + 1:
                self._note_gap(sequence, logged_at, counters)
            self.last = sequence
            self.raw_response_id = raw_response_id
            return Judgement.TAKE
        if sequence == self.last and raw_response_id != self.raw_response_id:
            return Judgement.CONFLICT
        if self._heal(sequence):
            counters.missing -= 1
            counters.healed += 1
            return Judgement.TAKE
        counters.repeats += 1
        return Judgement.REPEAT

    def give_up(self, noticed_before: int, counters: Counters) -> None:
        """Count what was noticed missing before a time as lost: the topic no longer has it."""
        kept = [gap for gap in self.missing if gap.noticed_at >= noticed_before]
        self._lose(sum(map(len, self.missing)) - sum(map(len, kept)), counters)
        self.missing = kept

    def drop(self, sequence: int, counters: Counters) -> bool:
        """Count a sequence as lost if it is missing, for good; False if it may yet become so."""
        if sequence > self.last:
            return False
        if self._heal(sequence):
            self._lose(1, counters)
        return True

    def _note_gap(self, sequence: int, logged_at: int, counters: Counters) -> None:
        gap = Missing(self.last + 1, sequence - 1, logged_at)
        self.missing.append(gap)
        counters.missing += len(gap)
        if len(self.missing) > MAX_RANGES:
            self._lose(len(self.missing.pop(0)), counters)

    def _lose(self, count: int, counters: Counters) -> None:
        counters.missing -= count
        counters.lost += count

    def _heal(self, sequence: int) -> bool:
        """Take `sequence` out of what is missing."""
        for index, gap in enumerate(self.missing):
            if gap.first <= sequence <= gap.last:
                before = Missing(gap.first, sequence - 1, gap.noticed_at)
                after = Missing(sequence + 1, gap.last, gap.noticed_at)
                self.missing[index : index + 1] = [part for part in (before, after) if len(part)]
                return True
        return False
