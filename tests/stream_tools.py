"""Readers of live streams for the tests: over a fake connection, and over real ones.

Invariant: the clients here share no code with the service but the names of its ports.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pricewire.domain.position import Offsets, StreamTopic
from pricewire.services.live.catching_up import Gap, Piece
from pricewire.services.live.events import LiveEvent, Subscription
from pricewire.services.live.readers import EndReason


class LineFraming:
    """Fulfils `Framing`: one line of JSON an event."""

    def block(self, name: str, position: str | None, data: bytes) -> bytes:
        return json.dumps([name, position, json.loads(data)]).encode() + b"\n"

    def heartbeat(self, position: str) -> bytes:
        return self.block("heartbeat", position, b"null")

    def frame(self, blocks: Sequence[bytes]) -> bytes:
        return b"".join(blocks)


LINES = LineFraming()


class FakeWire:
    """Fulfils `Wire`; what it was given and `taken` says how much of it the network has."""

    def __init__(self, *, takes_all: bool = True) -> None:
        self.frames: list[bytes] = []
        self.takes_all = takes_all
        self.ended: EndReason | None = None
        self.most_waiting = 0
        self._waiting = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    def write(self, frame: bytes) -> None:
        assert self.ended is None
        self.frames.append(frame)
        self._waiting += 0 if self.takes_all else len(frame)
        self.most_waiting = max(self.most_waiting, self._waiting)

    def take(self, size: int | None = None) -> None:
        """Let the network take so many bytes, or all."""
        self._waiting = 0 if size is None else max(0, self._waiting - size)

    def end(self, reason: EndReason, _detail: str) -> None:
        self.ended = reason

    @property
    def lines(self) -> list[list[Any]]:
        return [json.loads(line) for frame in self.frames for line in frame.splitlines()]

    def given(self, name: str = "price") -> list[Any]:
        return [data for event, _, data in self.lines if event == name]


def event(
    offset: int,
    symbol: str = "A",
    *,
    partition: int = 0,
    topic: StreamTopic = StreamTopic.PRICES,
    series: str = "",
    padding: int = 0,
) -> LiveEvent:
    data = [topic.value, partition, offset] + (["x" * padding] if padding else [])
    return LiveEvent(topic, partition, offset, symbol, series, json.dumps(data).encode())


@dataclass
class FakeLog:
    """Fulfils `Log`: what was appended, from `lows` on; `pieces` records a turn at most."""

    partitions: Mapping[StreamTopic, int]
    pieces: int = 5
    records: dict[tuple[StreamTopic, int], list[LiveEvent]] = field(default_factory=dict)
    high: dict[tuple[StreamTopic, int], int] = field(default_factory=dict)
    low: dict[tuple[StreamTopic, int], int] = field(default_factory=dict)
    turns: int = 0

    def append(self, topic: StreamTopic, partition: int, symbol: str, holes: int = 0) -> None:
        """Append a record behind some offsets that hold none."""
        key = topic, partition
        offset = self.high.get(key, 0) + holes
        self.records.setdefault(key, []).append(
            event(offset, symbol, partition=partition, topic=topic)
        )
        self.high[key] = offset + 1

    async def read(
        self,
        starts: Mapping[tuple[StreamTopic, int], int],
        _until: Mapping[tuple[StreamTopic, int], int],
        wanted: Subscription,
    ) -> Piece:
        self.turns += 1
        found: list[LiveEvent] = []
        passed: dict[tuple[StreamTopic, int], int] = {}
        gaps: list[Gap] = []
        for key, start in starts.items():
            low = self.low.get(key, 0)
            if start < low:
                gaps.append(Gap("expired", *key, start, low, low - start))
            records = [one for one in self.records.get(key, []) if one.offset >= max(low, start)]
            some = records[: self.pieces]
            found += [
                event(one.offset, one.symbol, partition=one.partition, topic=one.topic)
                for one in some
                if wanted.wants(one)
            ]
            at_end = len(some) == len(records)
            passed[key] = self.high.get(key, 0) if at_end else some[-1].offset + 1
        return Piece(found, passed, gaps)

    async def ends(self, topics: Sequence[StreamTopic]) -> Offsets:
        return {
            topic: [self.high.get((topic, number), 0) for number in range(self.partitions[topic])]
            for topic in topics
        }


@dataclass(frozen=True)
class Said:
    """An event as a reader has it; `data` None: an id alone, or a comment."""

    name: str
    id: str | None
    data: Any
    text: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        return self.data["topic"], self.data["partition"], self.data["offset"]


class SseReader:
    """Reads `/v1/stream` off a socket, byte by byte if need be; may break off anywhere."""

    def __init__(
        self,
        port: int,
        query: str = "",
        last_event_id: str | None = None,
        *,
        receive_buffer: int | None = None,
    ) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        header = "" if last_event_id is None else f"Last-Event-ID: {last_event_id}\r\n"
        request = f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"
        self._socket.sendall(request.encode())
        self._raw = b""
        self._body = b""
        self._waiting: deque[Said] = deque()
        self.finished = False
        self.last_id = last_event_id
        head = self._head()
        self.status = int(head[0].split()[1])
        self.headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])
        }

    def __enter__(self) -> SseReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def next(self) -> Said:
        """Return the next event; fails where none comes or the stream has ended."""
        while not self._waiting:
            assert not self.finished, "the stream has ended"
            assert self.receive(65_536), "the connection was closed"
        return self._waiting.popleft()

    def until(self, *names: str) -> Said:
        """Return the next event of one of these names; fails where it is told of trouble first."""
        while (said := self.next()).name not in names:
            assert said.name not in ("conflated", "gap", "end"), said
        return said

    def take(self, count: int, name: str = "price") -> list[Said]:
        return [self.until(name) for _ in range(count)]

    def rest(self) -> list[Said]:
        """Return all that comes until the stream ends."""
        while not self.finished and self.receive(65_536):
            continue
        found = list(self._waiting)
        self._waiting.clear()
        return found

    def whole(self) -> list[Said]:
        """Return what was received whole and not taken yet."""
        found = list(self._waiting)
        self._waiting.clear()
        return found

    @property
    def whole_so_far(self) -> Sequence[Said]:
        return self._waiting

    def receive(self, size: int) -> bool:
        """Receive at most so many bytes; False where there are no more."""
        data = self._socket.recv(size)
        self._raw += data
        self._dechunk()
        *blocks, self._body = self._body.split(b"\n\n")
        for block in blocks:
            self._take_block(block.decode())
        return bool(data)

    def problem(self) -> Any:
        """Return the body of an answer that is no stream."""
        length = int(self.headers["content-length"])
        while len(self._raw) < length:
            self._raw += self._socket.recv(65_536)
        return json.loads(self._raw)

    def _head(self) -> list[str]:
        while b"\r\n\r\n" not in self._raw:
            data = self._socket.recv(4_096)
            assert data, "the connection was closed"
            self._raw += data
        head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        return head.decode().split("\r\n")

    def _dechunk(self) -> None:
        while b"\r\n" in self._raw:
            size, _, rest = self._raw.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self._body += rest[:length]
            self._raw = rest[length + 2 :]
            if length == 0:
                self.finished = True

    def _take_block(self, block: str) -> None:
        lines = [line.partition(": ") for line in block.split("\n")]
        named = {name: value for name, _, value in lines}
        self.last_id = named.get("id", self.last_id)
        text = named.get("data", "")
        data = json.loads(text, parse_float=Decimal) if text else None
        name = named.get("event", "heartbeat" if "" in named or ":" in named else "none")
        self._waiting.append(Said(name, named.get("id"), data, text))
