"""The relay: every rule of the shard's loop, and the interleavings that would break a promise."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pricewire.domain.event import EventId, Publication, Source, WaitingEvent
from pricewire.services import relay as relay_module
from pricewire.services.publishing import Known, Position, TailRecord, Verdict, judge
from pricewire.services.relay import IDLE_SECONDS, Relay, RelayRules, ShardRelay
from tests.builders import RECORDED_AT
from tests.fakes import (
    FakeDatabase,
    FakePublisher,
    FakePublishers,
    FakeTopic,
    ended,
    in_virtual_time,
    until,
)

RULES = RelayRules(topic="price-events", attempt=timedelta(seconds=10), attempts=3, flush_seconds=5)


class Room:
    """A shard's surroundings, and relays over them one after the other."""

    def __init__(self, shard: int = 0) -> None:
        self.journal: list[str] = []
        self.database = FakeDatabase(self.journal, shard)
        self.topic = FakeTopic(self.journal, shard)
        self.publishers = FakePublishers(self.topic, self.journal)
        self.published: list[Publication] = []

    @property
    def source(self) -> Source:
        return Source(self.database.store_id, self.database.generation)

    @property
    def handed(self) -> list[str]:
        return [line.removeprefix("hand ") for line in self.journal if line.startswith("hand")]

    @property
    def drained(self) -> bool:
        return not self.database.outbox

    def relay(self, shard: int = 0, rules: RelayRules = RULES) -> ShardRelay:
        return ShardRelay(
            shard,
            shards=self.database,
            topic=self.topic,
            open_publisher=self.publishers,
            published=self.published.append,
            rules=rules,
            clock=clock,
        )

    @asynccontextmanager
    async def running(self, rules: RelayRules = RULES) -> AsyncIterator[ShardRelay]:
        relay = self.relay(rules=rules)
        task = asyncio.create_task(relay.run())
        try:
            yield relay
            assert not task.done(), "the relay ended by itself"
        finally:
            relay.stop()
            await ended(task, 30)

    def since(self, line: str) -> list[str]:
        """What happened after the first `line` in the journal."""
        return self.journal[self.journal.index(line) + 1 :]


def clock() -> datetime:
    return RECORDED_AT + timedelta(seconds=asyncio.get_running_loop().time())


@pytest.fixture
def room() -> Room:
    return Room()


# Order, marks and position.


@in_virtual_time
async def test_events_are_handed_over_in_order_each_once_and_marked(room: Room) -> None:
    room.database.commit("AAPL", "MSFT", "AAPL")
    async with room.running() as relay:
        await until(lambda: room.drained)
        room.database.commit("MSFT")
        relay.wake()
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "MSFT~1", "AAPL~2", "MSFT~2"]
    assert room.handed == room.topic.ids
    assert [str(one.event_id) for one in room.published] == room.topic.ids
    assert room.database.publications == {one.event_id: one for one in room.published}
    assert room.database.position == Position(room.topic.id, 4)
    assert (relay.status.phase, relay.status.published) == ("stopped", 4)


@in_virtual_time
async def test_a_publication_says_where_and_when(room: Room) -> None:
    [event] = room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.drained)
    [publication] = room.published
    assert publication == Publication(
        event.event_id, 1, "price-events", 0, 0, publication.published_at
    )
    assert publication.published_at >= RECORDED_AT


@in_virtual_time
async def test_without_a_wake_up_the_outbox_is_looked_at_all_the_same(room: Room) -> None:
    async with room.running():
        await until(lambda: room.publishers.opened)
        room.database.commit("AAPL")
        await until(lambda: room.drained, relay_module.POLL_SECONDS * 2)


@in_virtual_time
async def test_a_row_that_commits_late_with_a_lower_id_is_published(room: Room) -> None:
    late = room.database.prepare("IBM")
    room.database.commit("AAPL", "MSFT")
    async with room.running():
        await until(lambda: room.drained)
        room.database.show(late)
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "MSFT~1", "IBM~1"]


@in_virtual_time
async def test_a_row_that_commits_late_does_not_make_others_go_twice(room: Room) -> None:
    room.publishers.automatic = False
    late = room.database.prepare("IBM")
    room.database.commit("AAPL", "MSFT")
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 2)
        room.database.show(late)
        await until(lambda: len(room.publishers.queued) == 3)
        room.publishers.deliver_all()
        await until(lambda: room.drained)
    assert room.handed == room.topic.ids == ["AAPL~1", "MSFT~1", "IBM~1"]


@in_virtual_time
async def test_only_a_delivery_report_takes_a_row_away(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT", "IBM")
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 3)
        await asyncio.sleep(60)
        assert room.database.waiting == ["AAPL~1", "MSFT~1", "IBM~1"]
        assert room.published == []
        room.publishers.last.deliver(2)
        await until(lambda: room.database.waiting == ["IBM~1"], 1)
        assert room.database.position == Position(room.topic.id, 2)
        await asyncio.sleep(60)
        assert room.database.waiting == ["IBM~1"]
    assert len(room.handed) == 3


@in_virtual_time
async def test_an_unreported_first_event_keeps_later_reported_ones_unmarked(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT", "IBM")
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 3)
        before = room.database.position
        room.publishers.last.deliver(2, skip=1)
        await asyncio.sleep(30)
        assert len(room.database.waiting) == 3
        assert room.database.position == before
        room.publishers.last.deliver()
        await until(lambda: room.drained)
        assert room.database.position == Position(room.topic.id, 3)


@in_virtual_time
async def test_at_most_so_many_events_are_unreported(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_UNREPORTED", 20)
    monkeypatch.setattr(relay_module, "READ_LIMIT", 7)
    room.publishers.automatic = False
    room.database.commit(*["AAPL"] * 50)
    async with room.running():
        await asyncio.sleep(30)
        assert len(room.publishers.queued) == 20
        room.publishers.last.deliver(5)
        await asyncio.sleep(30)
        assert len(room.publishers.queued) == 20
        room.publishers.deliver_all()
        await until(lambda: room.drained)
    assert room.topic.ids == [f"AAPL~{number}" for number in range(1, 51)]


@in_virtual_time
async def test_rows_that_commit_late_do_not_exceed_that_bound(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_UNREPORTED", 20)
    room.publishers.automatic = False
    late = [room.database.prepare("MSFT") for _ in range(30)]
    room.database.commit(*["AAPL"] * 30)
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 20)
        for event in late:
            room.database.show(event)
        room.publishers.last.deliver(5)
        await asyncio.sleep(5)
        assert len(room.publishers.queued) == 20
        room.publishers.deliver_all()
        await until(lambda: room.drained)


@in_virtual_time
async def test_what_was_handed_over_is_not_read_again_while_kafka_is_away(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit(*["AAPL"] * 1_000)
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 1_000)
        for _ in range(100):
            room.database.commit("AAPL")
            await asyncio.sleep(0.1)
        await until(lambda: len(room.publishers.queued) == 1_100)
        assert room.database.rows_read == 1_100
        room.publishers.deliver_all()
        await until(lambda: room.drained)


# Trouble with the producer: purge, new producer, reconcile, go on at the first unmarked event.


@in_virtual_time
async def test_after_a_failed_report_all_is_purged_looked_up_and_handed_over_anew(
    room: Room,
) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT", "AAPL")
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 3)
        room.publishers.last.deliver(1)
        room.publishers.last.fail()
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.since("fail MSFT~1")[:5] == ["close", "read", "open", "hand MSFT~1", "hand AAPL~2"]
    assert room.topic.ids == ["AAPL~1", "MSFT~1", "AAPL~2"]
    assert relay.status.rebuilds == 1
    assert room.journal.count("lock") == 1


@in_virtual_time
async def test_nothing_is_handed_over_between_a_failed_report_and_the_purge(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.publishers.queued)
        await asyncio.sleep(0.1)
        room.database.commit("AAPL")
        room.publishers.last.fail()
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.since("fail AAPL~1")[0] == "close"


@in_virtual_time
async def test_nothing_is_handed_over_after_a_report_that_fails_while_the_outbox_is_read(
    room: Room,
) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL")
    async with room.running() as relay:
        await until(lambda: room.publishers.queued)
        await asyncio.sleep(0.1)
        room.database.commit("AAPL")
        relay.wake()
        await asyncio.sleep(room.database.LATENCY * 1.5)
        assert room.publishers.queued == ["AAPL~1"]
        room.publishers.last.fail()
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.since("fail AAPL~1")[0] == "close"


@in_virtual_time
async def test_a_fatal_error_is_noticed_without_any_report(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 2)
        room.publishers.last.die()
        await until(lambda: relay.status.rebuilds, 2)
        assert relay.status.last_error == "Fatal: producer id was fenced"
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]


@in_virtual_time
async def test_a_refused_hand_over_starts_anew_at_the_same_event(room: Room) -> None:
    room.database.commit("AAPL", "AAPL")
    room.publishers.refuses = True
    async with room.running() as relay:
        await until(lambda: room.drained)
    assert room.topic.ids == room.handed == ["AAPL~1", "AAPL~2"]
    assert [line for line in room.journal if not line.startswith("hand")][:6] == [
        *("lock", "read", "open", "close", "read", "open")
    ]
    assert relay.status.rebuilds == 1


@in_virtual_time
async def test_what_arrived_without_a_report_is_not_sent_again(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL", "MSFT")
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 3)
        room.publishers.last.deliver(2, lose_reports=True)
        room.publishers.last.fail()
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2", "MSFT~1"]
    assert relay.status.found_on_topic == 2


@in_virtual_time
async def test_after_too_large_batches_are_of_one(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 2)
        room.publishers.last.fail("Broker: Message size too large", too_large=True)
        await until(lambda: len(room.publishers.opened) == 2 and room.publishers.queued)
        room.publishers.last.fail()
        await until(lambda: len(room.publishers.opened) == 3 and room.publishers.queued)
        room.publishers.deliver_all()
        await until(lambda: room.drained)
    assert [publisher.single for publisher in room.publishers.opened] == [False, True, True]
    assert relay.status.rebuilds == 2


@in_virtual_time
async def test_other_failures_leave_batches_as_they_are(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.publishers.queued)
        room.publishers.last.fail()
        await until(lambda: len(room.publishers.opened) == 2)
        assert not room.publishers.last.single


@in_virtual_time
async def test_an_event_that_is_refused_for_ever_keeps_its_place(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    async with room.running():
        for turn in range(1, 6):
            await until(
                lambda turn=turn: len(room.publishers.opened) == turn and room.publishers.queued  # type: ignore[misc]
            )
            assert room.publishers.queued[0] == "AAPL~1"
            room.publishers.last.fail()
        await until(lambda: len(room.publishers.opened) == 6 and room.publishers.queued)
        room.publishers.deliver_all()
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]


# Reconcile.


@in_virtual_time
async def test_what_is_on_the_topic_is_marked_and_not_handed_over(room: Room) -> None:
    first, second = room.database.commit("AAPL", "AAPL")
    room.topic.append(first.event_id, room.source, first.raw_response_id)
    async with room.running() as relay:
        await until(lambda: room.drained)
    assert room.handed == ["AAPL~2"]
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]
    assert [one.event_id for one in room.published] == [first.event_id, second.event_id]
    assert (relay.status.found_on_topic, relay.status.published) == (1, 1)
    assert room.database.generation == 1


@in_virtual_time
async def test_the_end_is_read_also_when_the_outbox_is_empty(room: Room) -> None:
    room.database.position = Position(room.topic.id, 0)
    room.topic.append(EventId("AAPL", 9), room.source, uuid4())
    async with room.running():
        await until(lambda: room.publishers.opened)
    assert room.database.generation == 2


@in_virtual_time
async def test_a_former_owners_last_appends_are_given_a_moment(room: Room) -> None:
    [event] = room.database.commit("AAPL")
    async with room.running():
        await asyncio.sleep(relay_module.SETTLE_SECONDS * 0.9)
        room.topic.append(event.event_id, room.source, event.raw_response_id)
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1"]


@pytest.mark.parametrize("raw_response_id", [uuid4(), None], ids=["another", "unreadable"])
@in_virtual_time
async def test_an_id_with_another_raw_response_begins_a_generation_above_all_seen(
    room: Room, raw_response_id: UUID | None
) -> None:
    room.database.generation = 2
    [event] = room.database.commit("AAPL")
    used_up = Source(room.database.store_id, 7)
    room.topic.append(event.event_id, used_up, raw_response_id)
    with capture_logs() as logs:
        async with room.running() as relay:
            await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~1"]
    assert room.topic.records[-1].source == Source(room.database.store_id, 8)
    assert room.topic.records[-1].raw_response_id == event.raw_response_id
    assert room.published[0].generation == relay.status.generation == 8
    [said] = [line for line in logs if line["event"] == "store.went_back"]
    assert (said["log_level"], said["lost_events"], said["first"]) == ("error", 1, "AAPL~1")


@in_virtual_time
async def test_an_id_that_the_database_lacks_begins_a_generation_once(room: Room) -> None:
    room.database.commit("AAPL")
    for sequence in (5, 6, 7):
        room.topic.append(EventId("AAPL", sequence), room.source, uuid4())
    for _ in range(3):
        async with room.running():
            await until(lambda: room.drained and len(room.publishers.opened))
            room.database.commit("AAPL")
            await until(lambda: room.drained)
    assert room.database.generation == 2
    assert {str(one.source) for one in room.topic.records[3:]} == {str(room.source)}


@in_virtual_time
async def test_after_a_new_generation_what_arrived_in_it_is_still_recognised(room: Room) -> None:
    room.publishers.automatic = False
    [event] = room.database.commit("AAPL")
    room.topic.append(event.event_id, room.source, uuid4())
    async with room.running():
        await until(lambda: room.publishers.queued)
        room.publishers.last.deliver(lose_reports=True)
        room.publishers.last.die()
        await until(lambda: room.drained)
    assert room.database.generation == 2
    assert room.topic.ids == ["AAPL~1", "AAPL~1"]


@in_virtual_time
async def test_other_stores_records_are_ignored(room: Room) -> None:
    [event] = room.database.commit("AAPL")
    foreign = Source(uuid4(), 9)
    room.topic.append(event.event_id, foreign, event.raw_response_id)
    room.topic.append(EventId("MSFT", 5), foreign, uuid4())
    async with room.running():
        await until(lambda: room.drained)
    assert room.handed == ["AAPL~1"]
    assert room.database.generation == 1


@in_virtual_time
async def test_the_topic_is_read_from_the_position_only_if_it_is_the_same_topic(
    room: Room,
) -> None:
    room.database.commit("AAPL", "AAPL")
    async with room.running():
        await until(lambda: room.drained)
    async with room.running():
        await until(lambda: len(room.publishers.opened) == 2)
    room.topic.id = "made anew"
    room.topic.records.clear()
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.drained)
    assert room.topic.starts == [None, 2, None]
    assert room.database.position == Position("made anew", 1)
    assert room.topic.ids == ["AAPL~3"]


@in_virtual_time
async def test_a_position_beyond_the_end_is_not_kept(room: Room) -> None:
    room.database.position = Position(room.topic.id, 50)
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.drained)
    assert room.database.position == Position(room.topic.id, 1)


@in_virtual_time
async def test_an_interrupted_reading_is_done_again_before_anything_is_handed_over(
    room: Room,
) -> None:
    [event] = room.database.commit("AAPL")
    room.topic.append(event.event_id, room.source, event.raw_response_id)
    async with room.running():
        await until(lambda: room.topic.starts)
        room.topic.away = True
        await asyncio.sleep(20)
        assert room.handed == []
        room.topic.away = False
        await until(lambda: room.drained)
    assert room.handed == []


# The lock and the database.


@pytest.mark.parametrize("operation", ["mark", "mark?", "waiting"])
@in_virtual_time
async def test_a_database_error_purges_before_the_lock_is_released_and_taken_anew(
    room: Room, operation: str
) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT", "AAPL")
    async with room.running():
        await until(lambda: len(room.publishers.queued) == 3)
        room.database.failing.add(operation)
        room.publishers.last.deliver(1)
        room.publishers.automatic = True
        await until(lambda: room.drained)
    changes = [line for line in room.journal if not line.startswith("hand")]
    assert changes[:3] == ["lock", "read", "open"]
    assert changes[3:8] == ["close", "unlock", "lock", "read", "open"]
    assert room.topic.ids == ["AAPL~1", "MSFT~1", "AAPL~2"]
    assert len(room.database.publications) == 3


@in_virtual_time
async def test_a_lost_session_purges_and_waits_for_the_lock(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 2)
        room.database.lose_session()
        other = room.database.owner = object()
        await until(lambda: relay.status.phase == "owned by another process")
        assert room.publishers.last.closed
        await asyncio.sleep(60)
        assert room.database.owner is other
        assert len(room.publishers.opened) == 1
        room.database.owner = None
        room.publishers.automatic = True
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]


@in_virtual_time
async def test_nothing_is_handed_over_while_another_owns_the_lock(room: Room) -> None:
    room.database.owner = object()
    room.database.commit("AAPL")
    async with room.running() as relay:
        await asyncio.sleep(60)
        assert relay.status.phase == "owned by another process"
        assert room.journal == []
        room.database.owner = None
        await until(lambda: room.drained)


@in_virtual_time
async def test_a_database_that_is_away_is_asked_again(room: Room) -> None:
    room.database.failing.add("hold")
    room.database.commit("AAPL")
    async with room.running() as relay:
        await asyncio.sleep(10)
        assert (relay.status.phase, relay.status.last_error) == (
            "database is away",
            "no connection",
        )
        room.database.failing.clear()
        await until(lambda: room.drained)


# Stop.


def start(room: Room) -> tuple[ShardRelay, asyncio.Task[None]]:
    relay = room.relay()
    return relay, asyncio.create_task(relay.run())


def seconds() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_stop_flushes_marks_what_is_reported_closes_and_frees_the_lock(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT")
    relay, task = start(room)
    await until(lambda: len(room.publishers.queued) == 2)
    relay.stop()
    room.database.commit("AAPL")
    await ended(task, 2)
    assert room.since("hand MSFT~1") == ["flush", "close", "unlock"]
    assert room.database.waiting == ["AAPL~2"]
    assert room.database.position == Position(room.topic.id, 2)
    assert relay.status.phase == "stopped"


@in_virtual_time
async def test_stop_while_kafka_is_away_keeps_within_the_flush_budget(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "MSFT", "AAPL")
    relay, task = start(room)
    await until(lambda: len(room.publishers.queued) == 3)
    room.publishers.last.deliver(1)
    room.topic.away = True
    began = seconds()
    relay.stop()
    await ended(task, 60)
    assert seconds() - began < RULES.flush_seconds + 1
    assert room.database.waiting == ["MSFT~1", "AAPL~2"]
    assert room.journal[-2:] == ["close", "unlock"]
    room.topic.away = False
    room.publishers.automatic = True
    async with room.running():
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "MSFT~1", "AAPL~2"]


@pytest.mark.parametrize("after", [0.0, 0.005, 0.5, 3.0, 20.0])
@in_virtual_time
async def test_stop_while_kafka_never_answered_returns_soon(room: Room, after: float) -> None:
    room.topic.away = True
    room.database.commit("AAPL")
    relay, task = start(room)
    await asyncio.sleep(after)
    relay.stop()
    await ended(task, 0.5)
    assert room.publishers.opened == []
    assert room.database.owner is None


@pytest.mark.parametrize("trouble", ["owned", "away"])
@in_virtual_time
async def test_stop_while_there_is_no_lock_returns_soon(room: Room, trouble: str) -> None:
    if trouble == "owned":
        room.database.owner = object()
    else:
        room.database.failing.add("hold")
    relay, task = start(room)
    await asyncio.sleep(10.1)
    relay.stop()
    await ended(task, 0.1)


@in_virtual_time
async def test_stop_during_reconciliation_hands_nothing_over(room: Room) -> None:
    room.database.commit("AAPL")
    relay, task = start(room)
    await asyncio.sleep(0.5)
    relay.stop()
    await ended(task, 1)
    assert room.handed == []
    assert room.database.waiting == ["AAPL~1"]


@in_virtual_time
async def test_stop_during_an_interruption_keeps_all_for_the_next_owner(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    relay, task = start(room)
    await until(lambda: len(room.publishers.queued) == 2)
    room.publishers.last.deliver(1)
    room.publishers.last.fail()
    relay.stop()
    await ended(task, 10)
    room.publishers.automatic = True
    async with room.running():
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]


# Stuck.


@in_virtual_time
async def test_attempts_are_counted_from_the_hand_over_and_told_once_each(room: Room) -> None:
    room.publishers.automatic = False
    async with room.running() as relay:
        await until(lambda: room.publishers.opened)
        await asyncio.sleep(100)
        room.database.commit("AAPL")
        with capture_logs() as logs:
            await until(lambda: room.publishers.queued)
            since = clock()
            await asyncio.sleep(9)
            assert (relay.status.attempts, room.database.told) == (0, [])
            await asyncio.sleep(2)
            assert (relay.status.attempts, relay.status.stuck) == (1, None)
            room.publishers.last.last_error = "no route to host"
            await asyncio.sleep(45)
            assert (relay.status.attempts, relay.status.stuck) == (5, EventId("AAPL", 1))
            assert relay.status.last_error == "no route to host"
            reasons = [error for _, error in room.database.told]
            assert reasons == ["no report from the broker", *["no route to host"] * 4]
            assert {told for told, _ in room.database.told} == {room.database.blocked_since}
            blocked_since = room.database.blocked_since
            assert blocked_since is not None
            assert abs(blocked_since - since) < timedelta(seconds=1)
            [stuck] = [line for line in logs if line["event"] == "event.stuck"]
            assert (stuck["event_id"], stuck["reason"], stuck["attempts"]) == (
                *("AAPL~1", "no route to host"),
                3,
            )
            room.publishers.deliver_all()
            await until(lambda: room.drained)
            await asyncio.sleep(1)
        status = relay.status
        assert (status.stuck, status.attempts, status.last_error) == (None, 0, None)
        assert room.database.told[-1] == (None, None)
        assert room.database.blocked_since is None
        assert [line["event"] for line in logs].count("relay.recovered") == 1
        told = len(room.database.told)
        await asyncio.sleep(30)
        assert len(room.database.told) == told


@in_virtual_time
async def test_one_line_an_outage_however_often_the_producer_is_made_anew(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit("AAPL", "AAPL")
    with capture_logs() as logs:
        async with room.running() as relay:
            for _ in range(20):
                await until(lambda: room.publishers.queued)
                room.publishers.last.fail("Broker: Not authorized")
                await asyncio.sleep(4)
            assert relay.status.stuck == EventId("AAPL", 1)
            room.publishers.automatic = True
            await until(lambda: room.publishers.queued or room.drained)
            room.publishers.deliver_all()
            await until(lambda: room.drained)
            await until(lambda: relay.status.stuck is None)
            room.publishers.automatic = False
            room.database.commit("AAPL")
            await asyncio.sleep(60)
            assert relay.status.stuck == EventId("AAPL", 3)
    stuck = [line for line in logs if line["event"] == "event.stuck"]
    assert [line["event_id"] for line in stuck] == ["AAPL~1", "AAPL~3"]
    assert stuck[0]["reason"] == "Broker: Not authorized"


@in_virtual_time
async def test_what_waits_while_kafka_never_answers_becomes_stuck_too(room: Room) -> None:
    room.topic.away = True
    room.database.commit("AAPL")
    with capture_logs() as logs:
        async with room.running() as relay:
            await asyncio.sleep(60)
            assert relay.status.stuck == EventId("AAPL", 1)
            assert relay.status.last_error == "no Kafka broker answers"
            room.topic.away = False
            await until(lambda: room.drained)
            await until(lambda: relay.status.stuck is None)
    assert [line["event"] for line in logs].count("event.stuck") == 1
    assert room.database.told[-1] == (None, None)


@in_virtual_time
async def test_an_outage_with_nothing_waiting_is_no_stuck_event(room: Room) -> None:
    room.topic.away = True
    async with room.running() as relay:
        await asyncio.sleep(100)
        assert (relay.status.stuck, relay.status.attempts) == (None, 0)
        assert relay.status.phase == "Kafka is away"
    assert room.database.told == []


@in_virtual_time
async def test_a_former_owners_blocked_mark_stays_until_an_event_is_published(room: Room) -> None:
    room.database.blocked_since = RECORDED_AT
    room.publishers.automatic = False
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.publishers.queued)
        await asyncio.sleep(25)
        assert room.database.blocked_since == RECORDED_AT
        room.publishers.deliver_all()
        await until(lambda: room.database.blocked_since is None)


@in_virtual_time
async def test_a_former_owners_blocked_mark_is_cleared_once_published(room: Room) -> None:
    room.database.blocked_since = RECORDED_AT
    room.database.commit("AAPL")
    async with room.running():
        await until(lambda: room.drained)
        await until(lambda: room.database.blocked_since is None)
    assert room.database.told == [(None, None)]


@in_virtual_time
async def test_load_behind_a_slow_head_is_not_stuck_when_the_head_moves(room: Room) -> None:
    room.publishers.automatic = False
    room.database.commit(*["AAPL"] * 20)
    async with room.running() as relay:
        await until(lambda: len(room.publishers.queued) == 20)
        for _ in range(20):
            await asyncio.sleep(0.9)
            room.publishers.last.deliver(1)
            assert relay.status.stuck is None
        await until(lambda: room.drained)


# The whole relay.


@in_virtual_time
async def test_a_wake_up_goes_to_the_shards_that_have_news(room: Room) -> None:
    other = Room(1)
    relay = Relay([room.relay(0), other.relay(1)])
    task = asyncio.create_task(relay.run())
    await until(lambda: room.publishers.opened and other.publishers.opened)
    await asyncio.sleep(0.2)
    room.database.commit("AAPL")
    other.database.commit("MSFT")
    relay.wake({1})
    await until(lambda: other.drained, 0.1)
    assert not room.drained
    await until(lambda: room.drained)
    assert [one.shard for one in relay.statuses] == [0, 1]
    relay.stop()
    await ended(task, 1)


@in_virtual_time
async def test_a_bug_in_one_shard_ends_all_and_purges_the_others(room: Room) -> None:
    other = Room(1)
    room.publishers.automatic = False
    room.database.commit("AAPL")
    task = asyncio.create_task(Relay([room.relay(0), other.relay(1)]).run())
    await until(lambda: room.publishers.queued and other.publishers.opened)
    other.publishers.bug = RuntimeError("a bug")
    other.database.commit("MSFT")
    with pytest.raises(ExceptionGroup) as caught:
        await ended(task, 10)
    assert caught.value.exceptions == (other.publishers.bug,)
    assert room.publishers.last.closed
    assert other.publishers.last.closed
    assert room.database.owner is other.database.owner is None


@in_virtual_time
async def test_a_cancellation_is_not_lost_when_news_come_at_the_same_moment(room: Room) -> None:
    # because of another shard's bug then waits for ever. `asyncio.timeout` does not.
    relay, task = start(room)
    await until(lambda: room.publishers.opened)
    await asyncio.sleep(0.2)
    relay.wake()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    cancelled = task.done()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert cancelled


# Any interleaving.

SYMBOLS = st.lists(st.sampled_from(["AAPL", "MSFT", "IBM"]), min_size=1, max_size=4)
PLAIN = [
    "acknowledge",
    "fail",
    "too_large",
    "die",
    "refuse",
    "stop",
    "kill",
    "lose_session",
    "show",
]
STEPS = st.one_of(
    st.tuples(st.just("commit"), SYMBOLS),
    st.tuples(st.just("prepare"), st.sampled_from(["AAPL", "MSFT", "IBM"])),
    st.tuples(st.sampled_from(["deliver", "arrive_unreported"]), st.integers(1, 5)),
    st.tuples(st.sampled_from(PLAIN), st.none()),
    st.tuples(
        st.just("database_fails"), st.sampled_from(["mark", "mark?", "waiting", "lookup", "state"])
    ),
    st.tuples(st.just("kafka"), st.sampled_from(["away", "back"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.0006, 0.011, 0.06, 0.6, 1.2, 5.0])),
)


class Story:
    """Does what hypothesis thinks up, over one room, with a relay that is started anew."""

    def __init__(self) -> None:
        self.room = Room()
        self.room.publishers.automatic = False
        self.room.publishers.flushes = False
        self.committed: list[EventId] = []
        self.uncommitted: dict[str, WaitingEvent] = {}
        self.relay, self.task = start(self.room)

    async def do(self, step: str, what: Any) -> None:
        await getattr(self, step)(*([] if what is None else [what]))

    async def commit(self, symbols: list[str]) -> None:
        free = [symbol for symbol in symbols if symbol not in self.uncommitted]
        self.committed += [event.event_id for event in self.room.database.commit(*free)]
        self.relay.wake()

    async def prepare(self, symbol: str) -> None:
        """Begin a transaction that holds the symbol's lock while others commit."""
        if symbol not in self.uncommitted:
            self.uncommitted[symbol] = self.room.database.prepare(symbol)

    async def show(self) -> None:
        for event in self.uncommitted.values():
            self.committed.append(self.room.database.show(event).event_id)
        self.uncommitted.clear()

    async def deliver(self, count: int) -> None:
        if self.publisher:
            self.publisher.deliver(count)

    async def arrive_unreported(self, count: int) -> None:
        if self.publisher:
            self.publisher.deliver(count, lose_reports=True)

    async def acknowledge(self) -> None:
        if self.publisher:
            self.publisher.acknowledge()

    async def fail(self) -> None:
        if self.publisher:
            self.publisher.fail()

    async def too_large(self) -> None:
        if self.publisher:
            self.publisher.fail(too_large=True)

    async def die(self) -> None:
        if self.publisher:
            self.publisher.die()

    async def refuse(self) -> None:
        self.room.publishers.refuses = True

    async def stop(self) -> None:
        self.relay.stop()
        await ended(self.task, 30)
        self.relay, self.task = start(self.room)

    async def database_fails(self, operation: str) -> None:
        self.room.database.failing.add(operation)

    async def lose_session(self) -> None:
        self.room.database.lose_session()

    async def kafka(self, state: str) -> None:
        self.room.topic.away = state == "away"

    async def wait(self, how_long: float) -> None:
        await asyncio.sleep(how_long)

    @property
    def publisher(self) -> FakePublisher | None:
        return self.room.publishers.opened[-1] if self.room.publishers.opened else None

    async def kill(self) -> None:
        """End the process at once: nothing is reported, marked or closed any more."""
        if self.room.publishers.opened:
            self.room.publishers.last.kill()
        while not self.task.done():
            self.task.cancel()
            await asyncio.sleep(0)
        assert self.task.cancelled() or self.task.exception() is None
        self.relay, self.task = start(self.room)

    async def settle(self) -> None:
        """Let all trouble end, and the relay work until nothing waits."""
        await self.show()
        room = self.room
        room.topic.away = room.publishers.refuses = False
        room.database.failing.clear()
        room.publishers.flushes = True
        room.publishers.deliver_all()
        await until(lambda: room.drained, 120)
        self.relay.stop()
        await ended(self.task, 30)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEPS, max_size=25))
@in_virtual_time
async def test_whatever_happens_every_event_is_there_once_and_in_order(
    steps: list[tuple[str, object]],
) -> None:
    story = Story()
    with capture_logs():
        for step, what in steps:
            await story.do(step, what)
            assert len(story.room.database.publications) <= len(story.room.topic.records)
        await story.settle()
    room = story.room
    landed = [record.event_id for record in room.topic.records]
    assert sorted(landed) == sorted(story.committed), "lost, invented or repeated"
    by_symbol = defaultdict(list)
    for event_id in landed:
        by_symbol[event_id.symbol].append(event_id.sequence)
    assert all(sequences == sorted(sequences) for sequences in by_symbol.values())
    assert set(room.database.publications) == set(story.committed)
    assert room.database.generation == 1, "a store that never went back"
    for record in room.topic.records:
        assert room.database.events[record.event_id] == record.raw_response_id
        assert room.database.publications[record.event_id].offset in (None, record.offset)


# The judgement.

IDS = st.builds(EventId, st.sampled_from(["AAPL", "MSFT"]), st.integers(1, 6))
RAW = st.sampled_from([UUID(int=number) for number in range(1, 4)])
STORE = UUID(int=99)
RECORDS = st.lists(
    st.builds(
        TailRecord,
        IDS,
        st.builds(Source, st.just(STORE), st.integers(1, 5)),
        st.none() | RAW,
        st.integers(0, 1000),
    ),
    max_size=15,
    unique_by=lambda record: record.offset,
).map(lambda records: sorted(records, key=lambda record: record.offset))
KNOWN = st.dictionaries(IDS, RAW, max_size=12).flatmap(
    lambda raws: st.fixed_dictionaries(
        {
            event_id: st.sampled_from([Known(raw, None), Known(raw, 100 + number)])
            for number, (event_id, raw) in enumerate(raws.items())
        }
    )
)


@given(RECORDS, KNOWN)
def test_each_record_is_published_before_arrived_or_lost(
    records: list[TailRecord], known: dict[EventId, Known]
) -> None:
    verdict = Verdict()
    judge(verdict, records, known)
    same = [
        record
        for record in records
        if record.event_id in known
        and known[record.event_id].raw_response_id == record.raw_response_id
    ]
    assert verdict.lost == [record.event_id for record in records if record not in same]
    waiting = {known[record.event_id].waiting for record in same} - {None}
    assert set(verdict.arrived) == waiting
    for outbox_id, record in verdict.arrived.items():
        assert known[record.event_id].waiting == outbox_id
        first = next(one for one in same if one.event_id == record.event_id)
        assert record is first
    assert verdict.newest_generation == max(
        (record.source.generation for record in records), default=0
    )


@given(RECORDS, KNOWN, st.integers(0, 15))
def test_a_verdict_does_not_depend_on_how_the_tail_comes_in_batches(
    records: list[TailRecord], known: dict[EventId, Known], cut: int
) -> None:
    at_once, in_two = Verdict(), Verdict()
    judge(at_once, records, known)
    judge(in_two, records[:cut], known)
    judge(in_two, records[cut:], known)
    assert at_once == in_two


# A topic that gets events now and then.

SLEEPS = replace(RULES, sleeps=True)


@in_virtual_time
async def test_a_shard_that_sleeps_asks_nothing_of_kafka_until_there_is_an_event(
    room: Room,
) -> None:
    async with room.running(SLEEPS) as relay:
        await asyncio.sleep(60)
        assert room.journal == ["lock"]
        assert relay.status.phase == "asleep"
        room.database.commit("AAPL", "AAPL")
        # Somebody else's commit wakes nobody here: it is looked for.
        await until(lambda: room.drained)
        assert room.topic.ids == ["AAPL~1", "AAPL~2"]
        await asyncio.sleep(IDLE_SECONDS / 2)
        assert relay.status.phase == "publishing"
        await asyncio.sleep(IDLE_SECONDS)
        assert relay.status.phase == "asleep"
        assert room.publishers.opened[-1].closed
        room.database.commit("AAPL")
        relay.wake()
        await until(lambda: room.drained)
    assert room.topic.ids == ["AAPL~1", "AAPL~2", "AAPL~3"]


@in_virtual_time
async def test_a_shard_that_slept_finds_what_arrived_before_it_hands_anything_over(
    room: Room,
) -> None:
    [first, _] = room.database.commit("AAPL", "AAPL")
    room.topic.append(first.event_id, room.source, first.raw_response_id)
    async with room.running(SLEEPS) as relay:
        await until(lambda: room.drained)
        assert relay.status.found_on_topic == 1
    assert room.topic.ids == ["AAPL~1", "AAPL~2"]


@in_virtual_time
async def test_a_shard_that_sleeps_stops_at_once(room: Room) -> None:
    async with room.running(SLEEPS) as relay:
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
    assert relay.status.phase == "stopped"
    assert asyncio.get_running_loop().time() - began < 1
