"""A vendor's websocket over aiohttp; `live_feed` opens one for each connection of a feed.

Invariant: secrets reach the wire and nothing else: no exception (each is raised `from None`, with
a text of ours) holds a URL or a header. Frames come as they were sent: no compression is offered,
and what is read ahead of `receive` is bounded, so that who does not receive stops the vendor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from pricewire.errors import ProviderDown, ProviderError

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
OPEN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0
_SECURE: Final = {"ws": "http", "wss": "https"}


class WebSocket:
    """Fulfils `services.feeds.ports.Socket`.

    Args:
        provider: for error texts.
    """

    def __init__(
        self,
        provider: str,
        session: aiohttp.ClientSession,
        connection: aiohttp.ClientWebSocketResponse[bool],
    ) -> None:
        self._provider = provider
        self._session = session
        self._connection = connection

    async def receive(self) -> bytes | None:
        message = await self._connection.receive()
        kind = message.type
        # Not decoded: the text's own bytes.
        if kind is aiohttp.WSMsgType.TEXT or kind is aiohttp.WSMsgType.BINARY:
            frame: bytes = message.data
            return frame
        if kind is aiohttp.WSMsgType.PING:
            await self._pong(message.data)
            return None
        if kind is aiohttp.WSMsgType.PONG:
            return None
        raise ProviderDown(f"{self._provider} {self._ended(kind, message.extra)}", retry_after=0)

    async def send(self, text: str) -> None:
        try:
            await self._connection.send_str(text)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise self._lost(error) from None

    async def aclose(self) -> None:
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close()
        await self._session.close()

    async def _pong(self, payload: bytes) -> None:
        try:
            await self._connection.pong(payload)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> ProviderDown:
        return ProviderDown(
            f"{self._provider} broke the connection: {type(error).__name__}", retry_after=0
        )

    def _ended(self, kind: aiohttp.WSMsgType, extra: object) -> str:
        code = self._connection.close_code
        if kind is aiohttp.WSMsgType.ERROR:
            return f"sent what is no websocket frame of at most {MAX_FRAME_BYTES} bytes"
        if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
            return "broke the connection"
        said = extra if isinstance(extra, str) else ""
        reason = "".join(char if char.isprintable() else " " for char in said)[:100]
        return f"closed the connection, code {code}{f': {reason}' if reason else ''}"


async def opened(
    provider: str,
    url: str,
    headers: Mapping[str, str],
    refused: Callable[[int], ProviderError],
) -> WebSocket:
    """Open a connection.

    Args:
        url: with its secrets, as are `headers`.
        refused: what an HTTP status means that came instead of a websocket.

    Raises:
        ProviderError: there is no connection; the text holds no secret.
    """
    session = aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "pricewire"},
        proxy=_proxy(url),
    )
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            connection = await _connected(session, url, headers)
    except BaseException as error:
        await session.close()
        if isinstance(error, aiohttp.WSServerHandshakeError):
            raise refused(error.status) from None
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            raise _not_opened(provider, error) from None
        raise
    return WebSocket(provider, session, connection)


async def _connected(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]
) -> aiohttp.ClientWebSocketResponse[bool]:
    return await session.ws_connect(
        URL(url, encoded=True),
        headers=headers,
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        autoping=False,
        max_msg_size=MAX_FRAME_BYTES,
        decode_text=False,
    )


def _not_opened(provider: str, error: Exception) -> ProviderDown:
    if isinstance(error, TimeoutError):
        return ProviderDown(
            f"{provider} opened no websocket within {OPEN_SECONDS:g} s", retry_after=0
        )
    return ProviderDown(f"{provider} cannot be reached: {type(error).__name__}", retry_after=0)


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for the URL (HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(_SECURE.get(parts.scheme, parts.scheme))
