"""Measures an import of real trades: rows a second, memory, and what live prices cost meanwhile.

`python -m bench.imports FILE [--rows N] [--symbol S] [--timezone Z] [sqlite|postgres ...]`: FILE is
tick_data.csv of the package mlfinpy 0.1.2, or any file that `pricewire import` takes. A service on
a fresh database and a real Kafka; live prices are asked for 20 times a second, first alone, then
beside the import. At the end each row must be on price-history: a rate for which rows were lost
would be worth nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bench.main_job import local_kafka, machine, start
from pricewire.kafka.local import LocalKafka
from tests.kafka_tools import free_port
from tests.postgres_tools import LocalPostgres, postgres_server

ALONE_SECONDS = 10
PAUSE_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--symbol", default="ES")
    parser.add_argument("--timezone", default="America/Chicago")
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgres"])
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="pricewire-bench-") as folder:
        home = Path(folder)
        file = home / "trades.csv"
        with options.file.open("rb") as source, file.open("wb") as copy:
            copy.writelines(islice(source, options.rows + 1))
        with postgres_server(home.with_name(home.name + "-pg")) as postgres:
            for database in options.databases:
                with local_kafka(home / f"kafka-{database}") as kafka:
                    case = Case(database, home / database, kafka, postgres)
                    print(case.run(file, options), flush=True)


@dataclass
class Case:
    database: str
    home: Path
    kafka: LocalKafka
    postgres: LocalPostgres
    port: int = field(default_factory=free_port)

    def environment(self) -> dict[str, str]:
        given = {
            **os.environ,
            "PRICEWIRE_HOME": str(self.home),
            "API_PORT": str(self.port),
            "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{self.kafka.port}",
            "LOG_LEVEL": "WARNING",
        }
        if self.database == "postgres":
            given["DATABASE_URL"] = self.postgres.database_url()
        return given

    def run(self, file: Path, options: argparse.Namespace) -> str:
        self.home.mkdir(parents=True)
        service = start(["pricewire", "up"], self.environment())
        try:
            self.await_service()
            alone = Live(self.port)
            with alone.asking():
                time.sleep(ALONE_SECONDS)
            beside = Live(self.port)
            before = resident(service.pid)
            began = time.monotonic()
            with beside.asking():
                importing = subprocess.Popen(
                    [
                        str(Path(sys.executable).with_name("pricewire")),
                        *("import", str(file), "--symbol", options.symbol),
                        *("--timezone", options.timezone),
                    ],
                    env=self.environment(),
                )
                peaks = watched(importing, service.pid)
                recorded = time.monotonic() - began
                assert importing.returncode == 0
                rows = self.drained()
            published = time.monotonic() - began
        finally:
            service.terminate()
            service.wait()
        return json.dumps(
            {
                "database": self.database,
                "rows": rows,
                "recorded_seconds": round(recorded, 1),
                "rows_a_second": round(rows / recorded),
                "published_seconds": round(published, 1),
                "published_a_second": round(rows / published),
                "import_peak_mb": peaks[0],
                "service_mb": [before, peaks[1]],
                "live_alone": alone.figures(),
                "live_beside": beside.figures(),
                "load_average": round(os.getloadavg()[0], 1),
            }
        )

    def await_service(self) -> None:
        for _ in range(600):
            try:
                if self.get("/health/live"):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the service does not answer")

    def drained(self) -> int:
        """Wait until all is published; return how many past prices were."""
        for _ in range(3600):
            parts = self.get("/health/ready")["parts"]
            if parts["history_outbox"]["waiting"] == 0:
                shards = parts["history_relay"]["shards"]
                return sum(int(shard["published"]) for shard in shards)
            time.sleep(0.25)
        raise TimeoutError("the history is not published")

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return json.load(connection.getresponse())
        finally:
            connection.close()


@dataclass
class Live:
    """Asks for live prices in an open loop of one."""

    port: int
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._ask, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _ask(self, ended: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not ended.wait(PAUSE_SECONDS):
            began = time.monotonic()
            connection.request("GET", "/v1/prices/latest?symbol=AAPL")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            self.seconds.append(time.monotonic() - began)
        connection.close()

    def figures(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.seconds, n=100)
        return {
            "asked": len(self.seconds),
            "p50_ms": round(cuts[49] * 1000, 1),
            "p99_ms": round(cuts[98] * 1000, 1),
            "max_ms": round(max(self.seconds) * 1000, 1),
        }


def watched(process: subprocess.Popen[bytes], service: int) -> tuple[int, int]:
    """Wait for a process; return the largest resident memory of it and of the service, in MB."""
    peaks = (0, 0)
    while process.poll() is None:
        peaks = (max(peaks[0], resident(process.pid)), max(peaks[1], resident(service)))
        time.sleep(0.2)
    return peaks


def resident(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20 if len(fields) > 1 else 0


if __name__ == "__main__":
    main()
