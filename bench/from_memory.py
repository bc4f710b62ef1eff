"""Prices from memory (`max_age=60`) against a bare FastAPI route that returns constant bytes.

`python -m bench.from_memory [--seconds N] [--repeats N]`: both servers on this machine, asked in
turns by the same generator, one after the other; prints both rates and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path

import uvloop
from fastapi import FastAPI
from starlette.responses import Response

from bench.main_job import CONNECTIONS, SYMBOLS, local_kafka, machine, start
from pricewire.web.server import bind, serve
from tests.kafka_tools import free_port
from tests.service_tools import eventually

BARE = "--bare"
CASES = {"from memory": "/v1/prices/latest?max_age=60&symbol=", "bare FastAPI": "/bare?symbol="}
# As long as the service's own answer is.
ANSWER = b"x" * 560


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="pricewire-bench-") as folder:
        home = Path(folder)
        with local_kafka(home / "kafka") as kafka:
            ports = {case: free_port() for case in CASES}
            environment = {
                **os.environ,
                "PRICEWIRE_HOME": str(home / "service"),
                "API_PORT": str(ports["from memory"]),
                "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{kafka.port}",
                "HISTORY_INTERVAL_SECONDS": "3600",
                "LOG_LEVEL": "WARNING",
            }
            bare = [sys.executable, "-m", "bench.from_memory", BARE, str(ports["bare FastAPI"])]
            processes = [start(["pricewire", "up"], environment), start(bare)]
            try:
                compare(ports, options.seconds, options.repeats)
            finally:
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                    process.wait(30)


def compare(ports: dict[str, int], seconds: float, repeats: int) -> None:
    for case, port in ports.items():
        for symbol in SYMBOLS["history"]:
            eventually(partial(answers, f"http://127.0.0.1:{port}{CASES[case]}{symbol}"), 60)
    rates: dict[str, list[float]] = {case: [] for case in CASES}
    for turn in range(repeats + 1):
        for case, port in ports.items():
            result = load(port, CASES[case], seconds if turn else 1)
            assert result["not_200"] == 0
            if turn:
                rates[case].append(result["per_second"])
    for case, each in rates.items():
        print(f"{case}: median {statistics.median(each)} of {each} answers a second")
    pairs = [mine / bare for mine, bare in zip(*rates.values(), strict=True)]
    print(f"ratio: median {statistics.median(pairs):.2f} of {[round(pair, 2) for pair in pairs]}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def load(port: int, path: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", str(port), str(CONNECTIONS), str(seconds)]
    done = subprocess.run(
        [*command, *SYMBOLS["history"]],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "BENCH_PATH": path},
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


async def serve_bare(port: int) -> None:
    """Serve the bare route as the service serves its own: uvicorn, uvloop, httptools."""
    app = FastAPI()

    @app.get("/bare")
    async def bare() -> Response:
        return Response(ANSWER, media_type="application/json")

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(app, bind("127.0.0.1", port), stop, grace_seconds=1)


if __name__ == "__main__":
    if sys.argv[1:2] == [BARE]:
        uvloop.run(serve_bare(int(sys.argv[2])))
    else:
        main()
