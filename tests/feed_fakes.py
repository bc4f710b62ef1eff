"""A vendor, a store and a door for the driver of feeds, in memory; to be run in virtual time.

The vendor sends what the test says and numbers its trades; the store knows one owner at a time;
the door records what the epoch allows and may be away.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pricewire.domain.feed import (
    Alive,
    Ended,
    FeedLimits,
    Ready,
    Refused,
    Said,
    Subscribed,
    Tick,
    Unreadable,
)
from pricewire.domain.frames import FrameBatch
from pricewire.domain.quote import Fetched, Quote
from pricewire.domain.stream_job import Want
from pricewire.errors import (
    FeedOvertaken,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    RecordRefused,
    StoreUnavailable,
    UnknownSymbol,
)
from pricewire.services.feeds.kept import FeedClaim, FeedFence, FeedStatus, FeedSymbolState
from pricewire.services.feeds.owner import FeedMeans, FeedRules
from pricewire.services.feeds.ports import Filling
from pricewire.services.feeds.run import FeedRun
from pricewire.services.recording import Door
from tests.builders import make_quote, make_raw

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def clock() -> datetime:
    """The loop's time as a date: both go on together."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def want(*symbols: str, conflate: int = 0) -> dict[str, Want]:
    return {symbol: Want(conflate, START) for symbol in symbols}


class FakeSocket:
    """One connection to the vendor; fulfils `Socket`."""

    def __init__(self, vendor: FakeVendor) -> None:
        self.vendor = vendor
        self.subscribed: set[str] = set()
        self.closed = False
        self.frames: deque[bytes | None] = deque()
        self.news = asyncio.Event()

    async def receive(self) -> bytes | None:
        while not self.frames:
            if self.closed:
                raise ProviderDown("acme broke the connection", retry_after=0)
            self.news.clear()
            await self.news.wait()
        return self.frames.popleft()

    async def send(self, text: str) -> None:
        if self.closed:
            raise ProviderDown("acme broke the connection", retry_after=0)
        self.vendor.heard.append((asyncio.get_running_loop().time(), text))
        verb, _, names = text.partition(" ")
        if verb == "subscribe":
            self.subscribed.update(names.split(","))
            if self.vendor.confirms:
                self.push({"subscribed": names.split(",")})
        elif verb == "unsubscribe":
            self.subscribed.difference_update(names.split(","))

    async def aclose(self) -> None:
        self.cut()

    def push(self, frame: dict[str, Any] | bytes | None) -> None:
        encoded = json.dumps(frame).encode() if isinstance(frame, dict) else frame
        self.frames.append(encoded)
        self.news.set()

    def cut(self) -> None:
        """End the connection; what was not read is gone."""
        self.closed = True
        self.frames.clear()
        self.news.set()


class FakeConversation:
    """What frames of the fake vendor say."""

    def opened(self) -> list[str]:
        return ["hello"]

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        return [f"subscribe {','.join(symbols)}"]

    def unsubscribe(self, symbols: Sequence[str]) -> list[str]:
        return [f"unsubscribe {','.join(symbols)}"]

    def read(self, frame: bytes, received_at: datetime) -> list[Said]:
        assert received_at >= START
        said = json.loads(frame)
        [(word, given)] = said.items()
        if word == "ticks":
            return [_tick(symbol, number) for symbol, number in given]
        others: dict[str, Said] = {
            "subscribed": Subscribed(tuple(given) if isinstance(given, list) else ()),
            "ready": Ready(),
            "refused": Refused(str(given), UnknownSymbol(f"acme knows no {given}")),
            "bad key": Ended(ProviderRefused("acme refuses the key", code="invalid_key")),
            "unreadable": Unreadable("acme sent nonsense"),
        }
        return [others.get(word, Alive())]


def _tick(symbol: str, number: int) -> Tick:
    at = START + timedelta(milliseconds=number)
    quote = make_quote(symbol, str(number), trade_id=str(number), timestamp=at)
    return Tick(quote=quote, number=number)


@dataclass
class FakeVendor:
    """Fulfils `VendorFeed`.

    Args:
        refuses: errors of the next connections.
        fillable: numbers that REST has.
    """

    limits: FeedLimits = field(
        default_factory=lambda: FeedLimits(silence_seconds=1_000, messages_per_second=10)
    )
    greets: bool = False
    fills: bool = False
    confirms: bool = True
    name: str = "acme"
    url: str = "wss://acme.example/feed"
    sockets: list[FakeSocket] = field(default_factory=list)
    heard: list[tuple[float, str]] = field(default_factory=list)
    refuses: deque[ProviderError] = field(default_factory=deque)
    fillable: set[int] = field(default_factory=set)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    opened_at: list[float] = field(default_factory=list)

    @property
    def socket(self) -> FakeSocket:
        return self.sockets[-1]

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.heard]

    def converse(self) -> FakeConversation:
        return FakeConversation()

    def kept(self, frame: bytes) -> bytes:
        return frame

    async def open(self) -> FakeSocket:
        await asyncio.sleep(0.01)
        self.opened_at.append(asyncio.get_running_loop().time())
        if self.refuses:
            raise self.refuses.popleft()
        self.sockets.append(FakeSocket(self))
        return self.socket

    async def fill(self, symbol: str, first: int, last: int, since: datetime | None) -> Filling:
        await asyncio.sleep(0.01)
        assert since is not None
        self.asked.append((symbol, first, last))
        numbers = sorted(self.fillable & set(range(first, last + 1)))
        ticks = tuple(_tick(symbol, one) for one in numbers)
        return Filling(make_raw(provider=self.name), ticks)

    def tick(self, symbol: str, *numbers: int) -> None:
        self.socket.push({"ticks": [(symbol, number) for number in numbers]})


class FakeFeeds:
    """Fulfils `FeedStore` for one feed."""

    def __init__(self) -> None:
        self.owner: str | None = None
        self.epoch = 0
        self.until = START
        self.status = FeedStatus(provider="acme")
        self.states: dict[str, FeedSymbolState] = {}
        self.away = False

    async def claim(
        self, provider: str, owner: str, now: datetime, lease: timedelta
    ) -> FeedClaim | None:
        await self._round_trip()
        if self.owner not in (None, owner) and now < self.until:
            return None
        self.owner, self.until, self.epoch = owner, now + lease, self.epoch + 1
        fence = FeedFence(provider, self.epoch)
        return FeedClaim(fence, self.status, tuple(self.states.values()))

    async def renew(self, provider: str, epoch: int, until: datetime, status: FeedStatus) -> bool:
        await self._round_trip()
        assert provider == status.provider
        if epoch == self.epoch:
            self.until, self.status = until, status
        return epoch == self.epoch

    async def release(self, provider: str, epoch: int, status: FeedStatus) -> None:
        await self._round_trip()
        assert provider == status.provider
        if epoch == self.epoch:
            self.owner, self.status = None, status

    async def statuses(self) -> list[FeedStatus]:
        return [self.status] if self.epoch else []

    async def symbols(self, provider: str) -> list[FeedSymbolState]:
        return list(self.states.values()) if provider == "acme" else []

    async def _round_trip(self) -> None:
        await asyncio.sleep(0.001)
        if self.away:
            raise StoreUnavailable("the database is away")


class FakeDoor:
    """Records what the epoch of `feeds` allows."""

    def __init__(self, feeds: FakeFeeds) -> None:
        self.feeds = feeds
        self.batches: list[FrameBatch] = []
        self.quotes: list[Quote] = []
        self.seconds = 0.005
        self.away = False
        self.forgets_answer = False
        self.refuses: set[str] = set()
        self._there: set[object] = set()

    @property
    def prices(self) -> dict[str, list[int]]:
        """The numbers that were recorded, by symbol."""
        found: dict[str, list[int]] = {}
        for quote in self.quotes:
            found.setdefault(quote.symbol, []).append(int(quote.price))
        return found

    @property
    def frames(self) -> list[bytes]:
        return [frame for batch in self.batches for _, frame in batch.frames]

    async def record_frames(
        self,
        frames: FrameBatch,
        ticks: Sequence[tuple[int, Quote]],
        fence: FeedFence,
        states: Sequence[FeedSymbolState] = (),
    ) -> list[Any]:
        await self._commit(fence)
        if any(quote.symbol in self.refuses for _, quote in ticks):
            raise RecordRefused("a text that no database holds")
        if frames.id not in self._there:
            self._there.add(frames.id)
            self.batches.append(frames)
            self.quotes += [quote for _, quote in ticks]
            self.feeds.states |= {state.symbol: state for state in states}
        if self.forgets_answer:
            self.forgets_answer = False
            raise StoreUnavailable("the connection broke at the commit")
        return []

    async def record(
        self, fetched: Fetched, fence: FeedFence, states: Sequence[FeedSymbolState] = ()
    ) -> list[Any]:
        await self._commit(fence)
        self.quotes += fetched.quotes
        self.feeds.states |= {state.symbol: state for state in states}
        return []

    async def _commit(self, fence: FeedFence) -> None:
        await asyncio.sleep(self.seconds)
        if self.away:
            raise StoreUnavailable("the database is away")
        if fence.epoch != self.feeds.epoch:
            raise FeedOvertaken("somebody else has it")


class Market:
    """A vendor, a database and one process that drives the feed; more may be made beside it."""

    def __init__(self, vendor: FakeVendor | None = None, **limits: Any) -> None:
        self.vendor = vendor or FakeVendor()
        if limits:
            self.vendor.limits = replace(self.vendor.limits, **limits)
        self.feeds = FakeFeeds()
        self.door = FakeDoor(self.feeds)
        self.outbox = 0
        self.run = self.process("one")

    def process(self, owner: str) -> FeedRun:
        async def waiting() -> int:
            return self.outbox

        means = FeedMeans(
            store=self.feeds,
            door=cast("Door", self.door),
            waiting=waiting,
            rules=FeedRules(owner=owner, most_waiting=1_000, grace_seconds=5),
            clock=clock,
        )
        return FeedRun(self.vendor, means)

    @property
    def subscribed(self) -> bool:
        return bool(self.vendor.sockets and self.vendor.socket.subscribed)


@asynccontextmanager
async def running(market: Market, run: FeedRun | None = None) -> AsyncIterator[FeedRun]:
    """Run the driver while inside; leaving stops it cleanly and checks that nothing is left."""
    run = run or market.run
    task = asyncio.create_task(run.run())
    others = asyncio.all_tasks() - {task}
    try:
        yield run
    finally:
        run.stop()
        async with asyncio.timeout(60):
            await task
    assert asyncio.all_tasks() <= others
