"""The door's entrance for the past: imports and backfills call `record`.

Bulk stays outside the door's groups: its own sequences, a transaction for each call, the lowest
rank where only one can write (docs/decisions/0015). Invariant: what `record` returned is committed
and waits for the relay; a past price that is there already is counted as a repeat, so that whoever
does not know how a call ended makes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pricewire.domain.event import MAX_VALUE_BYTES, Draft, EventId
from pricewire.domain.past import PastPrice, identity_of
from pricewire.domain.quote import RawResponse
from pricewire.errors import RecordRefused
from pricewire.services.recording import Encode

MAX_ROWS = 1_000
"""Of one call, and so of one transaction."""
SLICE = 50
"""So many rows are prepared at one go; then requests that wait have their turn."""


@dataclass(frozen=True, slots=True)
class PastDraft:
    """A past price on its way through the door."""

    draft: Draft
    identity: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of the prices of one call.

    Args:
        raw_response_id: of the answer as it is kept; None where nothing in it was new.
    """

    recorded: int
    repeated: int
    raw_response_id: UUID | None = None
    first: EventId | None = None
    last: EventId | None = None


class HistoryStore(Protocol):
    @property
    def transaction_rows(self) -> int:
        """How many rows go into one transaction, so that live prices need not wait long for it."""
        ...

    async def record(self, raw: RawResponse, drafts: Sequence[PastDraft]) -> list[EventId]:
        """Record what is not there yet, in order, in one transaction; return the new events' ids.

        Raises:
            StoreError: nothing is recorded; `StoreUnavailable`: that is not known.
        """
        ...


class HistoryDoor:
    """Records past prices.

    Args:
        shard_of: partition of the topic for a symbol.
        committed: called after each commit with the shards that have news.
    """

    def __init__(
        self,
        store: HistoryStore,
        *,
        encode: Encode,
        shard_of: Callable[[str], int],
        clock: Callable[[], datetime],
        committed: Callable[[set[int]], None],
    ) -> None:
        self._store = store
        self._encode = encode
        self._shard_of = shard_of
        self._clock = clock
        self._committed = committed

    async def record(
        self, raw: RawResponse, prices: Sequence[PastPrice], *, first: int = 0
    ) -> Recorded:
        """Record prices of one answer, at most `MAX_ROWS`, in one transaction or few.

        Args:
            first: the place of the first one in its answer.

        Raises:
            RecordRefused: this can never be stored.
            StoreError: the database is away or busy.
        """
        drafts: list[PastDraft] = []
        now = self._clock()
        for start in range(0, len(prices), SLICE):
            some = prices[start : start + SLICE]
            drafts += [
                self._draft(raw, first + start + place, past, now)
                for place, past in enumerate(some)
            ]
            await asyncio.sleep(0)
        ids: list[EventId] = []
        size = self._store.transaction_rows
        for start in range(0, len(drafts), size):
            new = await self._store.record(raw, drafts[start : start + size])
            if new:
                self._committed({self._shard_of(symbol) for symbol in {one.symbol for one in new}})
            ids += new
        if not ids:
            return Recorded(0, len(prices))
        return Recorded(len(ids), len(prices) - len(ids), raw.id, ids[0], ids[-1])

    def _draft(self, raw: RawResponse, position: int, past: PastPrice, now: datetime) -> PastDraft:
        quote = past.quote
        value, headers = self._encode(quote, provider=raw.provider, raw_response_id=raw.id)
        if len(value) > MAX_VALUE_BYTES:
            raise RecordRefused(f"the event of {quote.symbol} has {len(value)} bytes")
        draft = Draft(
            quote=quote,
            raw_response_id=raw.id,
            position=position,
            provider=raw.provider,
            shard=self._shard_of(quote.symbol),
            value=value,
            headers=headers,
            fetched_at=raw.fetched_at,
            recorded_at=now,
        )
        return PastDraft(draft, identity_of(past, raw.provider))
