"""A load generator: so many keep-alive connections, each asking as fast as it is answered.

`python -m bench.load PORT CONNECTIONS SECONDS SYMBOL [SYMBOL ...]` prints one line of JSON. Plain
asyncio, so that the generator's share of the cores stays small.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

import uvloop


async def one(port: int, symbols: list[str], end: float, taken: list[float]) -> int:
    """Ask until `end`; return how many answers were not 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wrong = turn = 0
    while (began := time.perf_counter()) < end:
        wrong += not await ask(reader, writer, symbols[turn % len(symbols)])
        turn += 1
        taken.append(time.perf_counter() - began)
    writer.close()
    return wrong


def own(symbols: list[str], number: int, connections: int) -> list[str]:
    """Return a connection's symbols.

    Where there are enough of them no two connections have the same: requests for one symbol at the
    same time would share a call to the provider.
    """
    if len(symbols) >= connections:
        return symbols[number::connections]
    start = number % len(symbols)
    return symbols[start:] + symbols[:start]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, symbol: str) -> bool:
    """Ask for a price; return whether the answer, read to its end, was 200."""
    path = f"{os.environ.get('BENCH_PATH', '/v1/prices/latest?symbol=')}{symbol}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200")


async def main(port: int, connections: int, seconds: float, symbols: list[str]) -> None:
    taken: list[float] = []
    began = time.perf_counter()
    wrong = await asyncio.gather(
        *(
            one(port, own(symbols, n, connections), began + seconds, taken)
            for n in range(connections)
        )
    )
    elapsed = time.perf_counter() - began
    taken.sort()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "answers": len(taken),
        "not_200": sum(wrong),
        "per_second": round(len(taken) / elapsed, 1),
        "p50_ms": round(taken[len(taken) // 2] * 1000, 2),
        "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 2),
        "generator_cpu_percent": round((usage.ru_utime + usage.ru_stime) / elapsed * 100),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
