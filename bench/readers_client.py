"""Many readers of one live stream in one process; used by `bench.readers`.

`python -m bench.readers_client PORT READERS BEGAN RATE WARM SECONDS QUERY` connects, says
`connected`, reads until SECONDS after BEGAN and prints one line of JSON: a histogram of latenesses
in milliseconds, and how many readers were not given every event once. Events carry their number,
as in `"source":"n00000042"`; number n was due at BEGAN + n / RATE. Plain sockets and epoll, and
nothing is looked at but these numbers, so that the clients' share of the cores stays small.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from array import array
from collections import Counter, defaultdict
from typing import NamedTuple

MARK = b'"source":"n'
WHOLE = len(MARK) + 8
_numbers = re.compile(MARK + rb"([0-9]{8})").findall


class Parsed(NamedTuple):
    """What some bytes hold: numbers of events, and the beginning of one that was cut in two."""

    numbers: array[int]
    tail: bytes


def parsed(data: bytes) -> Parsed:
    found = array("i", map(int, _numbers(data)))
    whole_until = data.rfind(MARK, 0, len(data) - WHOLE + len(MARK)) + WHOLE if found else 0
    return Parsed(found, data[max(whole_until, len(data) - WHOLE + 1) :])


class Readers:
    """So many connections, and what came over them."""

    def __init__(self, port: int, count: int, query: str) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tail: dict[int, bytes] = {}
        # Readers of the same stream are given the same bytes: looked at once.
        self._parsed: dict[bytes, Parsed] = {}
        self.came: list[tuple[float, array[int]]] = []
        self.seen: dict[int, int] = defaultdict(int)
        self.sums: dict[int, int] = defaultdict(int)
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
        known = self._parsed.get(data)
        if known is None:
            if len(self._parsed) > 200:
                self._parsed.clear()
            known = self._parsed[data] = parsed(data)
        self._tail[number] = known.tail
        self.came.append((at, known.numbers))
        self.seen[number] += len(known.numbers)
        self.sums[number] += sum(known.numbers)

    def wrong(self, events: int) -> int:
        """Return how many readers were not given each event once, by count and by sum."""
        right = (events, events * (events - 1) // 2)
        return sum((self.seen[one], self.sums[one]) != right for one in self._sockets)


def main(port: str, readers: str, *schedule: str) -> None:
    *given, query = schedule
    start, rate, warm, seconds = map(float, given)
    many = Readers(int(port), int(readers), query)
    print("connected", flush=True)
    many.read(start + warm + seconds + 2)
    late: Counter[int] = Counter()
    for at, numbers in many.came:
        for number in numbers:
            if number >= rate * warm:
                late[int((at - start - number / rate) * 1000)] += 1
    wrong = many.wrong(int(rate * (warm + seconds)))
    print(json.dumps({"late": late, "wrong": wrong, "ended": many.ended}))


if __name__ == "__main__":
    main(*sys.argv[1:])
