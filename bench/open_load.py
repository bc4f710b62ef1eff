"""An open-loop load generator: requests come by the clock, however slow the answers are.

`python -m bench.open_load PORT PER_SECOND SECONDS SYMBOL [SYMBOL ...]` prints one line of JSON.
Invariant: a request's latency counts from the moment it was due, so that a service that stalls is
charged for everybody who came meanwhile; a closed loop would just have asked less often.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import uvloop

from bench.load import ask

CONNECTIONS = 64
"""More than are busy at once, unless the service stalls; who finds none free waits, and counts."""


@dataclass
class Taken:
    """Seconds from due to answered, and from due to put in line: the generator's own lateness."""

    answered: list[float] = field(default_factory=list)
    put_late: list[float] = field(default_factory=list)
    not_200: int = 0


async def main(port: int, rate: float, seconds: float, symbols: list[str]) -> None:
    line: asyncio.Queue[float] = asyncio.Queue()
    taken, turns = Taken(), itertools.cycle(symbols)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        asking = [
            group.create_task(ask_in_turn(port, line, taken, turns)) for _ in range(CONNECTIONS)
        ]
        await put_in_line(line, taken, rate, int(rate * seconds))
        await line.join()
        for one in asking:
            one.cancel()
    print(json.dumps(summary(taken, time.perf_counter() - began)))


async def put_in_line(line: asyncio.Queue[float], taken: Taken, rate: float, count: int) -> None:
    began = time.perf_counter()
    for number in range(count):
        due = began + number / rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        taken.put_late.append(time.perf_counter() - due)
        line.put_nowait(due)


async def ask_in_turn(
    port: int, line: asyncio.Queue[float], taken: Taken, turns: Iterator[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        while True:
            due = await line.get()
            right = await ask(reader, writer, next(turns))
            taken.answered.append(time.perf_counter() - due)
            taken.not_200 += not right
            line.task_done()


def summary(taken: Taken, elapsed: float) -> dict[str, float | list[float]]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "answers": len(taken.answered),
        "not_200": taken.not_200,
        "per_second": round(len(taken.answered) / elapsed, 1),
        "ms": [round(seconds * 1000, 2) for seconds in taken.answered],
        "generator_late_ms": [round(seconds * 1000, 2) for seconds in taken.put_late],
        "generator_cpu_percent": round((usage.ru_utime + usage.ru_stime) / elapsed * 100),
    }


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
