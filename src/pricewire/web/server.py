"""Runs an application under uvicorn on a socket that is bound before anything else is started.

The CLI calls it. Invariant: the caller owns the signals; a stop lets requests in flight finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

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


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller: uvicorn would raise them again after a clean stop."""
        yield


async def serve(
    app: ASGIApp, listening: socket.socket, stop: asyncio.Event, *, grace_seconds: float
) -> None:
    """Serve until `stop`; then answer what is in flight, at most for `grace_seconds`."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
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
    server.should_exit = True
    stopping.cancel()
    await serving
