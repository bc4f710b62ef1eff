"""How events are written to readers of the live stream: Server-Sent Events, and WebSocket; pure.

`stream` gives each reader its framing. Invariant: what `frame` returns is complete on the wire,
chunk of HTTP or frame of WebSocket included, so that the same bytes serve every reader.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

MAX_REASON_BYTES = 123
_encode = msgspec.json.Encoder().encode


class SseFraming:
    """An event is a block of lines, some blocks are a chunk of HTTP/1.1."""

    def block(self, name: str, position: str | None, data: bytes) -> bytes:
        if position is None:
            return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
        return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), position.encode(), data)

    def heartbeat(self, position: str) -> bytes:
        """Return a comment, and the position in a block that is no event."""
        return b":\nid: %b\n\n" % position.encode()

    def frame(self, blocks: Sequence[bytes]) -> bytes:
        body = b"".join(blocks)
        return b"%x\r\n%b\r\n" % (len(body), body)

    def last(self, name: str, data: bytes) -> bytes:
        """Return a last event and the end of the answer."""
        return self.frame([self.block(name, None, data)]) + b"0\r\n\r\n"


class WebSocketFraming:
    """An event is a JSON object, some are an array, which is one text message."""

    def block(self, name: str, position: str | None, data: bytes) -> bytes:
        if position is None:
            return b'{"event":%b,"data":%b}' % (_encode(name), data)
        return b'{"event":%b,"id":%b,"data":%b}' % (_encode(name), _encode(position), data)

    def heartbeat(self, position: str) -> bytes:
        return b'{"event":"heartbeat","id":%b}' % _encode(position)

    def frame(self, blocks: Sequence[bytes]) -> bytes:
        return _frame(0x81, b"[%b]" % b",".join(blocks))

    def last(self, name: str, data: bytes, code: int, reason: str) -> bytes:
        """Return a last event and the frame that closes."""
        told = self.frame([self.block(name, None, data)])
        return told + _frame(0x88, struct.pack("!H", code) + short(reason).encode())


SSE = SseFraming()
WEBSOCKET = WebSocketFraming()


def short(reason: str) -> str:
    """Return as much of a reason as a closing frame may hold."""
    return reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def _frame(first_byte: int, payload: bytes) -> bytes:
    """Return a frame of RFC 6455 that is not masked, as those of a server are."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first_byte, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", first_byte, 126, size) + payload
    return struct.pack("!BBQ", first_byte, 127, size) + payload
