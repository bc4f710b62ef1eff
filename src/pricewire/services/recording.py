"""The door: the one way by which a price enters, by `record`; feeds' ticks by `record_frames`.

Theory of operation (docs/decisions/0002). Whoever arrives while a group is being written goes into
the next group, which is one transaction {raw responses, prices, events with their symbols' next
sequences, outbox}; frames of a feed stand for a raw response and bring the states of its symbols.
A group that fails is tried again member by member, so that one bad record or one frozen process
never fails strangers. A member's identity is its raw response's or its batch's id, made before the
transaction: where the outcome of a COMMIT is unknown, the second try finds what was recorded.

Invariant: what `record` returned is committed; what it raised for may be recorded, never twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pricewire.domain.event import MAX_VALUE_BYTES, Draft, RecordedPrice
from pricewire.domain.frames import FrameBatch, frame_id
from pricewire.domain.quote import Fetched, Quote, RawResponse
from pricewire.errors import (
    FeedOvertaken,
    PollOvertaken,
    RecordRefused,
    ShuttingDown,
    StoreBusy,
    StoreError,
    StoreUnavailable,
)
from pricewire.services.feeds.kept import FeedFence, FeedSymbolState

MAX_GROUP = 256
MAX_GROUP_PRICES = 2_000
"""A group takes nobody in any more once it has so many."""
MAX_WAITING = 10_000

FrameQuote = tuple[int, Quote]
"""The index of a frame in its batch, and one of the quotes that it holds."""


@dataclass(frozen=True, slots=True)
class Fence:
    """By what right a polling job's prices are recorded (docs/decisions/0019).

    Args:
        epoch: the job's when the poll was claimed; any later one means that it is not ours.
        due: the due time that is polled; each symbol is recorded once for it.
    """

    job_id: UUID
    epoch: int
    due: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """What one caller wants recorded: a raw response or frames, and the drafts made from it.

    Args:
        fence: must hold in the transaction that records; None where nothing has to.
        states: of the symbols of a fenced feed, once all this is recorded.
    """

    raw: RawResponse | FrameBatch
    drafts: tuple[Draft, ...]
    fence: Fence | FeedFence | None = None
    states: tuple[FeedSymbolState, ...] = ()


Overtaken = PollOvertaken | FeedOvertaken
Written = list[RecordedPrice] | PollOvertaken | FeedOvertaken
"""What became of an entry: its prices; or its fence did not hold, and only its raw answer or its
frames are kept, while the rest of its group is recorded."""


class RecordingStore(Protocol):
    async def record(self, group: Sequence[Entry], *, again: bool = False) -> Sequence[Written]:
        """Record `group` in one transaction, each symbol in the group's order.

        With `again`, entries whose raw response or frames are there are found, not recorded, and
        locks are waited for only briefly. What was recorded is found though its fence has fallen.

        Raises:
            StoreError: nothing of the group is recorded; `StoreUnavailable`: that is not known.
        """
        ...


class Encode(Protocol):
    """Makes a record's value and its additional headers; `kafka.codec` has it."""

    def __call__(
        self, quote: Quote, *, provider: str, raw_response_id: UUID
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]: ...


@dataclass(frozen=True, slots=True)
class _Origin:
    """What all drafts of an entry have in common."""

    provider: str
    recorded_at: datetime


@dataclass(slots=True)
class _Member:
    entry: Entry
    result: asyncio.Future[list[RecordedPrice]]

    def settle(self, prices: list[RecordedPrice]) -> None:
        if not self.result.done():
            self.result.set_result(prices)

    def fail(self, error: BaseException) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Door:
    """Records prices in groups. `run` does the writing and must be running for `record` to return.

    Args:
        shard_of: partition of the topic for a symbol.
        committed: called after each commit, on the event loop, with the shards that have news.
    """

    def __init__(
        self,
        store: RecordingStore,
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
        self._waiting: deque[_Member] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self.latest: dict[str, RecordedPrice] = {}
        """The price that was recorded last here, by symbol; read by whoever wants no database."""
        self.recorded = 0
        """How many prices were recorded here since the start."""

    async def record(
        self,
        fetched: Fetched,
        fence: Fence | FeedFence | None = None,
        states: Sequence[FeedSymbolState] = (),
    ) -> list[RecordedPrice]:
        """Record every quote of `fetched`; return them in order once they are committed.

        Args:
            states: of a feed's symbols, where the quotes fill its gaps; kept with them.

        Raises:
            RecordRefused: this can never be stored.
            PollOvertaken, FeedOvertaken: the fence does not hold; only the raw answer is kept.
            StoreError: the database is away or busy, or too many wait already.
            ShuttingDown: the door is closed.
        """
        self._check_room()
        origin = _Origin(fetched.raw.provider, self._clock())
        drafts = tuple(
            self._draft(origin, fetched.raw.id, position, quote, fetched.raw.fetched_at)
            for position, quote in enumerate(fetched.quotes)
        )
        return await self._recorded(Entry(fetched.raw, drafts, fence, tuple(states)))

    async def record_frames(
        self,
        frames: FrameBatch,
        ticks: Sequence[FrameQuote],
        fence: FeedFence,
        states: Sequence[FeedSymbolState] = (),
    ) -> list[RecordedPrice]:
        """Keep frames and record their ticks; return these in order once all is committed.

        The frames are kept in any case, also where there are no ticks. After a StoreError the same
        batch may be brought again, with the same ticks: what was recorded of it is found.

        Args:
            ticks: in the order in which they are to be numbered, the ticks of a frame together.
            states: of the symbols that something has changed for; kept with the ticks.

        Raises:
            FeedOvertaken: the feed has another owner by now; nothing but the frames is kept.
            RecordRefused, StoreError, ShuttingDown: as `record`.
        """
        self._check_room()
        return await self._recorded(
            Entry(frames, tuple(self._tick_drafts(frames, ticks)), fence, tuple(states))
        )

    def _check_room(self) -> None:
        if self._closed:
            raise ShuttingDown
        if len(self._waiting) >= MAX_WAITING:
            raise StoreBusy(f"{MAX_WAITING} prices wait to be recorded already")

    async def _recorded(self, entry: Entry) -> list[RecordedPrice]:
        member = _Member(entry, asyncio.get_running_loop().create_future())
        self._waiting.append(member)
        self._news.set()
        return await member.result

    def _tick_drafts(self, frames: FrameBatch, ticks: Sequence[FrameQuote]) -> Iterator[Draft]:
        """Give the drafts of ticks; the position is counted within each frame."""
        origin = _Origin(frames.provider, self._clock())
        of, position, id_, received = -1, 0, frames.id, origin.recorded_at
        for index, quote in ticks:
            if index != of:
                of, position = index, 0
                id_, received = frame_id(frames.id, index), frames.frames[index][0]
            yield self._draft(origin, id_, position, quote, received)
            position += 1

    def _draft(
        self, origin: _Origin, raw_id: UUID, position: int, quote: Quote, fetched_at: datetime
    ) -> Draft:
        value, headers = self._encode(quote, provider=origin.provider, raw_response_id=raw_id)
        if len(value) > MAX_VALUE_BYTES:
            raise RecordRefused(f"the event of {quote.symbol} has {len(value)} bytes")
        return Draft(
            quote=quote,
            raw_response_id=raw_id,
            position=position,
            provider=origin.provider,
            shard=self._shard_of(quote.symbol),
            value=value,
            headers=headers,
            fetched_at=fetched_at,
            recorded_at=origin.recorded_at,
        )

    async def run(self) -> None:
        """Write groups until `close`; an error that is none of the store's ends it loudly."""
        group: list[_Member] = []
        try:
            while group := await self._next_group():
                await self._write(group)
        finally:
            self._closed = True
            self._turn_away(group)

    def close(self) -> None:
        """Let nobody in any more; `run` returns once those inside are written."""
        self._closed = True
        self._news.set()

    async def _next_group(self) -> list[_Member]:
        """Return those who wait, once somebody does; nobody once the door is closed."""
        while not self._waiting and not self._closed:
            self._news.clear()
            await self._news.wait()
        group: list[_Member] = []
        prices = 0
        while self._waiting and len(group) < MAX_GROUP and prices < MAX_GROUP_PRICES:
            group.append(self._waiting.popleft())
            prices += len(group[-1].entry.drafts)
        return group

    def _turn_away(self, group: list[_Member]) -> None:
        """Let nobody wait for a door that does not write any more."""
        for member in (*group, *self._waiting):
            member.fail(ShuttingDown())
        self._waiting.clear()

    async def _write(self, group: list[_Member]) -> None:
        try:
            results = await self._store.record([member.entry for member in group])
        except StoreError:
            await self._write_each(group)
            return
        for member, written in zip(group, results, strict=True):
            self._settle(member, written)
        self._tell(results)

    async def _write_each(self, group: list[_Member]) -> None:
        """Try each member alone.

        Once the database is away, it is away for the rest; once a symbol's lock was not to be had,
        nobody else waits for it.
        """
        away: StoreError | None = None
        busy: dict[str, StoreError] = {}
        for member in group:
            names = {draft.quote.symbol for draft in member.entry.drafts}
            known = away or next((busy[name] for name in names if name in busy), None)
            error = known or await self._write_alone(member)
            if error is not None:
                member.fail(error)
            if isinstance(error, StoreUnavailable):
                away = error
            elif isinstance(error, StoreBusy):
                busy |= dict.fromkeys(names, error)

    async def _write_alone(self, member: _Member) -> StoreError | None:
        try:
            [written] = await self._store.record([member.entry], again=True)
        except StoreError as error:
            return error
        self._settle(member, written)
        self._tell([written])
        return None

    def _settle(self, member: _Member, written: Written) -> None:
        if isinstance(written, Overtaken):
            member.fail(written)
            return
        for price in written:
            self.latest[price.event_id.symbol] = price
        self.recorded += len(written)
        member.settle(written)

    def _tell(self, results: Sequence[Written]) -> None:
        recorded = (one for one in results if not isinstance(one, Overtaken))
        self._committed({price.draft.shard for prices in recorded for price in prices})
