"""Frames of feeds: how a batch of them is named and packed, and one is found in it; pure.

`services.feeds.owner` makes batches, `storage.frames` keeps them. A batch's id is a UUIDv7 whose
low 16 bits are zero, and its frame i has the id after so many: so an event names its very frame,
and the name says in which batch it is. Invariant: a frame comes out of its batch byte for byte,
with the microsecond at which it was received.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

MAX_FRAMES = 1 << 16
"""In one batch: so many ids it has."""
LEVEL = 1
"""Of zlib: a feed's frames are alike, and a higher one costs more than it saves."""

Frame = tuple[datetime, bytes]
"""When it was received, aware UTC, and what it said."""

_PLACE = MAX_FRAMES - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBatch:
    """Frames of one connection, in the order in which they came.

    Args:
        id: from `new_batch_id`, made once: by it a second try finds what the first has recorded.
        url: of the connection, without secrets.
        frames: 1 to `MAX_FRAMES`.
    """

    id: UUID
    provider: str
    url: str
    frames: Sequence[Frame]

    def __post_init__(self) -> None:
        if not 1 <= len(self.frames) <= MAX_FRAMES:
            raise ValueError(f"{len(self.frames)} frames are no batch: 1 to {MAX_FRAMES}")
        if self.id.int & _PLACE:
            raise ValueError(f"{self.id} is no id of a batch")


def new_batch_id(uuid7: UUID) -> UUID:
    """Return the id of a batch that is made at the time of a UUIDv7."""
    return UUID(int=uuid7.int & ~_PLACE)


def frame_id(batch: UUID, index: int) -> UUID:
    """Return the id of a batch's frame, which an event has as its `raw_response_id`."""
    return UUID(int=batch.int + index)


def place_of(frame: UUID) -> tuple[UUID, int]:
    """Return in which batch a frame is, if it is one, and at which index."""
    return new_batch_id(frame), frame.int & _PLACE


def first_batch_id(moment: datetime) -> UUID:
    """Return an id that is above those of all batches made before `moment`, to the millisecond."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=milliseconds << 80)


def packed(frames: Sequence[Frame]) -> bytes:
    """Return frames as they are kept: their times, their lengths, their bytes; compressed."""
    count = len(frames)
    times = [(received - _EPOCH) // _MICROSECOND for received, _ in frames]
    lengths = [len(frame) for _, frame in frames]
    head = struct.pack(f">{count}q{count}I", *times, *lengths)
    return zlib.compress(head + b"".join([frame for _, frame in frames]), LEVEL)


def frame_in(body: bytes, count: int, index: int) -> Frame:
    """Return one of the `count` frames that were packed."""
    plain = zlib.decompress(body)
    head = struct.Struct(f">{count}q{count}I")
    numbers = head.unpack_from(plain)
    lengths = numbers[count:]
    begin = head.size + sum(lengths[:index])
    received = _EPOCH + timedelta(microseconds=numbers[index])
    return received, plain[begin : begin + lengths[index]]
