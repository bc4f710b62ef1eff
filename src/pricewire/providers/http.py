"""One GET at a provider, from parameters to `RawResponse`; every adapter with a network calls it.

Invariant: the secret parameters reach the wire and nothing else: no URL that is kept, no exception
(each is raised `from None`, with a text of ours) and no log line holds them. The body is kept byte
for byte: no content coding is asked for, and redirects are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from uuid_utils.compat import uuid7
from yarl import URL

from pricewire.domain.quote import RawResponse
from pricewire.errors import ProviderDown, ProviderTimedOut

MAX_CONNECTIONS: Final = 128
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
IDLE_SECONDS: Final = 30.0
_KEPT: Final = frozenset({"content-type", "date", "retry-after", "age", "etag"})
_KEPT_PREFIXES: Final = ("x-ratelimit-", "x-mbx-used-weight", "api-credits-")
_NO_HEADERS: Final[Mapping[str, str]] = {}

_Answer = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]


class HttpClient:
    """Calls to one provider over one pool of connections.

    Args:
        provider: the provider's name, for answers and error texts.
        origin: scheme, host and port, without a path.
        timeout_seconds: for a whole call, from waiting for a connection to the last byte.
        clock: now, aware UTC.
    """

    def __init__(
        self,
        *,
        provider: str,
        origin: str,
        timeout_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._provider = provider
        self._origin = origin.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self,
        path: str,
        params: Mapping[str, str],
        secret_params: Mapping[str, str],
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> RawResponse:
        """Ask `path` with both kinds of parameters and return the answer, whatever its status.

        Args:
            path: encoded already.
            headers: may hold secrets; kept nowhere.

        Raises:
            ProviderTimedOut: no complete answer in time.
            ProviderDown: no connection, or one that broke.
        """
        public = _target(path, params)
        target = _target(path, {**params, **secret_params})
        status, answered, body = await self._ask(self._origin + target, headers)
        return RawResponse(
            id=uuid7(),
            provider=self._provider,
            url=self._origin + public,
            status=status,
            headers=_chosen(answered),
            body=body,
            fetched_at=self._clock(),
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, url: str, headers: Mapping[str, str]) -> _Answer:
        try:
            return await self._exchange(URL(url, encoded=True), headers)
        except TimeoutError:
            trouble: ProviderDown | ProviderTimedOut = ProviderTimedOut(
                f"{self._provider} did not answer within {self._timeout_seconds:g} s",
                retry_after=1,
            )
        except aiohttp.ClientConnectorError as error:
            trouble = ProviderDown(f"{self._provider} cannot be reached: {type(error).__name__}")
        except (aiohttp.ClientError, OSError, _TooLarge) as error:
            trouble = ProviderDown(
                f"{self._provider} gave no complete answer: {type(error).__name__}"
            )
        raise trouble from None

    async def _exchange(self, url: URL, headers: Mapping[str, str]) -> _Answer:
        async with self._opened().get(url, headers=headers, allow_redirects=False) as response:
            body = await response.content.read(MAX_ANSWER_BYTES + 1)
            while not response.content.at_eof():
                if len(body) > MAX_ANSWER_BYTES:
                    raise _TooLarge
                body += await response.content.read(MAX_ANSWER_BYTES + 1 - len(body))
            return response.status, response.raw_headers, body

    def _opened(self) -> aiohttp.ClientSession:
        """Make the session with the first call: it belongs to the loop that it is made on."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_SECONDS
                ),
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "pricewire", "Accept-Encoding": "identity"},
                auto_decompress=False,
                proxy=_proxy(self._origin),
            )
        return self._session


def _proxy(origin: str) -> str | None:
    """Return the proxy that the environment names for `origin` (HTTPS_PROXY, NO_PROXY).

    Looked up once: left to aiohttp it would be anew for each call, at five times a call's cost.
    """
    parts = urlsplit(origin)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


class _TooLarge(Exception):
    """An answer of over `MAX_ANSWER_BYTES`."""


def _target(path: str, params: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(params, quote_via=quote, safe='')}" if params else path


def _chosen(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[str, str], ...]:
    texts = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return tuple(
        (name, value) for name, value in texts if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    )
