"""What candles cost a processor, without Kafka: `python -m bench.candles FILE`.

FILE is as of `bench.imports` (500,000 real trades). Each batch goes through ledger, step and state
as in the processor's thread, with a checkpoint's dump at each so many batches; what fetches, reads,
delivers and writes is left out. The CPU time of the thread is told, the smallest of the rounds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from pricewire.domain.candle import Series
from pricewire.services.processing import Counters, PartitionStart, PriceTick
from pricewire.streams.candles import CandlesStep
from pricewire.streams.partition import Partition
from pricewire.streams.runner import READ_LIMIT_WITH_ROWS

SOURCE = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"
BATCH = READ_LIMIT_WITH_ROWS
CHECKPOINT_BATCHES = 50
ZONE = ZoneInfo("America/Chicago")


def ticks(file: Path, symbols: int) -> list[PriceTick]:
    """Return the trades, dealt out to so many symbols in turn."""
    found = []
    with file.open(encoding="utf-8") as content:
        next(content)
        for offset, line in enumerate(content):
            local, price, _ = line.split(",")
            at = datetime.fromisoformat(local).replace(tzinfo=ZONE).astimezone(UTC)
            sequence, symbol = offset // symbols + 1, f"S{offset % symbols}"
            found.append(_tick(offset, symbol, sequence, Decimal(price), at))
    return found


def _tick(offset: int, symbol: str, sequence: int, price: Decimal, at: datetime) -> PriceTick:
    raw = str(UUID(int=sequence))
    event_id = f"{symbol}~h{sequence}"
    return PriceTick(0, offset, offset, event_id, sequence, SOURCE, symbol, price, at, "cme", raw)


def one_round(events: Sequence[PriceTick]) -> tuple[float, int]:
    """Return the CPU seconds of one pass, and how many candles came out."""
    start = PartitionStart(1, 1, None, Counters(), {})
    part = Partition(CandlesStep("candles", Series.HISTORY), 0, start, None)
    out = 0

    def put(*_: object) -> None:
        nonlocal out
        out += 1

    began = time.thread_time()
    for number, first in enumerate(range(0, len(events), BATCH), 1):
        batch = events[first : first + BATCH]
        for tick in batch:
            part.want(tick)
        part.take_in({})
        part.push(batch, 0, put, lambda _: None)
        if number % CHECKPOINT_BATCHES == 0:
            part.dump()
            part.settle()
    return time.thread_time() - began, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for symbols in (1, 100):
        events = ticks(arguments.file, symbols)
        gc.collect()
        gc.freeze()
        rounds = [one_round(events) for _ in range(arguments.rounds)]
        seconds, out = min(rounds)
        print(f"{symbols:4} symbols: {seconds / len(events) * 1e6:.2f} µs an event, "
              f"{out} candles of {len(events)} events")  # fmt: skip


if __name__ == "__main__":
    main()
