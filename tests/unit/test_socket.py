"""A vendor's websocket as the driver meets it: opening, refusals, pings, ends; no secret told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSCloseCode, WSMsgType, web

from pricewire.errors import ProviderDown, ProviderError, ProviderRefused
from pricewire.providers import socket as sockets
from pricewire.providers.socket import WebSocket, opened

SECRET = "S3CRET-key"
Serve = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


def refused(status: int) -> ProviderError:
    return ProviderRefused(f"HTTP {status}", code="invalid_key")


@asynccontextmanager
async def vendor(serve: Serve, status: int = 101) -> AsyncIterator[str]:
    """Serve one behaviour; give its URL, with a secret in it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if status != 101:
            return web.Response(status=status, text=f"no {SECRET}")
        response = web.WebSocketResponse(autoping=False)
        await response.prepare(request)
        await serve(response, request)
        return response

    app = web.Application()
    app.router.add_get("/feed", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [address] = runner.addresses
    yield f"ws://127.0.0.1:{address[1]}/feed?token={SECRET}"
    await runner.cleanup()


async def dial(url: str) -> WebSocket:
    return await opened("acme", url, {"X-Key": SECRET}, refused)


async def ended(socket: WebSocket) -> str:
    with pytest.raises(ProviderDown) as told:
        await socket.receive()
    assert SECRET not in str(told.value)
    assert told.value.__cause__ is None
    await socket.aclose()
    return told.value.detail


async def test_frames_come_byte_for_byte_and_texts_go_out() -> None:
    async def serve(peer: web.WebSocketResponse, request: web.Request) -> None:
        assert request.headers["X-Key"] == SECRET
        assert "Sec-WebSocket-Extensions" not in request.headers
        heard = await peer.receive()
        await peer.send_str(heard.data + ' {"p": 0.10, "é": 1e400}')
        await peer.send_bytes(b"\x00\xff")
        await peer.receive()

    async with vendor(serve) as url:
        socket = await dial(url)
        await socket.send("hello")
        assert await socket.receive() == 'hello {"p": 0.10, "é": 1e400}'.encode()
        assert await socket.receive() == b"\x00\xff"
        await socket.aclose()
        await socket.aclose()


async def test_pings_are_answered_and_told() -> None:
    answers: list[bytes] = []

    async def serve(peer: web.WebSocketResponse, _: web.Request) -> None:
        await peer.ping(b"are you there")
        answer = await peer.receive()
        assert answer.type is WSMsgType.PONG
        answers.append(answer.data)
        await peer.pong()
        await peer.send_str("x")
        await peer.receive()

    async with vendor(serve) as url:
        socket = await dial(url)
        assert [await socket.receive() for _ in range(3)] == [None, None, b"x"]
        assert answers == [b"are you there"]
        await socket.aclose()


async def test_how_it_ended_is_told() -> None:
    async def says_why(peer: web.WebSocketResponse, _: web.Request) -> None:
        await peer.close(code=WSCloseCode.POLICY_VIOLATION, message=b"slow\x00 reader")

    async def breaks(_: web.WebSocketResponse, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    async with vendor(says_why) as url:
        told = await ended(await dial(url))
    assert told == "acme closed the connection, code 1008: slow  reader"
    async with vendor(breaks) as url:
        assert await ended(await dial(url)) == "acme broke the connection"


async def test_a_frame_without_bound_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "MAX_FRAME_BYTES", 1_000)

    async def serve(peer: web.WebSocketResponse, _: web.Request) -> None:
        await peer.send_str("x" * 2_000)
        await peer.receive()

    async with vendor(serve) as url:
        assert "no websocket frame of at most 1000 bytes" in await ended(await dial(url))


async def test_who_waits_for_a_frame_is_told_that_we_closed() -> None:
    async def serve(peer: web.WebSocketResponse, _: web.Request) -> None:
        await peer.receive()

    async with vendor(serve) as url:
        socket = await dial(url)
        waiting = asyncio.create_task(socket.receive())
        await asyncio.sleep(0.01)
        await socket.aclose()
        with pytest.raises(ProviderDown):
            await waiting
        with pytest.raises(ProviderDown):
            await socket.send("too late")


async def test_who_does_not_receive_holds_the_vendor_up() -> None:
    sent = 0
    stuck = asyncio.Event()

    async def serve(peer: web.WebSocketResponse, _: web.Request) -> None:
        nonlocal sent
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await peer.send_str("x" * 50_000)
            except TimeoutError:
                stuck.set()
                return
            sent += 1

    async with vendor(serve) as url:
        socket = await dial(url)
        async with asyncio.timeout(30):
            await stuck.wait()
        # What the two kernels hold between them, not what could be sent.
        assert sent < 2_000
        assert await socket.receive() == b"x" * 50_000
        await socket.aclose()


async def test_what_is_no_websocket_is_told_by_its_status() -> None:
    async def never(_peer: web.WebSocketResponse, _request: web.Request) -> None: ...

    async with vendor(never, 403) as url:
        with pytest.raises(ProviderRefused, match="HTTP 403") as told:
            await dial(url)
    assert SECRET not in str(told.value)
    assert told.value.__cause__ is None
    with pytest.raises(ProviderDown, match="acme cannot be reached") as away:
        await dial(url)
    assert SECRET not in str(away.value)
    assert "127.0.0.1" not in str(away.value)
