"""`pricewire backfill` broken off by a budget, a signal or a dead service: it goes on, exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.kafka_tools import free_port
from tests.service_tools import PRICEWIRE, Service, eventually

FIRST_DAY = datetime(2018, 1, 1, tzinfo=UTC)
DAYS = 1_400
"""Five steps of 300 days each."""
END = FIRST_DAY + timedelta(days=DAYS)


class Vendor:
    """Answers as Coinbase does, and counts; call number `holds` is answered when `go` is set."""

    def __init__(self, server: HTTPServer) -> None:
        server.expect_request("/products/BTC-USD/candles").respond_with_handler(self._answer)
        self.url = server.url_for("").rstrip("/")
        self.asked: list[str] = []
        self.holds = 0
        self.go = threading.Event()

    def begin(self, *, holds: int = 0) -> None:
        self.asked.clear()
        self.holds = holds
        self.go.clear()

    def _answer(self, request: Request) -> Response:
        self.asked.append(request.args["start"])
        if len(self.asked) == self.holds:
            self.go.wait(60)
        start, end = (datetime.fromisoformat(request.args[name]) for name in ("start", "end"))
        first = -(-(start - FIRST_DAY) // timedelta(days=1))
        last = min((end - FIRST_DAY) // timedelta(days=1), DAYS)
        rows = [
            [int((FIRST_DAY + timedelta(days=n)).timestamp()), 1, 99999, 2, number(n), 5]
            for n in range(last, first - 1, -1)
        ]
        return Response(
            json.dumps(rows).replace('"', ""),
            content_type="application/json",
        )


def number(day: int) -> str:
    return f"{day + 1}.50"


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with HTTPServer(threaded=True) as server:
        yield Vendor(server)


@pytest.fixture
def service(vendor: Vendor, tmp_path: Path) -> Iterator[Service]:
    """On the in-memory cluster: Kafka has no part in what is tested here."""
    settings = {
        "PATH": "/nonexistent",
        "JAVA_HOME": "",
        "LOCAL_KAFKA_PORT": str(free_port()),
        "COINBASE_BASE_URL": vendor.url,
        "COINBASE_BUDGET": "1000/hour",
        "LOG_LEVEL": "WARNING",
    }
    service = Service(tmp_path / "service", settings)
    service.start()
    yield service
    service.kill()


class Backfill:
    """The command, as a process of its own."""

    def __init__(self, port: int, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PRICEWIRE_HOME": str(folder / "mine"),
            "API_PORT": str(port),
        }
        span = ("--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{END:%Y-%m-%d}")
        self._command = [PRICEWIRE, "backfill", "BTC-USD", "--provider", "coinbase", *span]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str, str]:
        return ended(self.start())

    @property
    def places(self) -> list[Path]:
        return [*(self._folder / "mine" / "backfills").glob("*.json")]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def stored(service: Service) -> list[tuple[str, str]]:
    query = urlencode({"symbol": "BTC-USD", "provider": "coinbase", "limit": 10_000})
    found = json.loads(service.get(f"/v1/prices?{query}")[2], parse_float=str, parse_int=str)
    return [(row["timestamp"][:10], row["price"]) for row in found["prices"]]


def expected(days: int = DAYS) -> list[tuple[str, str]]:
    return [(f"{FIRST_DAY + timedelta(days=n):%Y-%m-%d}", number(n)) for n in range(days)]


def test_a_budget_that_is_used_up_in_the_middle_is_said_and_a_later_run_goes_on(
    service: Service, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.begin()
    backfill = Backfill(service.port, tmp_path)
    service.kill()
    service.environment["COINBASE_BUDGET"] = "3/day"
    service.start()
    for _ in range(2):
        code, out, err = backfill.run()
        assert (code, len(err.splitlines())) == (1, 1), (out, err)
        assert "the budget of coinbase, 3 calls a day, is used up until" in err, err
        assert "run it again: it goes on where it was" in err
        assert stored(service) == expected(900)
        assert len(vendor.asked) == 3
    service.kill()
    service.environment["COINBASE_BUDGET"] = "1000/hour"
    service.start()
    code, out, err = backfill.run()
    assert (code, err) == (0, ""), (out, err)
    assert f"going on at {FIRST_DAY + timedelta(days=900):%Y-%m-%d}" in out
    assert "bars       500 of coinbase: 500 recorded, 0 there already" in out
    assert stored(service) == expected()
    assert len(set(vendor.asked)) == len(vendor.asked) == 5
    assert backfill.places == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_broken_off_in_the_middle_goes_on(
    service: Service, vendor: Vendor, tmp_path: Path, number: signal.Signals
) -> None:
    vendor.begin(holds=3)
    backfill = Backfill(service.port, tmp_path)
    broken = backfill.start()
    eventually(lambda: len(vendor.asked) == 3)
    broken.send_signal(number)
    code, out, err = ended(broken)
    if number is signal.SIGINT:
        assert (code, "run it again: it goes on where it was" in err) == (130, True), (out, err)
    vendor.go.set()
    code, out, err = backfill.run()
    assert (code, err) == (0, ""), (out, err)
    assert f"going on at {FIRST_DAY + timedelta(days=600):%Y-%m-%d}" in out
    # The step that nobody waited for any more may have been recorded meanwhile.
    assert "bars       800 of coinbase:" in out
    assert stored(service) == expected()
    assert len(set(vendor.asked)) == 5
    assert len(vendor.asked) == 6
    code, out, _ = backfill.run()
    assert f"0 recorded, {DAYS} there already" in out


def test_a_service_that_dies_in_the_middle_of_a_step_is_waited_for(
    service: Service, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.begin(holds=4)
    running = Backfill(service.port, tmp_path).start()
    eventually(lambda: len(vendor.asked) == 4)
    service.kill()
    vendor.go.set()
    service.start()
    code, out, err = ended(running)
    assert (code, err) == (0, ""), (out, err)
    assert f"bars       {DAYS} of coinbase: {DAYS} recorded, 0 there already" in out
    assert stored(service) == expected()


class FakeService:
    """Answers `POST /v1/backfills` with what the test says."""

    def __init__(self, server: HTTPServer, *answers: tuple[int, dict[str, Any]]) -> None:
        server.expect_request("/v1/backfills", method="POST").respond_with_handler(self._answer)
        self._answers = list(answers)
        self.begins: list[str] = []

    def _answer(self, request: Request) -> Response:
        self.begins.append(request.get_json()["from"])
        status, body = self._answers.pop(0)
        return Response(json.dumps(body), status=status, content_type="application/json")


def step(following: str | None) -> tuple[int, dict[str, Any]]:
    counts = {"bars": 300, "recorded": 300, "repeated": 0}
    return 200, {"provider": "coinbase", "next": following, "note": None, **counts}


def throttled(seconds: float) -> tuple[int, dict[str, Any]]:
    return 503, {"detail": "coinbase: 10 calls a minute are used up", "retry_after": seconds}


def test_a_budget_that_is_back_within_a_minute_is_waited_for(tmp_path: Path) -> None:
    with HTTPServer() as server:
        second = "2018-10-28T00:00:00Z"
        answers = (step(second), throttled(0.2), throttled(0.1), step(None))
        fake = FakeService(server, *answers)
        code, out, err = Backfill(server.port, tmp_path).run()
        assert (code, err) == (0, "")
        assert "bars       600 of coinbase: 600 recorded" in out
        assert fake.begins == ["2018-01-01", second, second, second]


def test_a_budget_that_is_back_in_an_hour_is_said_at_once(tmp_path: Path) -> None:
    with HTTPServer() as server:
        second = "2018-10-28T00:00:00Z"
        fake = FakeService(server, step(second), throttled(3_600), step(None))
        backfill = Backfill(server.port, tmp_path)
        code, _, err = backfill.run()
        assert code == 1
        assert "10 calls a minute are used up; run it again: it goes on where it was" in err
        assert backfill.run()[0] == 0
        assert fake.begins == ["2018-01-01", second, second]
