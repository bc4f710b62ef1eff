"""Ten minutes of three polling jobs, accelerated: killed, restarted, frozen in mid-call and thawed.

Every due poll is recorded once. A due time lacks only where nobody could poll from it until the
next one: a downtime is made up by one poll. Whoever thaws behind its successor records nothing.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.faults.accelerated_service import ACCELERATED, accelerated
from tests.kafka_tools import KafkaTools, free_port
from tests.postgres_tools import LocalPostgres
from tests.service_tools import (
    Service,
    assert_each_once_in_order,
    eventually,
    published,
)
from tests.vendor_tools import KNOWN

pytestmark = pytest.mark.faults

MINUTES = 10
LEASE = timedelta(seconds=30)
JOBS = [(["AAPL", "MSFT"], 30), (["IBM"], 45), (["GOOG"], 60)]
LOAD = timedelta(seconds=20)
"""What a start, a look and a call may take by the accelerated clock on a busy machine."""


@dataclass
class Vendor:
    """Answers every symbol; holds one call up when it is told to."""

    server: HTTPServer
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    symbol: str | None = None
    caller: str = ""

    def __call__(self, request: Request) -> Response:
        if self.symbol is not None and request.args["symbol"] == self.symbol:
            self.symbol = None
            self.caller = request.headers.get("X-Finnhub-Token", "") or request.full_path
            self.held.set()
            assert self.release.wait(60)
        return Response(KNOWN["finnhub"].live.body, content_type="application/json")

    def hold(self, symbol: str) -> None:
        """Hold up the next call for a symbol until `release` is set."""
        self.held.clear()
        self.release.clear()
        self.symbol = symbol


@dataclass(frozen=True)
class Clock:
    start: datetime
    factor: float

    def now(self) -> datetime:
        return accelerated(self.start, self.factor)

    def wait_until(self, moment: datetime) -> None:
        time.sleep(max(0.0, (moment - self.now()).total_seconds() / self.factor))

    def wait(self, seconds: float) -> None:
        time.sleep(seconds / self.factor)


@dataclass
class Gaps:
    """When nobody could poll, for some or for all jobs."""

    clock: Clock
    found: list[tuple[datetime, datetime]] = field(default_factory=list)

    def note(self, begin: datetime, more: timedelta = timedelta(0)) -> None:
        self.found.append((begin, self.clock.now() + more + LOAD))

    def excuse(self, due: datetime, interval: timedelta) -> bool:
        """Tell whether from a due time until the next one nobody could poll to its end."""
        return any(begin < due + interval <= end for begin, end in self.found)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with HTTPServer(threaded=True) as server:
        made = Vendor(server)
        server.expect_request("/api/v1/quote").respond_with_handler(made)
        yield made
        made.release.set()


def environment(kafka: str, vendor: Vendor, clock: Clock, url: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "KAFKA_PRICE_EVENTS_TOPIC": f"jobs-{uuid4().hex[:8]}",
        "DATABASE_URL": url,
        "FINNHUB_BASE_URL": vendor.server.url_for(""),
        "FINNHUB_API_KEY": "key",
        "DEFAULT_PROVIDER": "finnhub",
        "CLOCK_START": clock.start.isoformat(),
        "CLOCK_FACTOR": str(clock.factor),
        "SHUTDOWN_SECONDS": "4",
    }


def make_jobs(service: Service) -> dict[str, tuple[list[str], int]]:
    made = {}
    for symbols, interval in JOBS:
        body = msgspec.json.encode({"symbols": symbols, "interval": interval}).decode()
        status, _, answer = service.get("/v1/prices/poll", method="POST", body=body)
        assert status == 202, answer
        made[msgspec.json.decode(answer)["job_id"]] = (symbols, interval)
    return made


def at_rest(service: Service, clock: Clock, end: datetime) -> list[dict[str, Any]]:
    """Return the jobs at a moment after `end`, and well after the last start, without a poll."""
    clock.wait_until(max(end, clock.now() + timedelta(seconds=90)))
    found: list[dict[str, Any]] = []

    def rests() -> bool:
        found[:] = service.json("/v1/jobs")["jobs"]
        return not any(job["polling"] for job in found)

    eventually(rests)
    return found


POLLS = "SELECT job_id, due, symbol, raw_response_id FROM polls"
PRICES = "SELECT raw_response_id, symbol FROM prices"


def from_postgres(url: str, query: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(run())


def from_sqlite(file: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def assert_each_due_poll_once(
    polls: list[tuple[Any, ...]],
    prices: list[tuple[Any, ...]],
    jobs: dict[str, tuple[list[str], int]],
    answers: list[dict[str, Any]],
    gaps: Gaps,
) -> None:
    # Every price that there is belongs to one due time: none came twice, or past its fence.
    assert sorted((str(one[3]), one[2]) for one in polls) == sorted(
        (str(raw), symbol) for raw, symbol in prices
    )
    by_job: dict[str, dict[datetime, set[str]]] = defaultdict(lambda: defaultdict(set))
    for job_id, due, symbol, _ in polls:
        moment = due if isinstance(due, datetime) else datetime.fromisoformat(due)
        by_job[str(job_id).replace("-", "")][moment].add(symbol)
    assert len(answers) == len(jobs)
    for answer in answers:
        symbols, seconds = jobs[answer["job_id"]]
        interval = timedelta(seconds=seconds)
        recorded = by_job[answer["job_id"].replace("-", "")]
        first = min(recorded)
        assert first - datetime.fromisoformat(answer["created_at"]) < LOAD
        due = {
            first + turn * interval
            for turn in range((datetime.fromisoformat(answer["next_run"]) - first) // interval)
        }
        assert len(due) >= (MINUTES - 1) * 60 // seconds
        whole = {moment for moment, names in recorded.items() if names == set(symbols)}
        assert set(recorded) <= due | {first + len(due) * interval}
        lacking = sorted(moment for moment in due - whole if not gaps.excuse(moment, interval))
        assert lacking == [], (answer, gaps.found)
        assert answer["made"] + answer["failed"] + answer["missed"] == len(due)
        assert answer["made"] <= len(whole)


@pytest.mark.postgres
def test_two_processes_on_postgres(postgres: LocalPostgres, vendor: Vendor, tmp_path: Path) -> None:
    """Processes with the API alone, and no Kafka far and wide: prices are recorded all the same."""
    url = postgres.database_url()
    clock = Clock(datetime.now(UTC), 14)
    settings = environment(f"127.0.0.1:{free_port()}", vendor, clock, url)
    both = [
        Service(tmp_path / name, settings | {"FINNHUB_API_KEY": name}, "api", program=ACCELERATED)
        for name in ("one", "two")
    ]
    gaps = Gaps(clock)
    try:
        for each in both:
            each.start()
        jobs = make_jobs(both[0])
        end = clock.now() + timedelta(minutes=MINUTES)
        clock.wait(70)

        # Frozen in mid-call; succeeded at the same due time; thawed with the answer in its hands.
        vendor.hold("GOOG")
        assert vendor.held.wait(30)
        [frozen] = [one for one in both if one.home.name in vendor.caller]
        begin = clock.now()
        frozen.signal(signal.SIGSTOP)
        before = len(from_postgres(url, f"{POLLS} WHERE symbol = 'GOOG'"))
        eventually(lambda: len(from_postgres(url, f"{POLLS} WHERE symbol = 'GOOG'")) > before)
        vendor.release.set()
        frozen.signal(signal.SIGCONT)
        gaps.note(begin)
        eventually(lambda: "poll.overtaken" in frozen.log)

        # One is killed and comes again; the other goes on, and takes over what it left.
        begin = clock.now()
        both[0].kill()
        gaps.note(begin, LEASE)
        clock.wait(60)
        both[0].start()
        clock.wait(30)

        # Both are away: one is killed, the other stops cleanly.
        begin = clock.now()
        both[0].kill()
        assert both[1].stop() == 0, both[1].log[-2000:]
        clock.wait(100)
        for each in both:
            each.start()
        gaps.note(begin)
        answers = at_rest(both[0], clock, end)
        for each in both:
            assert each.stop() == 0, each.log[-2000:]
    finally:
        for each in both:
            each.kill()
    polls = from_postgres(url, POLLS)
    due_once = f"{POLLS} WHERE due < (SELECT min(next_due) FROM jobs)"
    assert len(from_postgres(url, due_once)) > 30
    assert_each_due_poll_once(polls, from_postgres(url, PRICES), jobs, answers, gaps)
    kept = from_postgres(url, "SELECT id FROM raw_responses")
    assert len(kept) > len(polls), "the raw answer of the frozen call is kept"


@pytest.mark.kafka
def test_one_process_with_restarts_on_sqlite(
    kafka: KafkaTools, vendor: Vendor, tmp_path: Path
) -> None:
    file = tmp_path / "pricewire.db"
    clock = Clock(datetime.now(UTC), 15)
    settings = environment(kafka.bootstrap_servers, vendor, clock, f"sqlite:///{file}")
    service = Service(tmp_path / "home", settings, program=ACCELERATED)
    gaps = Gaps(clock)
    try:
        service.start()
        jobs = make_jobs(service)
        end = clock.now() + timedelta(minutes=MINUTES)
        for symbol, clean in (("GOOG", False), ("IBM", True)):
            clock.wait(60)
            # In mid-call.
            vendor.hold(symbol)
            assert vendor.held.wait(30)
            begin = clock.now()
            if clean:
                service.signal(signal.SIGTERM)
                vendor.release.set()
                assert service.stop() == 0, service.log[-2000:]
            else:
                service.kill()
                vendor.release.set()
            clock.wait(40)
            service.start()
            # What a killed one held is free once its lease is over.
            gaps.note(begin, timedelta(0) if clean else LEASE)
        answers = at_rest(service, clock, end)
        eventually(service.drained)
        assert service.stop() == 0, service.log[-2000:]
    finally:
        service.kill()
    polls, prices = from_sqlite(file, POLLS), from_sqlite(file, PRICES)
    assert_each_due_poll_once(polls, prices, jobs, answers, gaps)
    records = published(kafka, settings["KAFKA_PRICE_EVENTS_TOPIC"])
    assert_each_once_in_order(records)
    assert len(records) == len(prices)
