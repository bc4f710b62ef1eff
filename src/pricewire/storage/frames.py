"""Frames of feeds in the database: written by the door in batches, found one by one, deleted old.

`recording` writes them, `reads` finds them; fulfils `services.retention.FrameStore`. Invariant: a
frame comes back byte for byte, by the id that its events name, for as long as it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from pricewire.domain.frames import FrameBatch, first_batch_id, frame_in, packed, place_of
from pricewire.domain.quote import RawResponse
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import raw_frames

SWITCHING_PROTOCOLS = 101
"""What the vendor answered to the request by which all frames came."""

Packs = Mapping[UUID, bytes]
"""Batches' frames as they are kept, by batch."""


class SqlFrames:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def frame(self, frame: UUID) -> RawResponse | None:
        """Return a frame as the raw response that it is."""
        batch, index = place_of(frame)
        statement = select(raw_frames).where(raw_frames.c.id == batch, raw_frames.c.frames > index)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            return None
        received, body = await asyncio.to_thread(frame_in, row.body, row.frames, index)
        return RawResponse(
            id=frame,
            provider=row.provider,
            url=row.url,
            status=SWITCHING_PROTOCOLS,
            headers=(("content-type", _content_type(body)),),
            body=body,
            fetched_at=received,
        )

    async def delete_before(self, moment: datetime, limit: int) -> int:
        old = (
            select(raw_frames.c.id)
            .where(raw_frames.c.id < first_batch_id(moment))
            .order_by(raw_frames.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = delete(raw_frames).where(raw_frames.c.id.in_(old))
        return await self._database.write(
            Rank.BULK, lambda connection: connection.execute(statement).rowcount
        )


def packs_of(batches: Sequence[FrameBatch]) -> Packs:
    return {batch.id: packed(batch.frames) for batch in batches}


def frames_row(batch: FrameBatch, pack: bytes) -> dict[str, object]:
    return {
        "id": batch.id,
        "provider": batch.provider,
        "url": batch.url,
        "first_received_at": batch.frames[0][0],
        "last_received_at": batch.frames[-1][0],
        "frames": len(batch.frames),
        "body": pack,
    }


def _content_type(frame: bytes) -> str:
    """Say what a frame is; feeds say nothing of it themselves."""
    if frame.lstrip()[:1] in (b"{", b"["):
        return "application/json"
    return "text/plain" if frame.isascii() else "application/octet-stream"
