"""Frames in batches: ids that lead back, bytes that come out as they went in; their deletion."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from pricewire.domain.frames import (
    MAX_FRAMES,
    FrameBatch,
    first_batch_id,
    frame_id,
    frame_in,
    new_batch_id,
    packed,
    place_of,
)
from pricewire.errors import StoreUnavailable
from pricewire.services.retention import LOOK_SECONDS, PIECE, REST_SECONDS, FrameRetention
from tests.builders import FETCHED_AT
from tests.fakes import in_virtual_time

moments = st.datetimes(timezones=st.just(UTC))


@given(st.lists(st.tuples(moments, st.binary(max_size=300)), min_size=1, max_size=20))
def test_every_frame_comes_out_of_its_batch_with_its_time(
    frames: list[tuple[datetime, bytes]],
) -> None:
    body = packed(frames)
    assert [frame_in(body, len(frames), index) for index in range(len(frames))] == frames


@given(st.integers(0, MAX_FRAMES - 1))
def test_a_frames_id_says_where_it_is(index: int) -> None:
    batch = new_batch_id(uuid7())
    frame = frame_id(batch, index)
    assert place_of(frame) == (batch, index)
    assert (frame.version, frame.variant) == (7, uuid7().variant)


def test_batches_are_told_apart_and_ordered_by_the_time_at_which_they_were_made() -> None:
    ids = [new_batch_id(uuid7()) for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    now = datetime.now(UTC)
    assert first_batch_id(now - timedelta(seconds=60)) < min(ids)
    assert max(ids) < first_batch_id(now + timedelta(seconds=1))


def test_a_batch_has_an_id_of_its_own_kind_and_as_many_frames_as_that_has_places() -> None:
    frame = (FETCHED_AT, b"{}")
    batch = new_batch_id(uuid7())
    for count in (0, MAX_FRAMES + 1):
        with pytest.raises(ValueError, match="no batch"):
            FrameBatch(id=batch, provider="x", url="wss://x", frames=[frame] * count)
    with pytest.raises(ValueError, match="no id of a batch"):
        FrameBatch(id=frame_id(batch, 1), provider="x", url="wss://x", frames=[frame])


class FakeFrames:
    """Has so many old batches; notes when each piece was deleted."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.error: StoreUnavailable | None = None
        self.before: list[datetime] = []
        self.deleted: list[tuple[float, int]] = []

    async def delete_before(self, moment: datetime, limit: int) -> int:
        self.before.append(moment)
        if self.error is not None:
            raise self.error
        piece = min(limit, self.batches)
        self.batches -= piece
        self.deleted.append((asyncio.get_running_loop().time(), piece))
        return piece


@in_virtual_time
async def test_old_frames_are_deleted_piece_by_piece_with_a_rest_and_every_hour_again() -> None:
    store = FakeFrames(2 * PIECE + 1)
    retention = FrameRetention(store, days=30, clock=lambda: FETCHED_AT)
    task = asyncio.create_task(retention.run())
    await asyncio.sleep(60)
    assert [piece for _, piece in store.deleted] == [PIECE, PIECE, 1, 0]
    times = [time for time, _ in store.deleted]
    assert all(later - time >= REST_SECONDS for time, later in pairwise(times))
    assert set(store.before) == {FETCHED_AT - timedelta(days=30)}
    store.batches = 1
    await asyncio.sleep(LOOK_SECONDS)
    assert store.batches == 0
    task.cancel()


@in_virtual_time
async def test_a_database_that_was_away_is_asked_again_later() -> None:
    store = FakeFrames(1)
    store.error = StoreUnavailable("away")
    task = asyncio.create_task(FrameRetention(store, days=1, clock=lambda: FETCHED_AT).run())
    await asyncio.sleep(60)
    assert (store.batches, len(store.before)) == (1, 1)
    store.error = None
    await asyncio.sleep(LOOK_SECONDS)
    assert store.batches == 0
    task.cancel()
