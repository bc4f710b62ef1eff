"""A vendor's websocket on this machine: plays frames to whoever subscribes, and is cut at times.

It runs in a thread of its own beside the service that is tested. What is not sent while nobody is
connected is never sent: a real vendor replays nothing. `made_up` makes frames of Coinbase's shape.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

Frame = tuple[float, str]
"""When it was received, in seconds of some clock, and what it said."""

LATE = 0.1
"""Seconds after which nobody is told of a trade any more."""
HEARTBEAT = json.dumps({"type": "heartbeat", "sequence": 1, "product_id": "A-B"})


@dataclass
class FeedServer:
    """Args:
    speed: how many times faster than the frames' own times; None: as fast as it goes.
    cuts: before which frames the connection ends, and how many frames are then never sent.
    """

    frames: Sequence[Frame]
    speed: float | None = None
    cuts: Mapping[int, int] = field(default_factory=dict)
    port: int = 0
    asked: list[Any] = field(default_factory=list)
    connections: int = 0
    pages: int = 0
    cut: int = 0
    position: int = 0
    sent: list[Frame] = field(default_factory=list)
    began: float | None = None
    played: threading.Event = field(default_factory=threading.Event)

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        playing: asyncio.Task[None] | None = None
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.asked.append(json.loads(message.data))
                if playing is None and self.asked[-1]["type"] == "subscribe":
                    playing = asyncio.create_task(self._play(request, socket))
        if playing is not None:
            playing.cancel()
            await asyncio.wait([playing])
        return socket

    async def rest(self, request: web.Request) -> web.Response:
        """Answer with trades before a number, the newest first, as Coinbase does."""
        sold = trades(self.frames)[request.match_info["product"]]
        before, limit = int(request.query["after"]), int(request.query["limit"])
        found = [trade for trade in reversed(sold) if trade["trade_id"] < before][:limit]
        self.pages += 1
        return web.json_response(found)

    async def _play(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        while self.position < len(self.frames):
            await self._until_its_time()
            frame = self.frames[self.position]
            await socket.send_str(frame[1])
            self.sent.append(frame)
            self.position += 1
            if dropped := self._cut():
                self.position += dropped
                assert request.transport is not None
                # The end of the stream, without a word: all that was sent arrives.
                request.transport.close()
                return
            if self.speed is None:
                await asyncio.sleep(0)
        self.played.set()
        while True:
            await socket.send_str(HEARTBEAT)
            await asyncio.sleep(1)

    def _cut(self) -> int:
        """Return how many frames nobody gets, where the connection is to be cut now; else 0."""
        due = [place for place in self.cuts if place <= self.position]
        if len(due) <= self.cut:
            return 0
        self.cut += 1
        return self.cuts[sorted(due)[self.cut - 1]]

    async def _until_its_time(self) -> None:
        """Wait for the next frame's time; what is long past is never sent."""
        if self.speed is None:
            return
        now = asyncio.get_running_loop().time()
        if self.began is None:
            self.began = now - self.frames[0][0] / self.speed
        while now - self._time() > LATE and self.position < len(self.frames) - 1:
            self.position += 1
        await asyncio.sleep(max(0.0, self._time() - now))

    def _time(self) -> float:
        assert self.speed is not None
        assert self.began is not None
        return self.began + self.frames[self.position][0] / self.speed


@contextmanager
def in_a_thread(
    serve: Callable[[threading.Event, asyncio.Event], Coroutine[Any, Any, None]],
) -> Iterator[None]:
    """Run what serves in a loop of its own, while inside; it says when it is ready."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    def work() -> None:
        loop.run_until_complete(serve(ready, stop))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@contextmanager
def serving(server: FeedServer) -> Iterator[FeedServer]:
    """Serve while inside."""

    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        app = web.Application()
        app.router.add_get("/", server.handle)
        app.router.add_get("/products/{product}/trades", server.rest)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", server.port)
        await site.start()
        assert site._server is not None
        server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    with in_a_thread(serve):
        yield server


def made_up(matches: int, seconds: float, seed: int = 7) -> list[Frame]:
    """Return frames of several products, as Coinbase sends them with `ticker` beside `matches`."""
    chance = random.Random(seed)
    prices = {"BTC-USD": "61234.56", "ETH-EUR": "2345.10", "SHIB-USD": "0.00000812", "A-BTC": "7"}
    numbers = {product: chance.randrange(1, 10**9) for product in prices}
    channels = [{"name": "matches", "product_ids": list(prices)}]
    frames: list[Frame] = [(0.0, json.dumps({"type": "subscriptions", "channels": channels}))]
    frames += [
        (0.0, _match("last_match", product, numbers[product], price, 0))
        for product, price in prices.items()
    ]
    for turn in range(matches):
        product = chance.choice(list(prices))
        numbers[product] += 1
        at = seconds * turn / matches
        price = f"{prices[product]}{chance.randrange(10)}"
        frames.append((at, _match("match", product, numbers[product], price, turn)))
        if turn % 3 == 0:
            frames.append((at, json.dumps({"type": "ticker", "product_id": product})))
    return frames


def _match(kind: str, product: str, number: int, price: str, turn: int) -> str:
    trade = {
        "type": kind,
        "trade_id": number,
        "side": "buy",
        "size": "0.10",
        "price": price,
        "product_id": product,
        "sequence": 10 * number,
        "time": f"2026-11-25T12:00:{turn % 60:02}.{turn:06}Z",
    }
    return json.dumps(trade)


def trades(frames: Sequence[Frame]) -> dict[str, list[dict[str, Any]]]:
    """Return the trades in frames, by product, in their order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, text in frames:
        said = json.loads(text)
        if said["type"] in ("match", "last_match"):
            found[said["product_id"]].append(said)
    return found


def gaps(sent: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Return which numbers a reader of trades sees missing."""
    numbers = [trade["trade_id"] for trade in sent]
    return [
        [before + 1, after - 1]
        for before, after in itertools.pairwise(numbers)
        if after > before + 1
    ]
