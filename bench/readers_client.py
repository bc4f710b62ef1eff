"""Many readers of one live stream in one process; used by `bench.readers`.

`python -m bench.readers_client PORT READERS BEGAN RATE WARM SECONDS QUERY` connects, says
`connected`, reads until SECONDS after BEGAN and prints one line of JSON: a histogram of latenesses
in milliseconds, and how many events were missing. Events carry their number, as in
`"source":"n00000042"`; number n was due at BEGAN + n / RATE. Plain sockets and epoll: what a chunk
holds is told by its first and last number, so that the clients' share of the cores stays small.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from array import array
from collections import Counter

MARK = b'"source":"n'
DIGITS = 8
WHOLE = len(MARK) + DIGITS


class Readers:
    """So many connections, and what came over them."""

    def __init__(self, port: int, count: int, query: str) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tail: dict[int, bytes] = {}
        self._last: dict[int, int] = {}
        self.at = array("d")
        self.first = array("l")
        self.last = array("l")
        self.missing = 0
        self.ended = 0
        for _ in range(count):
            self._connect(port, query)

    def _connect(self, port: int, query: str) -> None:
        one = socket.create_connection(("127.0.0.1", port), timeout=30)
        one.sendall(f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = one.recv(4_096)
        assert head.startswith(b"HTTP/1.1 200"), head
        one.setblocking(False)
        self._sockets[one.fileno()] = one
        self._tail[one.fileno()] = b""
        self._last[one.fileno()] = -1
        self._poll.register(one.fileno(), select.EPOLLIN)

    def read(self, until: float) -> None:
        while time.time() < until:
            for number, _ in self._poll.poll(0.1):
                data = self._sockets[number].recv(262_144)
                if not data:
                    self.ended += 1
                    self._poll.unregister(number)
                    continue
                self._note(number, self._tail[number] + data, time.time())

    def _note(self, number: int, data: bytes, at: float) -> None:
        found = data.rfind(MARK, 0, len(data) - DIGITS)
        if found < 0:
            self._tail[number] = data[-(WHOLE - 1) :]
            return
        self._tail[number] = data[max(found + WHOLE, len(data) - WHOLE + 1) :]
        first_at = data.find(MARK) + len(MARK)
        first = int(data[first_at : first_at + DIGITS])
        last = int(data[found + len(MARK) : found + WHOLE])
        known = self._last[number]
        self.missing += first - known - 1 if known >= 0 else 0
        self._last[number] = last
        self.at.append(at)
        self.first.append(first)
        self.last.append(last)


def main(port: str, readers: str, *numbers: str) -> None:
    *given, query = numbers
    start, rate, warm, seconds = map(float, given)
    many = Readers(int(port), int(readers), query)
    print("connected", flush=True)
    many.read(start + warm + seconds + 2)
    late: Counter[int] = Counter()
    pace, not_counted = 1 / rate, rate * warm
    for at, first, last in zip(many.at, many.first, many.last, strict=True):
        for number in range(first, last + 1):
            if number >= not_counted:
                late[int((at - start - number * pace) * 1000)] += 1
    print(json.dumps({"late": late, "missing": many.missing, "ended": many.ended}))


if __name__ == "__main__":
    main(*sys.argv[1:])
