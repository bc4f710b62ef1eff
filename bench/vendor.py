"""A local HTTP server that answers like Alpha Vantage, at once; run by `bench.main_job`.

`python -m bench.vendor PORT`. It costs as little as a server in Python can, since it shares the
cores with what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import cast

import uvloop

_counter = itertools.count(1)
_BODY = (
    '{{"Global Quote": {{"01. symbol": "{symbol}", "02. open": "112.6300", "03. high": "113.1700",'
    ' "04. low": "110.6400", "05. price": "{units}.{cents:02}00", "06. volume": "29062853",'
    ' "07. latest trading day": "2018-10-05", "08. previous close": "112.7900",'
    ' "09. change": "-0.6600", "10. change percent": "-0.5852%"}}}}'
)


class Vendor(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, self._received = self._received.split(b"\r\n\r\n", 1)
            self._transport.write(_answer(request))


def _answer(request: bytes) -> bytes:
    query = request.split(b" ", 2)[1].partition(b"?")[2].decode()
    symbol = dict(pair.split("=", 1) for pair in query.split("&")).get("symbol", "")
    units, cents = divmod(next(_counter), 100)
    body = _BODY.format(symbol=symbol, units=units % 900 + 100, cents=cents).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
