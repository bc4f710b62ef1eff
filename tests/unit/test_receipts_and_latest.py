"""Receipts, and the main job: what is asked of whom, and what is said of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from pricewire.domain.event import PRICE_RECORDED, EventId, EventState, Publication, Receipt
from pricewire.domain.exchange import exchange_of
from pricewire.domain.quote import Fetched, RawResponse
from pricewire.domain.session import Session, next_open_of, session_of
from pricewire.errors import (
    InvalidParameter,
    InvalidSymbol,
    NotFound,
    ProviderDown,
    ProviderError,
    StoreError,
    StoreUnavailable,
    UnknownSymbol,
)
from pricewire.kafka.codec import encode_price_event
from pricewire.services.asking import Asking
from pricewire.services.fetching import Unguarded
from pricewire.services.latest import LatestPrice
from pricewire.services.receipts import Receipts, StoredReceipt
from pricewire.services.recording import Door
from pricewire.services.stored import Stored
from tests.builders import RECORDED_AT, make_fetched, make_publication, make_raw
from tests.fakes import in_virtual_time
from tests.unit.test_door import FakeStore

EVENT = EventId("AAPL", 1)
ATTEMPT = timedelta(seconds=10)


class FakeReceipts:
    """What the database says, after the time that a question takes; counts the questions."""

    def __init__(self) -> None:
        self.stored: dict[EventId, StoredReceipt] = {}
        self.raw: dict[UUID, RawResponse] = {}
        self.deleted: set[UUID] = set()
        self.asked = 0
        self.error: Exception | None = None

    def queue(self, event_id: EventId, blocked_since: datetime | None = None) -> None:
        receipt = Receipt(
            event_id=event_id,
            type=PRICE_RECORDED,
            raw_response_id=uuid7(),
            recorded_at=RECORDED_AT,
            state=EventState.QUEUED,
            last_error=None if blocked_since is None else "no broker",
        )
        self.stored[event_id] = StoredReceipt(receipt, blocked_since)

    def mark(self, publication: Publication) -> None:
        receipt = self.stored[publication.event_id].receipt
        published = replace(receipt, state=EventState.PUBLISHED, publication=publication)
        self.stored[publication.event_id] = StoredReceipt(published, None)

    async def receipt(self, event_id: EventId) -> StoredReceipt | None:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.error:
            raise self.error
        return self.stored.get(event_id)

    async def raw_response(self, raw_response_id: UUID) -> RawResponse | None:
        return self.raw.get(raw_response_id)

    async def has_price(self, raw_response_id: UUID) -> bool:
        return raw_response_id in self.deleted


@pytest.fixture
def store() -> FakeReceipts:
    return FakeReceipts()


def make_receipts(
    store: FakeReceipts, clock: Callable[[], datetime] = lambda: RECORDED_AT
) -> Receipts:
    return Receipts(store, attempt=ATTEMPT, attempts=3, clock=clock)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# Receipts.


@pytest.mark.parametrize(
    ("blocked", "failed", "state"),
    [
        (None, 0, EventState.QUEUED),
        (9.9, 0, EventState.QUEUED),
        (10, 1, EventState.QUEUED),
        (29.9, 2, EventState.QUEUED),
        (30, 3, EventState.STUCK),
        (3600, 360, EventState.STUCK),
    ],
)
@in_virtual_time
async def test_a_waiting_event_is_queued_until_so_many_attempts_failed(
    store: FakeReceipts, blocked: float | None, failed: int, state: EventState
) -> None:
    store.queue(EVENT, None if blocked is None else RECORDED_AT)
    now = RECORDED_AT + timedelta(seconds=blocked or 0)
    receipt = await make_receipts(store, lambda: now).receipt(EVENT)
    assert (receipt.state, receipt.attempts) == (state, failed)


@in_virtual_time
async def test_an_event_has_no_attempts_from_before_it_was_recorded(store: FakeReceipts) -> None:
    store.queue(EVENT, RECORDED_AT - timedelta(hours=1))
    now = RECORDED_AT + timedelta(seconds=11)
    receipt = await make_receipts(store, lambda: now).receipt(EVENT)
    assert (receipt.state, receipt.attempts) == (EventState.QUEUED, 1)


@in_virtual_time
async def test_a_published_event_has_no_attempts(store: FakeReceipts) -> None:
    store.queue(EVENT, RECORDED_AT)
    store.mark(make_publication(EVENT, 4))
    receipt = await make_receipts(store, lambda: RECORDED_AT + timedelta(hours=1)).receipt(EVENT)
    assert (receipt.state, receipt.attempts) == (EventState.PUBLISHED, 0)
    assert receipt.publication == make_publication(EVENT, 4)


@in_virtual_time
async def test_who_waits_is_answered_at_once_when_the_broker_has_the_event(
    store: FakeReceipts,
) -> None:
    store.queue(EVENT, RECORDED_AT)
    receipts = make_receipts(store)
    waiting = asyncio.create_task(receipts.wait(EVENT, 5))
    await asyncio.sleep(0.01)
    publication = make_publication(EVENT, 7)
    asked, began = store.asked, seconds()
    receipts.published(publication)
    receipt = await waiting
    assert seconds() - began < 0.001
    assert store.asked == asked
    assert (receipt.state, receipt.publication) == (EventState.PUBLISHED, publication)
    assert (receipt.attempts, receipt.last_error) == (0, None)


@in_virtual_time
async def test_a_report_that_comes_while_the_database_is_asked_is_not_missed(
    store: FakeReceipts,
) -> None:
    store.queue(EVENT)
    receipts = make_receipts(store)
    waiting = asyncio.create_task(receipts.wait(EVENT, 5))
    await asyncio.sleep(0.0005)
    receipts.published(make_publication(EVENT))
    began = seconds()
    assert (await waiting).state is EventState.PUBLISHED
    assert seconds() - began < 0.01


@in_virtual_time
async def test_two_who_wait_for_the_same_event_both_get_it(store: FakeReceipts) -> None:
    store.queue(EVENT)
    receipts = make_receipts(store)
    waiting = [asyncio.create_task(receipts.wait(EVENT, 5)) for _ in range(2)]
    await asyncio.sleep(0.01)
    receipts.published(make_publication(EVENT))
    receipts.published(make_publication(EVENT))
    both = await asyncio.wait_for(asyncio.gather(*waiting), 0.001)
    assert [one.state for one in both] == [EventState.PUBLISHED] * 2


@in_virtual_time
async def test_one_who_gives_up_does_not_make_another_miss_the_report(
    store: FakeReceipts,
) -> None:
    store.queue(EVENT)
    receipts = make_receipts(store)
    impatient = asyncio.create_task(receipts.wait(EVENT, 0.02))
    patient = asyncio.create_task(receipts.wait(EVENT, 5))
    assert (await impatient).state is EventState.QUEUED
    receipts.published(make_publication(EVENT))
    assert (await asyncio.wait_for(patient, 0.01)).state is EventState.PUBLISHED


@in_virtual_time
async def test_where_the_relay_is_another_process_the_database_tells(store: FakeReceipts) -> None:
    store.queue(EVENT)
    waiting = asyncio.create_task(make_receipts(store).wait(EVENT, 5))
    await asyncio.sleep(1)
    store.mark(make_publication(EVENT, 3))
    receipt = await asyncio.wait_for(waiting, 0.1)
    assert receipt.publication == make_publication(EVENT, 3)


@in_virtual_time
async def test_after_the_time_out_the_stored_state_is_answered(store: FakeReceipts) -> None:
    store.queue(EVENT, RECORDED_AT)
    receipts = make_receipts(store, lambda: RECORDED_AT + timedelta(minutes=5))
    began = seconds()
    receipt = await receipts.wait(EVENT, 0.7)
    assert 0.7 <= seconds() - began < 0.72
    assert (receipt.state, receipt.attempts) == (EventState.STUCK, 30)
    assert receipt.last_error == "no broker"
    receipts.published(make_publication(EVENT))


@in_virtual_time
async def test_a_report_that_nobody_waits_for_is_no_error(store: FakeReceipts) -> None:
    make_receipts(store).published(make_publication(EVENT))


@in_virtual_time
async def test_what_there_is_not_is_said(store: FakeReceipts) -> None:
    receipts = make_receipts(store)
    with pytest.raises(NotFound, match="AAPL~1"):
        await receipts.receipt(EVENT)
    with pytest.raises(NotFound, match="AAPL~1"):
        await receipts.wait(EVENT, 5)
    missing = uuid7()
    with pytest.raises(NotFound, match=str(missing)):
        await receipts.raw_response(missing)


@in_virtual_time
async def test_a_raw_response_is_given_as_it_is(store: FakeReceipts) -> None:
    raw = make_raw(b"\x00\xff")
    store.raw[raw.id] = raw
    assert await make_receipts(store).raw_response(raw.id) is raw


# The main job.


class FakeProvider:
    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.error: ProviderError | None = None

    async def fetch(self, symbol: str) -> Fetched:
        self.asked.append(symbol)
        if self.error:
            raise self.error
        return make_fetched(symbol)

    async def aclose(self) -> None:
        pass


class NothingStored:
    """A database that no price was recorded in yet."""

    async def last_recorded(self, _symbol: str) -> None:
        return None


class NoSessions:
    """Knows no exchange's calendar; fulfils `Sessions`."""

    def session_at(self, symbol: str, provider: str, moment: datetime) -> Session:
        return session_of(exchange_of(symbol, provider), None, moment)

    def next_open(self, symbol: str, provider: str, moment: datetime) -> datetime | None:
        return next_open_of(exchange_of(symbol, provider), None, moment)


class Job:
    """The main job over fakes; used as a context, it runs the door."""

    def __init__(self) -> None:
        self.first, self.second = FakeProvider("first"), FakeProvider("second")
        self.prices, self.receipts = FakeStore(), FakeReceipts()
        self.door = Door(
            self.prices,
            encode=encode_price_event,
            shard_of=len,
            clock=lambda: RECORDED_AT,
            committed=lambda _: self.receipts.queue(EVENT),
        )
        self.told = make_receipts(self.receipts)
        stored = Stored(self.door, NothingStored())
        asking = Asking(
            {"second": Unguarded(self.second), "first": Unguarded(self.first)},
            ("first",),
            door=self.door,
            currency=stored.currency,
            seconds=15,
        )
        self.latest = LatestPrice(
            asking,
            stored=stored,
            receipts=self.told,
            sessions=NoSessions(),
            clock=lambda: RECORDED_AT,
        )

    async def __aenter__(self) -> Job:
        self._running = asyncio.create_task(self.door.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.door.close()
        await self._running


@in_virtual_time
async def test_the_price_is_recorded_before_it_is_answered() -> None:
    async with Job() as job:
        answer = await job.latest("AAPL")
        [[price]] = job.prices.recorded.values()
    assert answer.price is price
    assert (answer.state, answer.publication) == (EventState.QUEUED, None)
    assert (job.first.asked, job.second.asked) == (["AAPL"], [])
    assert job.receipts.asked == 0


@in_virtual_time
async def test_the_named_provider_is_asked() -> None:
    async with Job() as job:
        await job.latest("AAPL", provider="second")
    assert (job.first.asked, job.second.asked) == ([], ["AAPL"])


@in_virtual_time
async def test_with_a_wait_the_publication_is_answered() -> None:
    async with Job() as job:
        asking = asyncio.create_task(job.latest("AAPL", wait_seconds=5))
        await asyncio.sleep(0.01)
        job.told.published(make_publication(EVENT, 12))
        answer = await asking
    assert answer.state is EventState.PUBLISHED
    assert answer.publication == make_publication(EVENT, 12)


@in_virtual_time
async def test_who_waits_in_vain_is_told_that_it_is_queued() -> None:
    async with Job() as job:
        answer = await job.latest("AAPL", wait_seconds=0.2)
    assert (answer.state, answer.publication) == (EventState.QUEUED, None)


@in_virtual_time
async def test_an_unknown_provider_is_named_with_those_there_are() -> None:
    async with Job() as job:
        with pytest.raises(InvalidParameter, match="'nobody' here; there is first, second"):
            await job.latest("AAPL", provider="nobody")
        with pytest.raises(InvalidParameter) as caught:
            await job.latest("AAPL", provider="x" * 10_000)
    assert len(caught.value.detail) < 200
    assert job.first.asked == []


@pytest.mark.parametrize("symbol", ["", "A~B", "A B", "A\n", "A" * 33])
@in_virtual_time
async def test_the_symbol_is_checked_before_the_provider_is_asked(symbol: str) -> None:
    async with Job() as job:
        with pytest.raises(InvalidSymbol):
            await job.latest(symbol)
    assert job.first.asked == []
    assert job.prices.calls == []


@pytest.mark.parametrize("error", [UnknownSymbol("no such symbol"), ProviderDown("it is down")])
@in_virtual_time
async def test_a_providers_error_passes_and_nothing_is_recorded(error: ProviderError) -> None:
    async with Job() as job:
        job.first.error = error
        with pytest.raises(ProviderError) as caught:
            await job.latest("AAPL", wait_seconds=5)
    assert caught.value is error
    assert job.prices.calls == []
    assert job.receipts.asked == 0


@in_virtual_time
async def test_a_stores_error_passes() -> None:
    async with Job() as job:
        job.prices.away = True
        with pytest.raises(StoreUnavailable):
            await job.latest("AAPL", wait_seconds=5)
    assert job.receipts.asked == 0


@in_virtual_time
async def test_a_recorded_price_is_answered_although_its_receipt_cannot_be_read() -> None:
    async with Job() as job:
        job.receipts.error = StoreUnavailable("connection lost")
        try:
            answer = await job.latest("AAPL", wait_seconds=0.2)
        except StoreError as error:
            pytest.fail(f"recorded, but answered as an error: {error}")
    assert answer.state is EventState.QUEUED
