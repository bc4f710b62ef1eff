"""How long an event has waited and why, while somebody sets the clock and nobody gives a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from confluent_kafka import KafkaError, Node, TopicPartitionInfo

from pricewire.domain.event import PRICE_RECORDED, EventId, WaitingEvent, failed_attempts
from pricewire.kafka.look import complaint_of
from pricewire.kafka.trouble import explain
from pricewire.services.outage import Outage, ShardStatus
from pricewire.services.publishing import not_of_the_future
from tests.fakes import FakeDatabase, FakeShardStore

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIRST = EventId("AAPL", 1)


class Shard:
    """An outage whose wall clock a test sets; time itself goes on by the seconds it is given."""

    def __init__(self) -> None:
        self.wall = NOON
        self.status = ShardStatus(0)
        self.database = FakeDatabase([])
        self.database.owner = self.store = FakeShardStore(self.database)
        self.outage = Outage(self.status, attempt=10 * SECOND, attempts=3, clock=lambda: self.wall)

    async def after(self, seconds: float, complaint: str | None = None) -> None:
        await self.outage.goes_on(self.store, FIRST, 0, seconds, None, complaint)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=1)])
async def test_a_clock_that_is_set_changes_no_count(jump: timedelta) -> None:
    shard = Shard()
    await shard.after(11)
    assert shard.status.attempts == 1
    shard.wall += 9 * SECOND + jump
    await shard.after(20)
    assert (shard.status.attempts, shard.status.stuck) == (2, None)
    shard.wall += 10 * SECOND
    await shard.after(30)
    assert (shard.status.attempts, shard.status.stuck) == (3, FIRST)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=1)])
async def test_what_others_read_follows_the_clock(jump: timedelta) -> None:
    """They count from it by their clock, which was set alike."""
    shard = Shard()
    shard.wall += 11 * SECOND
    await shard.after(11)
    assert shard.database.blocked_since == NOON
    shard.wall += 9 * SECOND + jump
    await shard.after(20)
    assert shard.database.blocked_since == NOON + jump


async def test_a_former_owners_mark_of_the_future_is_not_kept() -> None:
    shard = Shard()
    shard.outage.resume(NOON + timedelta(hours=1))
    shard.wall += 10 * SECOND
    await shard.after(10)
    assert shard.database.blocked_since == NOON


async def test_without_a_reason_it_is_said_that_there_is_none() -> None:
    shard = Shard()
    await shard.after(10)
    assert shard.database.told[-1][1] == "no report from the broker"
    await shard.after(20, complaint="partition 0 has no leader")
    assert shard.database.told[-1][1] == shard.status.last_error == "partition 0 has no leader"


def test_an_event_of_a_clock_that_was_ahead_counts_from_the_shards_trouble() -> None:
    attempts = failed_attempts(
        now=NOON,
        blocked_since=NOON - 35 * SECOND,
        recorded_at=NOON + timedelta(hours=1),
        attempt=10 * SECOND,
    )
    assert attempts == 3


@pytest.mark.parametrize(
    ("ahead", "dated"),
    [(timedelta(hours=2), timedelta(0)), (30 * SECOND, 30 * SECOND), (-SECOND, -SECOND)],
)
def test_what_is_recorded_in_the_future_is_dated_when_handed_over(
    ahead: timedelta, dated: timedelta
) -> None:
    """A few seconds between the clocks of two machines are left as they are."""
    event = WaitingEvent(1, FIRST, PRICE_RECORDED, UUID(int=1), NOON + ahead, b"{}", ())
    assert not_of_the_future(event, NOON).recorded_at == NOON + dated


@pytest.mark.parametrize(
    ("leader", "insync", "said"),
    [
        (1, [1, 2], None),
        (1, [1], ("partition 0 of prices has too few in-sync replicas, 1 of the 2 that "
         "min.insync.replicas asks for; missing are brokers 2, 3")),
        (-1, [1], "partition 0 of prices has no leader; its replicas are on brokers 1, 2, 3"),
    ],
)  # fmt: skip
def test_a_partition_says_why_it_takes_nothing(
    leader: int, insync: list[int], said: str | None
) -> None:
    replicas = [Node(number, "localhost", 9092) for number in (1, 2, 3)]
    present = [node for node in replicas if node.id in insync]
    partition = TopicPartitionInfo(0, Node(leader, "localhost", 9092), replicas, present)
    assert complaint_of("prices", partition, 2) == said


def test_a_fatal_error_is_one_line_however_often_it_comes() -> None:
    """What librdkafka wraps it in differs each time: told anew, it would fill the log."""
    lines = {
        explain(
            KafkaError(
                KafkaError._GAPLESS_GUARANTEE,
                f"ProduceRequest for prices [{number}] with {number} message(s) failed: Broker: "
                f"Invalid timestamp (broker 1 PID{{Id:{number},Epoch:0}}, base seq {number}): "
                "unable to satisfy gap-less guarantee",
            ),
            {"bootstrap.servers": "localhost:9092"},
        )
        for number in range(3)
    }
    [line] = lines
    assert "dated ahead of its clock" in line
    assert "PID" not in line
