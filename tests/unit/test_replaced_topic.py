"""A topic that is made anew, or loses its end, under the relay: noticed, said, and published to."""

from __future__ import annotations

from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from pricewire.errors import TopicMismatch
from pricewire.services import relay as relay_module
from pricewire.services.outage import TOPIC_MISMATCH
from pricewire.services.publishing import Position
from tests.fakes import in_virtual_time, until
from tests.unit.test_relay import Room


@pytest.fixture
def room() -> Room:
    return Room()


def replace(room: Room) -> None:
    room.topic.id = str(uuid4())
    room.topic.records.clear()


def lines(logged: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in logged if line["event"] == event]


@in_virtual_time
async def test_a_topic_that_is_another_one_is_read_before_anything_is_handed_over(
    room: Room,
) -> None:
    room.database.commit("AAPL", "MSFT")
    with capture_logs() as logged:
        async with room.running():
            await until(lambda: room.drained)
            old = room.topic.id
            replace(room)
            await until(lambda: len(room.publishers.opened) == 2)
            room.database.commit("AAPL")
            await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~2"]
    assert room.database.position == Position(room.topic.id, 1)
    [line] = lines(logged, "topic.replaced")
    assert (line["old_topic_id"], line["topic_id"]) == (old, room.topic.id)
    assert line["dropped_position"] == 2
    assert "pricewire verify outbox" in line["meaning"]


@in_virtual_time
async def test_an_offset_that_is_given_twice_stops_the_shard_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has not been asked for the topic's id yet; the offsets say it before."""
    monkeypatch.setattr(room.topic, "replaced", lambda _: False)
    room.database.commit(*["AAPL"] * 3)
    async with room.running():
        await until(lambda: room.drained)
        room.publishers.automatic = False
        replace(room)
        room.database.commit(*["AAPL"] * 4)
        await until(lambda: len(room.publishers.queued) == 4)
        room.publishers.last.deliver(2)
        await until(lambda: len(room.publishers.opened) == 2)
        assert room.database.waiting == ["AAPL~6", "AAPL~7"]
        room.publishers.deliver_all()
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~4", "AAPL~5", "AAPL~6", "AAPL~7"]
    publications = room.database.publications.values()
    assert [one.offset for one in publications] == [0, 1, 2, 0, 1, 2, 3]


@in_virtual_time
async def test_the_first_offset_of_a_partition_is_no_second_one(room: Room) -> None:
    room.database.commit("AAPL")
    async with room.running() as relay:
        await until(lambda: room.drained)
        room.database.commit("AAPL")
        await until(lambda: room.drained)
    assert relay.status.rebuilds == 0


@in_virtual_time
async def test_a_topic_that_lost_its_end_is_said(room: Room) -> None:
    room.database.commit(*["AAPL"] * 3)
    async with room.running():
        await until(lambda: room.drained)
    del room.topic.records[1:]
    with capture_logs() as logged:
        async with room.running():
            await until(lambda: len(room.publishers.opened) == 2)
    [line] = lines(logged, "topic.went_back")
    assert (line["dropped_position"], line["end"]) == (3, 1)
    assert line["log_level"] == "error"


@in_virtual_time
async def test_a_topic_that_was_never_published_to_is_replaced_without_a_word(room: Room) -> None:
    async with room.running():
        await until(lambda: room.publishers.opened)
    assert room.database.position == Position(room.topic.id, 0)
    replace(room)
    with capture_logs() as logged:
        async with room.running():
            await until(lambda: len(room.publishers.opened) == 2)
    assert lines(logged, "topic.replaced") == []


@in_virtual_time
async def test_a_reading_that_is_broken_off_by_a_stop_keeps_no_position(room: Room) -> None:
    """Else the next start would not say that the topic is another one."""
    room.database.commit(*["AAPL"] * 5)
    async with room.running():
        await until(lambda: room.drained)
    kept = room.database.position
    records = list(room.topic.records)
    replace(room)
    room.topic.records.extend(records)
    async with room.running() as relay:
        await until(lambda: len(room.topic.starts) == 2)
        relay.stop()
    assert room.database.position == kept
    with capture_logs() as logged:
        async with room.running():
            await until(lambda: len(room.publishers.opened) == 3)
    assert len(lines(logged, "topic.replaced")) == 1


@in_virtual_time
async def test_a_topic_that_is_not_as_configured_is_said_once_and_left_when_it_is_right(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure = room.topic.ensure

    async def refuse() -> str:
        raise TopicMismatch("it has 2 partitions")

    monkeypatch.setattr(room.topic, "ensure", refuse)
    room.database.commit("AAPL")
    with capture_logs() as logged:
        async with room.running() as relay:
            await until(lambda: relay.status.stuck is not None)
            assert relay.status.phase == TOPIC_MISMATCH
            assert relay.status.last_error == "it has 2 partitions"
            assert room.handed == []
            monkeypatch.setattr(room.topic, "ensure", ensure)
            await until(lambda: room.drained, relay_module.MAX_PAUSE_SECONDS * 3)
            await until(lambda: relay.status.stuck is None)
    [line] = lines(logged, "topic.mismatch")
    assert line["reason"] == "it has 2 partitions"
