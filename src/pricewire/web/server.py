"""Runs an application under uvicorn on a socket that is bound before anything else is started.

The CLI calls it. Invariant: the caller owns the signals; a stop lets requests in flight finish.
Requests are told their connection, which `stream` writes to (docs/decisions/0024).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pricewire.errors import StartupError


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        StartupError: the port is taken; names the setting that moves it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}:{port}: {error.strerror}; set API_PORT or API_HOST"
        ) from None


TRANSPORT = "pricewire.transport"
"""The ASGI extension that is a request's connection."""
MAX_OPEN_FILES = 65_536
MAX_MESSAGE_BYTES = 4_096
"""Of what a reader sends over a WebSocket; nobody listens to it."""


def allow_many_connections() -> None:
    """Raise the limit of open files, which many systems set too low for a server, to its most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Http(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {TRANSPORT: self.transport}


class _WebSocket(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        extensions = cast("dict[str, Any]", self.scope).setdefault("extensions", {})
        extensions[TRANSPORT] = self.transport
        await super().run_asgi()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller: uvicorn would raise them again after a clean stop."""
        yield


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    grace_seconds: float,
    before_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop`; then answer what is in flight, at most for `grace_seconds`.

    Args:
        before_stop: called at the beginning of the stop; ends what would never end by itself.
    """
    allow_many_connections()
    config = uvicorn.Config(
        app,
        http=_Http,
        ws=_WebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        # Compressed for each reader apart, nothing could be shared; the stream has heartbeats.
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    before_stop()
    server.should_exit = True
    stopping.cancel()
    await serving
