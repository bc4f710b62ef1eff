"""Looks at a peer from outside: its processes' CPU and memory, its output topic's growth and truth.

`bench.streams` uses it. Output topics carry the broker's clock (LogAppendTime), so that one reading
afterwards says to the millisecond when which output was there, whoever wrote it. Linux only: it
reads /proc. Invariant: nothing here runs in a peer's process.
"""

from __future__ import annotations

import bisect
import os
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from bench.streams_input import PARTITIONS, Expected, client

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1
SETTLED_SECONDS = 3.0
STALLED_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Args: at: by the wall clock; cpu: seconds so far; rss: bytes."""

    at: float
    cpu: float
    rss: int


def processes_of(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(int(child) for child in task.read_text().split())
    return found


def sample(pid: int) -> Sample:
    cpu, rss = 0.0, 0
    for one in processes_of(pid):
        # One that ends in the meantime hands its time to its parent.
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            cpu += sum(map(int, fields[11:15])) / TICK
            rss += int(fields[21]) * PAGE
    return Sample(time.time(), cpu, rss)


def cpu_at(samples: list[Sample], at: float) -> float:
    """Return the CPU seconds at a time between two samples."""
    place = bisect.bisect([one.at for one in samples], at)
    if place == 0:
        return samples[0].cpu
    if place == len(samples):
        return samples[-1].cpu
    before, after = samples[place - 1], samples[place]
    return before.cpu + (after.cpu - before.cpu) * (at - before.at) / (after.at - before.at)


def rss_at(samples: list[Sample], at: float) -> int:
    place = bisect.bisect([one.at for one in samples], at)
    return samples[min(place, len(samples) - 1)].rss


def watch_until_ended(process: subprocess.Popen[bytes]) -> list[Sample]:
    """Sample a process that ends of itself."""
    samples = [sample(process.pid)]
    while process.poll() is None:
        samples.append(sample(process.pid))
        time.sleep(SAMPLE_SECONDS)
    return [one for one in samples if one.rss]


def watch_until_done(
    process: subprocess.Popen[bytes], servers: str, topic: str, outputs: int
) -> list[Sample]:
    """Sample a process until its output topic holds `outputs` records and grows no more.

    Raises:
        RuntimeError: it ended, or wrote nothing more for long.
    """
    looker = Consumer(_reading(servers))
    samples: list[Sample] = []
    seen, moved = 0, time.monotonic()
    while seen < outputs or time.monotonic() - moved < SETTLED_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} after {seen:,} outputs")
        if time.monotonic() - moved > STALLED_SECONDS:
            raise RuntimeError(f"nothing after {seen:,} of {outputs:,} outputs")
        samples.append(sample(process.pid))
        if len(samples) % 3 == 0 and (end := _end(looker, topic)) != seen:
            seen, moved = end, time.monotonic()
        time.sleep(SAMPLE_SECONDS)
    looker.close()
    return samples


def _end(looker: Consumer, topic: str) -> int:
    """Sum the end offsets; transactions' marks count here, so this is never too little."""
    marks = [
        looker.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        for partition in range(PARTITIONS)
    ]
    return sum(high - low for low, high in marks)


def _reading(servers: str) -> dict[str, str | int | float | bool]:
    return {
        **client(servers),
        "group.id": "bench-looks",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }


class Average(msgspec.Struct):
    """The members of an output that everybody writes."""

    symbol: str
    value: Decimal | None
    count: int
    event_id: str
    kind: str
    window: str


@dataclass(slots=True)
class Seen:
    """What came out for one symbol."""

    outputs: int = 0
    total: Decimal = Decimal(0)
    last: Decimal = Decimal(0)
    last_id: str = ""


@dataclass
class Outputs:
    """An output topic as it was found.

    Args:
        appended: records by the broker's clock, milliseconds.
        cold: outputs that say that their window is not full.
        bytes: of values.
    """

    appended: Counter[int] = field(default_factory=Counter)
    symbols: dict[str, Seen] = field(default_factory=dict)
    cold: int = 0
    bytes: int = 0
    headers: int = 0

    @property
    def count(self) -> int:
        return self.appended.total()

    def when(self, part: float) -> tuple[float, int]:
        """Return when that part of the outputs was there, and how many it was."""
        so_far = 0
        for at in sorted(self.appended):
            so_far += self.appended[at]
            if so_far >= part * self.count:
                return at / 1_000, so_far
        raise LookupError("there are no outputs")

    def note(self, message: Message) -> None:
        value = message.value() or b""
        self.appended[message.timestamp()[1]] += 1
        self.bytes += len(value)
        average = _decoder.decode(value)
        assert (average.kind, average.window) == ("sma", "5"), value
        if average.value is None or average.count < 5:
            assert average.value is None, f"a partial mean dressed as full: {value!r}"
            self.cold += 1
            return
        seen = self.symbols.setdefault(average.symbol, Seen())
        seen.outputs += 1
        seen.total += average.value
        seen.last = average.value
        seen.last_id = average.event_id
        if seen.outputs % 997 == 1:
            self._check_record(message, average)

    def _check_record(self, message: Message, average: Average) -> None:
        assert message.key() == average.symbol.encode(), message.key()
        headers = dict(message.headers() or [])
        self.headers = len(headers)
        if headers:
            assert headers["ce_id"] == f"{average.event_id}~sma:5".encode(), headers


_decoder = msgspec.json.Decoder(Average)


def read_outputs(servers: str, topic: str) -> Outputs:
    """Read all that is committed on `topic`."""
    consumer = Consumer({**_reading(servers), "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in range(PARTITIONS)])
    outputs = Outputs()
    ended: set[int | None] = set()
    while len(ended) < PARTITIONS:
        for message in consumer.consume(1_000, 1):
            if message.error() is None:
                outputs.note(message)
            else:
                ended.add(message.partition())
    consumer.close()
    return outputs


def wrong(outputs: Outputs, expected: dict[str, Expected], event_ids: bool) -> list[str]:
    """Return what is not as the reference has it; nothing if all is well."""
    found: list[str] = []
    for symbol, known in expected.items():
        seen = outputs.symbols.get(symbol, Seen())
        pairs = {
            "outputs": (seen.outputs, known.outputs),
            "last average": (seen.last, known.last if known.outputs else Decimal(0)),
            "sum of all averages": (seen.total, known.sum_of_all),
        }
        if event_ids and known.outputs:
            pairs["last event"] = (seen.last_id, f"{symbol}~{known.events}")
        found.extend(
            f"{symbol}: {what} {given}, should be {right}"
            for what, (given, right) in pairs.items()
            if given != right
        )
    allowed = sum(min(known.events, 4) for known in expected.values())
    if outputs.cold not in (0, allowed):
        found.append(f"{outputs.cold} outputs of windows that are not full, should be {allowed}")
    return found
