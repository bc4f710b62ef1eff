"""Measures processors side by side: price events in, averages of five out, on one machine.

`python -m bench.streams [--events N] [--symbols N[,N]] [--repeats N] [--only peer,...]`. The first
fifth of each run is left out: the rate is that of the other four, by the broker's clock on the
output topic, and CPU is that of the peer's processes in that time, the broker's apart. A rate
counts only if every average is there and right.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.main_job import machine
from bench.streams_input import Input, create_topic, delete_topic, fill, topics
from bench.streams_peers import ALL, EXTRA, Job, Peer, Servers, servers, stop
from bench.streams_watch import (
    Sample,
    cpu_at,
    read_outputs,
    rss_at,
    watch_until_done,
    watch_until_ended,
    wrong,
)

RESULTS = Path(__file__).parent / "results"
SKIPPED_PART = 0.2
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Result:
    """One run; memory in MB when a fifth was done, at the end, and at most."""

    peer: str
    symbols: int
    rate: float
    cpu_per_million: float
    first_mb: float
    last_mb: float
    peak_mb: float
    seconds: float
    outputs: int
    headers: int


def main() -> None:
    options = _options()
    print(machine(), flush=True)
    results: list[Result] = []
    failed: list[str] = []
    with servers() as local:
        for symbols in options.symbols:
            bench = Bench(local, options.events, symbols)
            for turn in range(options.repeats):
                for peer in options.only:
                    try:
                        results.append(bench.measure(peer, turn, options.option))
                    except (RuntimeError, AssertionError) as error:
                        failed.append(f"{peer.name}, {symbols} symbols: {error}")
                        print(f"FAILED {failed[-1]}", flush=True)
                        continue
                    print(json.dumps(asdict(results[-1])), flush=True)
            bench.close()
    _write(results)
    _print_table(results, options.symbols)
    if failed:
        sys.exit("\n".join(["", "failed:", *failed]))


def _options() -> argparse.Namespace:
    known = {**ALL, **EXTRA}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--symbols", default="100", help="one run for each number of them")
    parser.add_argument("--repeats", type=int, default=1, help="the median counts")
    parser.add_argument("--only", default=",".join(ALL), help=f"of {', '.join(known)}")
    parser.add_argument(
        "--option", action="append", default=[], help="for Kafka Streams: NAME=VALUE or a JVM flag"
    )
    options = parser.parse_args()
    options.symbols = [int(number) for number in options.symbols.split(",")]
    options.only = [known[name] for name in options.only.split(",")]
    return options


class Bench:
    """An input topic, and runs over it."""

    def __init__(self, local: Servers, events: int, symbols: int) -> None:
        self._home = local.home
        self._servers = local.kafka
        self._postgres = local.postgres
        self._events = events
        self._symbols = symbols
        self._source = create_topic(self._servers, f"price-events-{symbols}")
        self._input: Input = fill(self._servers, self._source, symbols, events, _say)

    def close(self) -> None:
        delete_topic(self._servers, self._source)

    def measure(self, peer: Peer, turn: int, options: list[str]) -> Result:
        """Run one peer.

        Raises:
            RuntimeError: it failed.
            AssertionError: its averages are wrong.
        """
        before = topics(self._servers)
        name = f"{peer.name}-{self._symbols}-{turn}"
        clock = {"message.timestamp.type": "LogAppendTime"}
        target = create_topic(self._servers, f"averages-{name}", **clock)
        job = Job(
            servers=self._servers,
            source=self._source,
            target=target,
            group=f"group-{name}",
            home=self._home / name,
            database_url=self._postgres.database_url(),
            events=self._events,
            options=tuple(options),
            symbols=self._symbols,
        )
        process = peer.start(job)
        try:
            return self._limit(peer, job, process) if peer.limit else self._run(peer, job, process)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(f"{error}\n{_last_words(job.home)}") from error
        finally:
            stop(process)
            # Those of a peer's own too: the broker would tend them while the next one runs.
            for left in topics(self._servers) - before:
                delete_topic(self._servers, left)

    def _run(self, peer: Peer, job: Job, process: subprocess.Popen[bytes]) -> Result:
        began = time.time()
        samples = watch_until_done(process, job.servers, job.target, self._input.outputs)
        status = stop(process)
        if peer.name == "pricewire":
            assert status == 0, f"SIGTERM did not end it cleanly: {status}"
        outputs = read_outputs(job.servers, job.target)
        complaints = wrong(outputs, self._input.expected, peer.event_ids)
        assert not complaints, f"{len(complaints)} wrong: {'; '.join(complaints[:5])}"
        fifth, done = outputs.when(SKIPPED_PART)
        ended, count = outputs.when(1)
        return self._result(
            peer, samples, (began, fifth, ended), count - done, outputs.headers, count
        )

    def _limit(self, peer: Peer, job: Job, process: subprocess.Popen[bytes]) -> Result:
        began = time.time()
        samples = watch_until_ended(process)
        if process.returncode:
            raise RuntimeError(f"it ended with {process.returncode}")
        told = json.loads((job.home / "out").read_bytes())
        times = (began, told["fifth"], told["ended"])
        count = round(self._events * (1 - SKIPPED_PART))
        return self._result(peer, samples, times, count, 5, self._events)

    def _result(
        self,
        peer: Peer,
        samples: list[Sample],
        times: tuple[float, float, float],
        count: int,
        headers: int,
        outputs: int,
    ) -> Result:
        """Args: count: outputs between the second time and the third."""
        began, fifth, ended = times
        # Events rather than outputs: a window that is not full yet has none.
        events = count * self._events / outputs
        cpu = cpu_at(samples, ended) - cpu_at(samples, fifth)
        return Result(
            peer=peer.name,
            symbols=self._symbols,
            rate=round(events / (ended - fifth)),
            cpu_per_million=round(cpu / events * 1e6, 2),
            first_mb=round(rss_at(samples, fifth) / MEGABYTE),
            last_mb=round(rss_at(samples, ended) / MEGABYTE),
            peak_mb=round(max(one.rss for one in samples) / MEGABYTE),
            seconds=round(ended - began, 1),
            outputs=outputs,
            headers=headers,
        )


def _last_words(home: Path) -> str:
    texts = [path.read_text(errors="replace") for path in (home / "out", home / "log")]
    return "".join(texts)[-3000:]


def _say(line: str) -> None:
    print(line, flush=True)


def _write(results: list[Result]) -> None:
    RESULTS.mkdir(exist_ok=True)
    report = {"machine": machine(), "runs": [asdict(one) for one in results]}
    path = RESULTS / f"streams-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(report, indent=1))


def _print_table(results: list[Result], symbols: list[int]) -> None:
    known = {**ALL, **EXTRA}
    for number in symbols:
        runs = [one for one in results if one.symbols == number]
        rows = {name: _median([one for one in runs if one.peer == name]) for name in known}
        ours = rows.get("pricewire")
        print(f"\n{number:,} symbols; first fifth left out; memory in MB")
        print(
            f"{'':20}{'events/s':>9} {'CPU s/million':>14} {'at 1/5':>7} {'at end':>7}"
            f" {'peak':>6} {'ours':>7} {'our CPU':>8}  guarantee"
        )
        for name, row in rows.items():
            if row:
                _print_row(row, ours, known[name].guarantee)
    _print_symbols(results, symbols)


def _print_row(row: Result, ours: Result | None, guarantee: str) -> None:
    ratios = f"{'':>7} {'':>8}"
    if ours:
        ratios = (
            f"{ours.rate / row.rate:>6.2f}x {ours.cpu_per_million / row.cpu_per_million:>7.2f}x"
        )
    print(
        f"{row.peer:20}{row.rate:>9,.0f} {row.cpu_per_million:>14.1f} {row.first_mb:>7,.0f}"
        f" {row.last_mb:>7,.0f} {row.peak_mb:>6,.0f} {ratios}  {guarantee}"
    )


def _median(runs: list[Result]) -> Result | None:
    """Return the run in the middle by rate."""
    in_order = sorted(runs, key=lambda one: one.rate)
    return in_order[(len(in_order) - 1) // 2] if in_order else None


def _print_symbols(results: list[Result], symbols: list[int]) -> None:
    """Say what many symbols cost, for each peer that was run with several numbers of them."""
    for name in {one.peer: None for one in results}:
        rates = {
            number: statistics.median(found)
            for number in symbols
            if (found := [one.rate for one in results if (one.peer, one.symbols) == (name, number)])
        }
        first = next(iter(rates.values()))
        for number, rate in list(rates.items())[1:]:
            print(f"{name}: {number:,} symbols at {rate / first:.2f} of the rate of {symbols[0]:,}")


if __name__ == "__main__":
    main()
