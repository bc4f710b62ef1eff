"""Receipts: what became of an event; asked by the API, told by the relay where it runs here.

Invariant: `published` is said only of an event that the broker has. Where the relay is another
process, or its report was not noted yet, the database is asked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from pricewire.domain.event import EventId, EventState, Publication, Receipt, failed_attempts
from pricewire.domain.quote import RawResponse
from pricewire.errors import NotFound

POLL_SECONDS = 0.05
REMEMBERED = 20_000
"""More than all shards together may have reported and not marked yet."""


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """What the database says of an event; `blocked_since` is its shard's, if it still waits."""

    receipt: Receipt
    blocked_since: datetime | None


class ReceiptStore(Protocol):
    """All raise `StoreError`."""

    async def receipt(self, event_id: EventId) -> StoredReceipt | None: ...

    async def raw_response(self, raw_response_id: UUID) -> RawResponse | None:
        """Return an answer, or a frame of a feed, as it came."""
        ...

    async def has_price(self, raw_response_id: UUID) -> bool:
        """Tell whether a price was made from this, whether or not it is kept any more."""
        ...


class Receipts:
    """Answers for events and raw responses that were recorded.

    Args:
        attempt: how long one attempt lasts.
        attempts: how many failed ones make an event stuck.
    """

    def __init__(
        self,
        store: ReceiptStore,
        *,
        attempt: timedelta,
        attempts: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._attempt = attempt
        self._attempts = attempts
        self._clock = clock
        self._awaited: dict[EventId, set[asyncio.Future[Publication]]] = {}
        self._reported: OrderedDict[EventId, Publication] = OrderedDict()

    def published(self, publication: Publication) -> None:
        """Note that the broker has the event, before the relay marks it, and tell who waits."""
        self._reported[publication.event_id] = publication
        if len(self._reported) > REMEMBERED:
            self._reported.popitem(last=False)
        for future in self._awaited.get(publication.event_id, ()):
            if not future.done():
                future.set_result(publication)

    async def receipt(self, event_id: EventId) -> Receipt:
        """Return what is known of an event.

        Raises:
            NotFound: there is no such event.
        """
        stored = await self._store.receipt(event_id)
        if stored is None:
            raise NotFound(f"there is no event {event_id}")
        receipt = stored.receipt
        if receipt.state is EventState.PUBLISHED:
            return receipt
        if (publication := self._reported.get(event_id)) is not None:
            return _published(receipt, publication)
        failed = failed_attempts(
            now=self._clock(),
            blocked_since=stored.blocked_since,
            recorded_at=receipt.recorded_at,
            attempt=self._attempt,
        )
        state = EventState.STUCK if failed >= self._attempts else EventState.QUEUED
        return replace(receipt, state=state, attempts=failed)

    async def wait(self, event_id: EventId, seconds: float) -> Receipt:
        """Return the receipt once the event is published, or after `seconds` as it is then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        reported: asyncio.Future[Publication] = loop.create_future()
        self._awaited.setdefault(event_id, set()).add(reported)
        try:
            while (left := end - loop.time()) > 0:
                receipt = await self.receipt(event_id)
                if receipt.state is EventState.PUBLISHED:
                    return receipt
                await asyncio.wait([reported], timeout=min(left, POLL_SECONDS))
                if reported.done():
                    return _published(receipt, reported.result())
            return await self.receipt(event_id)
        finally:
            self._awaited[event_id].discard(reported)
            if not self._awaited[event_id]:
                del self._awaited[event_id]

    async def raw_response(self, raw_response_id: UUID) -> RawResponse:
        """Return a provider's answer, or a frame of its feed, byte for byte.

        Raises:
            NotFound: there is no such answer, or it was a frame and is not kept any more.
        """
        raw = await self._store.raw_response(raw_response_id)
        if raw is not None:
            return raw
        if await self._store.has_price(raw_response_id):
            # Only frames are ever deleted.
            raise NotFound(
                f"the frame {raw_response_id} is not kept any more: frames of feeds are deleted "
                "after RAW_FRAMES_DAYS days"
            )
        raise NotFound(f"there is no raw response {raw_response_id}")


def _published(receipt: Receipt, publication: Publication) -> Receipt:
    return replace(
        receipt,
        state=EventState.PUBLISHED,
        attempts=0,
        last_error=None,
        publication=publication,
    )
