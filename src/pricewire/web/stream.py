"""`GET /v1/stream`: live prices, averages and candles, as Server-Sent Events or over WebSocket.

`app` serves it before FastAPI and documents it there. Requests are plain ASGI; events are written
to the connections themselves, which `server` puts into the request (docs/decisions/0024): the same
bytes go to all who asked for the same, and how much a connection has not taken yet can be seen.
Invariant: a reader's place is free again as soon as its connection is gone.
"""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from pricewire.bootstrap import Services
from pricewire.errors import InvalidRequest, PricewireError, ShuttingDown
from pricewire.services.live.readers import EndReason, Reader
from pricewire.services.live.streaming import Streaming
from pricewire.web import problems
from pricewire.web.server import TRANSPORT
from pricewire.web.stream_frames import SSE, WEBSOCKET, short
from pricewire.web.stream_request import Asked, asked

PATH = "/v1/stream"
SEND_BUFFER_BYTES = 131_072
"""What the system keeps for a reader that reads slowly is old by the time it is read."""
LAST_WORD_SECONDS = 2.0
RETRY_MS = (1_000, 4_000)
"""From when to when readers come again, so that a thousand do not come at once."""
WRONG, AGAIN_LATER, RESTARTING, BROKEN = 1008, 1013, 1012, 1011
_CODES = {
    EndReason.TOO_SLOW: AGAIN_LATER,
    EndReason.SHUTTING_DOWN: RESTARTING,
    EndReason.TOPICS_CHANGED: RESTARTING,
    EndReason.BROKEN: BROKEN,
}
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]


def document() -> None:
    """Stream prices, averages and candles as they come; also over WebSocket."""


class StreamApp:
    """The ASGI application at `PATH`, of HTTP and of WebSocket."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._sse(scope, receive, send)

    def _streaming(self) -> Streaming:
        streaming = self._services.streaming
        assert streaming is not None, "a process with an API has streams"
        return streaming

    async def _sse(self, scope: Scope, receive: Receive, send: Send) -> None:
        streaming = self._streaming()
        request = self._asked(scope, streaming)
        with streaming.place():
            await streaming.ready(request.wanted.topics)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            wire = _SseWire(_transport(scope))
            wire.write(SSE.frame([b"retry: %d\n\n" % random.randint(*RETRY_MS)]))  # noqa: S311
            reader = Reader(wire, SSE, request.wanted, request.slow)
            await _serve(streaming, reader, request, receive)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        streaming = self._streaming()
        await receive()
        await send({"type": "websocket.accept"})
        try:
            request = self._asked(scope, streaming)
            with streaming.place():
                await streaming.ready(request.wanted.topics)
                wire = _WebSocketWire(_transport(scope))
                reader = Reader(wire, WEBSOCKET, request.wanted, request.slow)
                await _serve(streaming, reader, request, receive)
        except PricewireError as error:
            await _refuse(scope, send, error)

    def _asked(self, scope: Scope, streaming: Streaming) -> Asked:
        query = QueryParams(scope["query_string"])
        return asked(query, Headers(scope=scope), streaming.slow)


async def _serve(streaming: Streaming, reader: Reader, request: Asked, receive: Receive) -> None:
    """Have a reader served until its connection is gone."""
    bringing = streaming.begin(reader, request.position)
    try:
        while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
            pass
    finally:
        streaming.leave(reader)
        if bringing is not None:
            bringing.cancel()


async def _refuse(scope: Scope, send: Send, error: PricewireError) -> None:
    """Tell an error over a WebSocket: the problem as an event, then code and reason."""
    code = WRONG if isinstance(error, InvalidRequest) else AGAIN_LATER
    if isinstance(error, ShuttingDown):
        code = RESTARTING
    problem = msgspec.json.encode(problems.body(HTTPConnection(scope), error))
    text = b"[%b]" % WEBSOCKET.block("problem", None, problem)
    await send({"type": "websocket.send", "text": text.decode()})
    await send({"type": "websocket.close", "code": code, "reason": short(error.detail)})


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport


class _SseWire:
    """Fulfils `Wire`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @property
    def waiting(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)

    def end(self, reason: EndReason, detail: str) -> None:
        self.write(SSE.last("end", _said(reason, detail)))
        self._transport.close()
        _give_up_later(self._transport)


class _WebSocketWire(_SseWire):
    def end(self, reason: EndReason, detail: str) -> None:
        """The connection is closed by who gets the frame that closes, or given up."""
        data = _said(reason, detail)
        self.write(WEBSOCKET.last("end", data, _CODES[reason], f"{reason}: {detail}"))
        _give_up_later(self._transport)


def _said(reason: EndReason, detail: str) -> bytes:
    return msgspec.json.encode({"reason": reason, "detail": detail})


def _give_up_later(transport: asyncio.Transport) -> None:
    asyncio.get_running_loop().call_later(LAST_WORD_SECONDS, transport.abort)
