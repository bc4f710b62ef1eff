"""Refuses bodies that are too large, before they are read; stands before every route of FastAPI.

`app` puts it there. Invariant: no more than `MAX_BODY_BYTES` of a request are ever held in memory,
whether or not the request says its length beforehand.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pricewire.errors import BodyTooLarge
from pricewire.web.problems import MEDIA_TYPE, body

MAX_BODY_BYTES = 4_000_000
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


class BodyLimit:
    """See the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        if _said_length(scope) > MAX_BODY_BYTES:
            await _refusal(scope)(scope, receive, send)
            return
        messages = await _read(receive)
        if messages is None:
            await _refusal(scope)(scope, receive, send)
            return
        waiting = iter(messages)

        async def replay() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, replay, send)


def _said_length(scope: Scope) -> int:
    """Return Content-Length; a server lets none in that is not a number."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            # A number of over 18 digits is large enough without being read.
            return int(value) if len(value) <= 18 else MAX_BODY_BYTES + 1
    return 0


async def _read(receive: Receive) -> list[Message] | None:
    """Return the messages of a whole body; None where it is too large."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages


def _refusal(scope: Scope) -> Response:
    error = BodyTooLarge(f"a body has at most {MAX_BODY_BYTES} bytes")
    problem = msgspec.json.encode(body(Request(scope), error))
    # What is not read must not be taken for the next request.
    return Response(problem, error.status, {"Connection": "close"}, MEDIA_TYPE)
