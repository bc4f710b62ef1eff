"""A feed's owner that is frozen for longer than its lease, and thaws behind its successor.

Two processes share a feed over PostgreSQL. Whatever happens, each trade that is recorded is
recorded once, in order, and each that is not is named.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import WSMsgType, web

from tests.feed_server import in_a_thread
from tests.kafka_tools import KafkaTools, free_port
from tests.postgres_tools import LocalPostgres
from tests.service_tools import Service, eventually, running

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

PRODUCT = "BTC-USD"
PAUSE = 0.02


class Broadcaster:
    """Sends the same trades to whoever is subscribed, the price of each being its number."""

    def __init__(self) -> None:
        self.port = free_port()
        self.number = 1_000
        self.listeners: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.listeners.add(socket)
        self.listeners.discard(socket)
        return socket

    async def trade(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.number += 1
            trade = {
                "type": "match",
                "trade_id": self.number,
                "price": str(self.number),
                "size": "1",
                "product_id": PRODUCT,
                "time": f"2026-11-25T12:00:00.{self.number:06}Z",
            }
            for listener in list(self.listeners):
                # One that is frozen takes what its kernel takes.
                asyncio.ensure_future(_send(listener, json.dumps(trade)))  # noqa: RUF006
            await asyncio.sleep(PAUSE)


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    try:
        await socket.send_str(text)
    except ConnectionError:
        return


@contextmanager
def broadcasting() -> Iterator[Broadcaster]:
    vendor = Broadcaster()

    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        app = web.Application()
        app.router.add_get("/", vendor.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", vendor.port).start()
        ready.set()
        await vendor.trade(stop)
        await runner.cleanup()

    with in_a_thread(serve):
        yield vendor


def owns(service: Service) -> bool:
    return bool(service.json("/health/ready")["parts"]["feeds"]["feeds"])


def prices(url: str) -> list[int]:
    async def ask() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("SELECT price FROM prices ORDER BY sequence")
            return [int(row[0]) for row in rows]
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_who_was_frozen_records_nothing_behind_its_successor(
    kafka: KafkaTools, postgres: LocalPostgres, tmp_path: Path
) -> None:
    url = postgres.database_url()
    with broadcasting() as vendor:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "KAFKA_PRICE_EVENTS_TOPIC": kafka.create_topic(f"feeds-{uuid4()}"),
            "DATABASE_URL": url,
            "COINBASE_WS_URL": f"ws://127.0.0.1:{vendor.port}",
            "COINBASE_BASE_URL": f"http://127.0.0.1:{free_port()}",
        }
        services = [Service(tmp_path / name, settings, "api") for name in ("one", "two")]
        with running(services[0]), running(services[1]):
            body = {"kind": "stream", "provider": "coinbase", "symbols": [PRODUCT]}
            answer = services[0].get("/v1/jobs", method="POST", body=json.dumps(body))
            path = f"/v1/jobs/{json.loads(answer[2])['job_id']}"
            eventually(lambda: len(prices(url)) > 50, 30)
            [owner, other] = sorted(services, key=owns, reverse=True)
            assert not owns(other)
            owner.signal(signal.SIGSTOP)
            frozen_at = vendor.number
            eventually(lambda: owns(other), 40)
            taken_at = vendor.number
            eventually(lambda: len(prices(url)) > 0 and prices(url)[-1] > taken_at + 50, 30)
            owner.signal(signal.SIGCONT)
            eventually(lambda: not owns(owner), 20)
            time.sleep(2)
            assert other.get(f"{path}/pause", method="POST")[0] == 200
            eventually(lambda: not owns(other), 20)
            recorded, [symbol] = prices(url), other.json(path)["symbols"]
    missing = {number for first, last in symbol["missing"] for number in range(first, last + 1)}
    assert recorded == sorted(set(recorded))
    assert set(recorded) | missing == set(range(recorded[0], recorded[-1] + 1))
    assert not set(recorded) & missing
    # It was its owner's freeze that nobody listened in, and nothing else.
    assert missing
    assert min(missing) >= frozen_at - 10
    assert max(missing) <= taken_at + 10
