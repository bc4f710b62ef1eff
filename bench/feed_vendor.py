"""A local websocket that sends trades of Coinbase's shape at a rate; run by `bench.feeds`.

`python -m bench.feed_vendor PORT RATE SECONDS PRODUCTS`. It sends to whoever subscribed last, from
then on for so many seconds, and replays nothing: numbers go on while nobody listens. It costs as
little as a server in Python can. At the end it prints one line of JSON: for each product the first
and the last number.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import struct
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import uvloop

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TICK_SECONDS = 0.004
_MATCH = (
    '{"type":"match","trade_id":%d,"maker_order_id":"27fff20b-af29-4f45-8744-56dd1ef57dc0",'
    '"taker_order_id":"1da6ce16-c8da-4732-9f71-6049f4c6aaf8","side":"sell","size":"0.04",'
    '"price":"%d.%02d","product_id":"%s","sequence":%d,"time":"%sZ"}'
)
FIRST = 1_000_000


class Vendor:
    """Sends to one connection at a time."""

    def __init__(self, rate: float, seconds: float, products: int) -> None:
        self.rate = rate
        self.seconds = seconds
        self.products = [f"C{number}-USD" for number in range(products)]
        self.counter = itertools.count()
        self.sent = 0
        self.listener: asyncio.StreamWriter | None = None
        self.began: float | None = None
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = request.lower().partition(b"sec-websocket-key:")
        start = len(key[0]) + len(key[1])
        given = request[start:].split(b"\r\n", 1)[0].strip()
        accept = base64.b64encode(hashlib.sha1(given + _GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await reader.read(1)
        self.listener = writer
        if self.began is None:
            self.began = time.monotonic()
            asyncio.create_task(self.send())  # noqa: RUF006
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        if self.listener is writer:
            self.listener = None

    async def send(self) -> None:
        assert self.began is not None
        while (passed := time.monotonic() - self.began) < self.seconds:
            due = int(passed * self.rate) - self.sent
            self.sent += due
            data = self.frames(due)
            if self.listener is not None and not self.listener.is_closing():
                self.listener.write(data)
                await self.listener.drain()
            await asyncio.sleep(_TICK_SECONDS)
        numbers = {}
        for index, product in enumerate(self.products):
            count = (self.sent - index + len(self.products) - 1) // len(self.products)
            numbers[product] = [FIRST, FIRST + count - 1]
        print(json.dumps(numbers), flush=True)
        while True:
            if self.listener is not None and not self.listener.is_closing():
                self.listener.write(frame('{"type":"heartbeat"}'))
            await asyncio.sleep(1)

    def frames(self, count: int) -> bytes:
        stamp = datetime.now(UTC).isoformat(timespec="microseconds")[:26]
        found = []
        for turn in itertools.islice(self.counter, count):
            number, product = divmod(turn, len(self.products))
            name = self.products[product]
            price = (100 + turn % 900, turn % 100)
            found.append(frame(_MATCH % (FIRST + number, *price, name, turn, stamp)))
        return b"".join(found)


def frame(text: str) -> bytes:
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    return b"\x81\x7e" + struct.pack(">H", len(payload)) + payload


async def main(port: int, rate: float, seconds: float, products: int) -> None:
    vendor = Vendor(rate, seconds, products)
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
