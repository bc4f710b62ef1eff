"""What `pricewire verify outbox` counts and names, over both databases and a topic in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from pricewire.domain.event import EventId, Source, WaitingEvent
from pricewire.errors import StartupError
from pricewire.services.verification import (
    DIFFERING,
    LACKING,
    Comparison,
    Finding,
    FoundBatch,
    FoundEvent,
    Placed,
    Verification,
)
from pricewire.storage.database import Database
from pricewire.storage.outbox import SqlShards, read_source
from pricewire.storage.recording import SqlRecordingStore
from pricewire.storage.verification import published_in, scratch
from tests.builders import execute, make_entry, make_publication, opened

TOPIC = "price-events"


class FakeContent:
    """Partitions in memory; fulfils `Content`."""

    BATCH = 3

    def __init__(self, source: Source) -> None:
        self.source = source
        self.partitions: dict[int, list[FoundEvent]] = {0: []}
        self.first: dict[int, int] = {}
        self.while_reading: Callable[[], Awaitable[None]] | None = None

    def append(self, event: WaitingEvent, partition: int = 0, **changes: object) -> int:
        """Append what a relay publishes; return its offset."""
        log = self.partitions.setdefault(partition, [])
        offset = log[-1].offset + 1 if log else 0
        found = FoundEvent(event.event_id, self.source, offset, event.value)
        log.append(replace(found, **changes))  # type: ignore[arg-type]
        return log[-1].offset

    async def first_offsets(self) -> dict[int, int]:
        return {partition: self.first.get(partition, 0) for partition in self.partitions}

    async def events(self, partition: int) -> AsyncGenerator[FoundBatch, None]:
        if self.while_reading is not None:
            await self.while_reading()
        begin = self.first.get(partition, 0)
        log = [event for event in self.partitions[partition] if event.offset >= begin]
        for start in range(0, len(log), self.BATCH):
            batch = log[start : start + self.BATCH]
            yield FoundBatch(batch, batch[-1].offset + 1)
        yield FoundBatch([], log[-1].offset + 1 if log else begin)


@dataclass
class Room:
    """A database, its topic, and what the relay does between the two."""

    database: Database
    content: FakeContent

    async def record(self, *symbols: str, shard: int = 0) -> list[WaitingEvent]:
        await SqlRecordingStore(self.database).record([make_entry(*symbols, shard=shard)])
        async with SqlShards(self.database).hold(shard) as store:
            assert store is not None
            return (await store.waiting(10_000))[-len(symbols) :]

    async def mark(
        self, event: WaitingEvent, offset: int | None, shard: int = 0, **changes: object
    ) -> None:
        publication = make_publication(event.event_id, offset, partition=shard, **changes)
        async with SqlShards(self.database).hold(shard) as store:
            assert store is not None
            await store.mark({event.outbox_id: publication}, None)

    async def publish(self, *symbols: str, shard: int = 0) -> list[WaitingEvent]:
        events = await self.record(*symbols, shard=shard)
        for event in events:
            await self.mark(event, self.content.append(event, shard), shard)
        return events

    async def verify(self) -> tuple[Comparison, list[Finding]]:
        findings: list[Finding] = []
        async with published_in(self.database, TOPIC) as published:
            with scratch() as missing:
                verification = Verification(published, self.content, missing, findings.append)
                return await verification.run(), findings


@pytest.fixture
async def room(database: Database) -> Room:
    return Room(database, FakeContent(await database.read(read_source)))


def finding(
    kind: str, symbol: str, sequence: int, offset: int | None, partition: int = 0
) -> Finding:
    return Finding(kind, Placed(EventId(symbol, sequence), partition, offset))


async def test_a_topic_that_has_everything_is_whole(room: Room) -> None:
    await room.publish("AAPL", "MSFT", "AAPL", "IBM", "AAPL")
    await room.publish("GOOG", shard=1)
    await room.record("FB")
    found, findings = await room.verify()
    assert found == Comparison(
        source=room.content.source, partitions=2, published=6, found=6, waiting=1
    )
    assert found.whole
    assert findings == []


async def test_nothing_published_and_no_topic_is_whole(room: Room) -> None:
    room.content.partitions.clear()
    found, _ = await room.verify()
    assert found == Comparison(source=room.content.source, partitions=0, published=0)


async def test_what_lacks_is_named_in_order_and_by_its_place(room: Room) -> None:
    await room.publish(*["AAPL"] * 7)
    await room.publish("MSFT", "MSFT", shard=2)
    log = room.content.partitions[0]
    room.content.partitions[0] = [log[0], log[3], log[6]]
    found, findings = await room.verify()
    assert findings == [finding(LACKING, "AAPL", n, n - 1) for n in (2, 3, 5, 6)]
    assert (found.published, found.found, found.lacking) == (9, 5, 4)
    assert not found.whole


async def test_a_topic_made_anew_lacks_what_was_on_the_old_one_at_the_same_offsets(
    room: Room,
) -> None:
    await room.publish("AAPL", "MSFT", "AAPL")
    room.content.partitions = {0: []}
    await room.publish("AAPL", "AAPL", "AAPL", "MSFT")
    found, findings = await room.verify()
    assert sorted(str(one.place.event_id) for one in findings) == ["AAPL~1", "AAPL~2", "MSFT~1"]
    assert {one.kind for one in findings} == {LACKING}
    assert (found.published, found.found, found.repeats, found.unknown) == (7, 4, 0, 0)


async def test_partitions_that_are_gone_lack_everything(room: Room) -> None:
    await room.publish("AAPL")
    for shard in (1, 2, 3):
        await room.publish(f"S{shard}", shard=shard)
    del room.content.partitions[1], room.content.partitions[3]
    found, findings = await room.verify()
    assert findings == [finding(LACKING, "S1", 1, 0, 1), finding(LACKING, "S3", 1, 0, 3)]
    assert (found.partitions, found.found) == (2, 2)


async def test_a_topic_that_is_gone_lacks_everything(room: Room) -> None:
    await room.publish("AAPL", "MSFT")
    room.content.partitions.clear()
    found, findings = await room.verify()
    assert (found.partitions, found.lacking, len(findings)) == (0, 2, 2)


async def test_what_expired_does_not_lack(room: Room) -> None:
    await room.publish(*["AAPL"] * 5)
    await room.publish("MSFT", "MSFT", shard=1)
    room.content.first = {0: 3}
    found, findings = await room.verify()
    assert (found.expired, found.found, found.lacking) == (3, 4, 0)
    assert findings == []


async def test_what_expires_while_it_is_read_does_not_lack(room: Room) -> None:
    await room.publish(*["AAPL"] * 5)

    async def expire() -> None:
        room.content.first = {0: 4}

    room.content.while_reading = expire
    found, findings = await room.verify()
    assert (found.expired, found.found, found.lacking) == (4, 1, 0)
    assert findings == []


@pytest.mark.parametrize("change", ["value", "generation"])
async def test_an_event_with_other_bytes_or_another_generation_differs(
    room: Room, change: str
) -> None:
    [_, event, _] = await room.publish("AAPL", "AAPL", "AAPL")
    log = room.content.partitions[0]
    source = room.content.source
    other = {"value": {"value": b"{}"}, "generation": {"source": Source(source.store_id, 9)}}
    log[1] = replace(log[1], **other[change])  # type: ignore[arg-type]
    found, findings = await room.verify()
    assert findings == [finding(DIFFERING, "AAPL", 2, 1)]
    assert (found.found, found.differing, found.lacking) == (2, 1, 0)
    assert not found.whole
    assert str(event.event_id) == "AAPL~2"


async def test_an_event_without_an_offset_is_looked_for_everywhere(room: Room) -> None:
    there, gone = await room.record("AAPL", "AAPL")
    room.content.append(there)
    await room.mark(there, None)
    await room.mark(gone, None)
    found, findings = await room.verify()
    assert findings == [finding(LACKING, "AAPL", 2, None)]
    assert (found.published, found.found, found.lacking, found.repeats) == (2, 1, 1, 0)
    room.content.first = {0: 1}
    found, _ = await room.verify()
    assert (found.expired, found.lacking) == (2, 0)


async def test_an_event_at_another_offset_does_not_lack(room: Room) -> None:
    """A topic put back from a copy has the same records at other offsets."""
    await room.publish("AAPL", "MSFT", "AAPL", "MSFT")
    log = room.content.partitions[0]
    room.content.partitions[0] = [replace(one, offset=one.offset + 2) for one in log]
    found, findings = await room.verify()
    assert findings == []
    assert (found.found, found.lacking) == (4, 0)


async def test_repeats_and_waiting_events_that_arrived_are_counted(room: Room) -> None:
    first, _ = await room.publish("AAPL", "AAPL")
    waiting = await room.record("MSFT", "MSFT")
    room.content.append(first)
    room.content.append(waiting[0])
    found, findings = await room.verify()
    assert findings == []
    assert (found.repeats, found.waiting, found.arrived, found.unknown) == (1, 2, 1, 0)


async def test_other_stores_do_not_count_and_events_of_a_lost_time_are_unknown(room: Room) -> None:
    [event] = await room.publish("AAPL")
    never = replace(event, event_id=EventId("AAPL", 2))
    room.content.append(never)
    room.content.append(event, value=b'{"price":1}')
    room.content.append(event, source=Source(uuid4(), 1))
    found, findings = await room.verify()
    assert findings == []
    assert (found.published, found.found, found.unknown, found.repeats) == (1, 1, 2, 0)


async def test_topics_of_other_names_are_counted_only(room: Room) -> None:
    [event] = await room.record("AAPL")
    await room.mark(event, 0, topic="former-events")
    found, findings = await room.verify()
    assert (found.published, found.elsewhere) == (0, 1)
    assert findings == []


async def test_the_service_publishes_meanwhile_and_nothing_lacks(
    room: Room, database_url: str
) -> None:
    """Events recorded, published and marked after the snapshot, seen on the topic all the same."""
    await room.publish("AAPL", "AAPL")
    [waiting] = await room.record("MSFT")
    async with opened(database_url) as other:
        service = Room(other, room.content)

        async def go_on() -> None:
            room.content.while_reading = None
            await service.mark(waiting, room.content.append(waiting))
            await service.publish(*["IBM"] * 5)

        room.content.while_reading = go_on
        found, findings = await room.verify()
    assert findings == []
    assert found == Comparison(
        source=room.content.source, partitions=1, published=2, found=2, waiting=1
    )


async def test_many_events_come_in_pages(room: Room) -> None:
    for shard in range(3):
        events = await room.record(*["AAPL", "MSFT", "IBM"][shard : shard + 1] * 2_500, shard=shard)
        offsets = {event.outbox_id: room.content.append(event, shard) for event in events}
        async with SqlShards(room.database).hold(shard) as store:
            assert store is not None
            await store.mark(
                {
                    event.outbox_id: make_publication(
                        event.event_id, offsets[event.outbox_id], partition=shard
                    )
                    for event in reversed(events)
                },
                None,
            )
    del room.content.partitions[1][1_000:1_999]
    room.content.BATCH = 700
    found, findings = await room.verify()
    assert (found.published, found.found, found.lacking) == (7_500, 6_501, 999)
    assert findings == [finding(LACKING, "MSFT", n, n - 1, 1) for n in range(1_001, 2_000)]


async def test_a_database_of_another_version_is_refused(database: Database) -> None:
    await execute(database, text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartupError, match="at revision 9999"):
        async with published_in(database, TOPIC):
            pass


async def test_a_snapshot_does_not_see_what_is_written_later(room: Room, database_url: str) -> None:
    async with published_in(room.database, TOPIC) as published:
        assert (await published.totals()).waiting == 0
        async with opened(database_url) as other:
            [event] = await Room(other, room.content).record("AAPL")
        assert (await published.totals()).waiting == 0
        known = await published.known_now([event.event_id])
        assert known[event.event_id].waiting
