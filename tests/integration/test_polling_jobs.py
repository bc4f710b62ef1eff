"""Polling jobs as people meet them: over HTTP and by the command line, with a real service."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.kafka_tools import free_port
from tests.service_tools import PRICEWIRE, Service, eventually, running

POLL = "/v1/prices/poll"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on the in-memory cluster: Kafka has no part in what is tested here."""
    settings = {
        "PATH": "/nonexistent",
        "JAVA_HOME": "",
        "LOCAL_KAFKA_PORT": str(free_port()),
        "ALPHA_VANTAGE_API_KEY": "key",
        # Nobody listens there, and the budget is the vendor's own.
        "ALPHA_VANTAGE_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "ALPHA_VANTAGE_BUDGET": "1/second,25/day",
        "DEFAULT_PROVIDER": "history",
    }
    with running(Service(tmp_path_factory.mktemp("home"), settings)) as service:
        yield service


def sent(service: Service, method: str, path: str, body: object = None) -> tuple[int, Any]:
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    status, headers, answer = service.get(path, method=method, body=text)
    if status >= 400:
        assert headers["content-type"] == "application/problem+json", answer
    return status, json.loads(answer) if answer else None


def jobs(service: Service) -> list[Any]:
    found: list[Any] = service.json("/v1/jobs")["jobs"]
    return found


def stored_polls(service: Service) -> int:
    connection = sqlite3.connect(service.home / "pricewire.db")
    try:
        return int(connection.execute("SELECT count(*) FROM polls").fetchone()[0])
    finally:
        connection.close()


GOOD: dict[str, Any] = {"symbols": ["AAPL"], "interval": 60}

BAD_BODIES: dict[str, Any] = {
    "interval 0": GOOD | {"interval": 0},
    "negative interval": GOOD | {"interval": -60},
    "absurd interval": GOOD | {"interval": 10**12},
    "interval of 400 digits": '{"symbols":["AAPL"],"interval":1%s}' % ("0" * 400),
    "fractional interval": GOOD | {"interval": 60.5},
    "exponent": '{"symbols":["AAPL"],"interval":1e400}',
    "NaN": '{"symbols":["AAPL"],"interval":NaN}',
    "interval as text": GOOD | {"interval": "60"},
    "interval as truth": GOOD | {"interval": True},
    "no interval": {"symbols": ["AAPL"]},
    "no symbols": {"interval": 60},
    "empty list": GOOD | {"symbols": []},
    "10,000 symbols": GOOD | {"symbols": [f"S{number}" for number in range(10_000)]},
    "the same twice": GOOD | {"symbols": ["AAPL", "MSFT", "AAPL"]},
    "symbols as text": GOOD | {"symbols": "AAPL"},
    "a symbol that is none": GOOD | {"symbols": ["AA PL"]},
    "a null symbol": GOOD | {"symbols": [None]},
    "a lone surrogate": '{"symbols":["\\ud800"],"interval":60}',
    "a NUL": '{"symbols":["AAPL\\u0000"],"interval":60}',
    "unknown provider": GOOD | {"provider": "nobody"},
    "provider as number": GOOD | {"provider": 7},
    "provider that is not configured": GOOD | {"provider": "finnhub"},
    "unknown member": GOOD | {"intervall": 60},
    "jitter above the interval": GOOD | {"jitter": 61},
    "negative jitter": GOOD | {"jitter": -1},
    "stretch as text": GOOD | {"stretch": "yes"},
    "a list": [],
    "a number": 7,
    "null": "null",
    "nothing": "",
    "not JSON": "symbols=AAPL&interval=60",
    "half of JSON": '{"symbols":["AAPL"],"inter',
    "two values": '{"symbols":["AAPL"],"interval":60}{}',
    "deep": "[" * 50_000,
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_in_so_many_words_and_leaves_nothing(
    service: Service, name: str
) -> None:
    status, problem = sent(service, "POST", POLL, BAD_BODIES[name])
    assert status == 422, problem
    assert problem["code"] in ("invalid_parameter", "invalid_symbol")
    assert 10 < len(problem["detail"]) < 400
    assert jobs(service) == []


def test_a_symbol_of_a_megabyte_is_refused_in_one_short_line(service: Service) -> None:
    status, problem = sent(service, "POST", POLL, GOOD | {"symbols": ["A" * 1_000_000]})
    assert (status, problem["code"]) == (422, "invalid_symbol")
    assert len(problem["detail"]) < 400
    assert jobs(service) == []


@pytest.mark.parametrize("path", [POLL, "/v1/dead-letters/drop"])
@pytest.mark.parametrize("length", ["10737418240", "9" * 400])
def test_ten_gigabytes_are_refused_before_they_come(
    service: Service, path: str, length: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    answer = at_once(service, head.encode())
    assert re.match(rb"HTTP/1.1 4(13|00) ", answer), answer[:100]


def test_a_body_without_a_length_is_refused_once_it_is_too_large(service: Service) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    head = f"POST {POLL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    # The last one is over the limit, and is read in one go: a connection that is closed with
    # something unread is reset, and takes the answer with it.
    last = b"1000\r\n" + b"x" * 4_096 + b"\r\n"
    assert b" 413 " in at_once(service, head.encode() + 61 * chunk, last)[:20]


def at_once(service: Service, *request: bytes) -> bytes:
    """Return the answer to a request that never ends; the connection ends with it."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        for part in request:
            connection.sendall(part)
        answer = b""
        try:
            while part := connection.recv(65_536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    "query",
    [
        "",
        "symbols=AAPL",
        "symbols=&interval=60",
        "symbols=AAPL,AAPL&interval=60",
        "symbols=AAPL&interval=0",
        "symbols=AAPL&interval=NaN",
        "symbols=AAPL&interval=60.0",
        "symbols=AAPL&interval=-60",
        "symbols=AAPL&interval=" + "9" * 5_000,
        "symbols=AAPL&interval=60&provider=nobody",
        "symbols=AAPL&interval=60&intervall=60",
        "symbols=%ed%a0%80&interval=60",
    ],
)
def test_a_plan_of_nonsense_is_refused(service: Service, query: str) -> None:
    status, problem = sent(service, "GET", f"/v1/jobs/plan?{query}")
    assert status == 422, problem


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_job_that_is_not_there(service: Service, method: str) -> None:
    body = {"interval": 60} if method == "PATCH" else None
    status, problem = sent(service, method, f"/v1/jobs/{uuid4()}", body)
    assert (status, problem["code"]) == (404, "not_found")
    status, problem = sent(service, method, "/v1/jobs/AAPL", body)
    assert (status, problem["code"]) == (422, "invalid_parameter")


def test_the_plan_says_what_the_budget_holds(service: Service) -> None:
    symbols = ["A", "B", "C", "D"]
    told = (
        "25 calls a day, 4 symbols every 60 s: gone after 6 minutes; "
        "the shortest interval that lasts is 13,824 s"
    )
    body = {"symbols": symbols, "interval": 60, "provider": "alpha_vantage"}
    status, problem = sent(service, "POST", POLL, body)
    assert (status, problem["code"], problem["detail"]) == (409, "plan_exceeded", told)
    plan = problem["plan"]
    assert (plan["lasts"], plan["shortest_interval"], plan["calls_per_poll"]) == (False, 13_824, 4)
    assert jobs(service) == []
    [second, day] = plan["windows"]
    assert (second["period"], second["lasts"]) == ("second", True)
    assert (day["needed"], day["gone_after_seconds"]) == (5760, 360)
    query = "symbols=A,B,C,D&interval=60&provider=alpha_vantage"
    assert service.json(f"/v1/jobs/plan?{query}") == plan

    status, made = sent(service, "POST", POLL, body | {"stretch": True})
    assert (status, made["config"]["interval"]) == (202, 13_824)
    job = made["job_id"]
    assert not service.json("/v1/jobs/plan?symbols=E&interval=86400&provider=alpha_vantage")[
        "lasts"
    ]
    eventually(lambda: jobs(service)[0]["failures"] > 0)
    [shown] = jobs(service)
    assert "provider_down" in shown["last_error"]
    assert shown["next_run"] > shown["last_poll"]
    assert sent(service, "DELETE", f"/v1/jobs/{job}")[0] == 204


def test_a_job_polls_survives_kill_9_is_paused_changed_and_deleted(service: Service) -> None:
    body = {"symbols": ["AAPL", "MSFT"], "interval": 1}
    status, made = sent(service, "POST", POLL, body)
    assert status == 202
    assert set(made) == {"job_id", "status", "config"}
    assert made["status"] == "accepted"
    assert made["config"] == body | {
        "provider": None,
        "market_hours": False,
        "jitter": 0,
        "stretch": False,
    }
    assert UUID(made["job_id"]).version == 7
    path = f"/v1/jobs/{made['job_id']}"
    eventually(lambda: service.json(path)["made"] >= 2)
    service.kill()
    service.start()
    eventually(lambda: service.json(path)["made"] >= 4, 60)
    shown = service.json(path)
    assert (shown["status"], shown["last_error"]) == ("active", None)

    assert sent(service, "POST", f"{path}/pause")[1]["status"] == "paused"
    before = stored_polls(service)
    time.sleep(1.5)
    assert stored_polls(service) == before
    assert before % 2 == 0

    assert sent(service, "PATCH", path, {"symbols": ["IBM"]})[1]["status"] == "paused"
    assert sent(service, "PATCH", path, {})[0] == 422
    assert sent(service, "PATCH", path, {"interval": 0})[0] == 422
    assert sent(service, "POST", f"{path}/resume")[1]["config"]["symbols"] == ["IBM"]
    eventually(lambda: stored_polls(service) > before)

    parts = service.json("/health/ready")["parts"]
    assert parts["polling"]["status"] == "up"
    assert parts["polling"]["made"] >= 1
    assert 'pricewire_polls_total{outcome="made"}' in service.get("/metrics")[2].decode()
    event = service.json("/v1/events/IBM~1")
    assert event["type"] == "price.recorded"
    eventually(lambda: service.json("/v1/events/IBM~1")["state"] == "published", 60)

    assert sent(service, "DELETE", path)[0] == 204
    assert sent(service, "GET", path)[0] == 404


def run(service: Service, *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(service.home),
        "PRICEWIRE_HOME": str(service.home),
        "API_PORT": str(service.port),
        "COLUMNS": "300",
    }
    return subprocess.run(
        [PRICEWIRE, "jobs", *arguments],
        env=environment,
        cwd=service.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_does_the_same(service: Service) -> None:
    added = run(service, "add", "AAPL", "MSFT", "--interval", "3600", "--jitter", "600")
    assert added.returncode == 0, added.stderr
    job = json.loads(added.stdout)["job_id"]
    listed = run(service, "list").stdout
    assert job in listed
    assert "AAPL,MSFT" in listed
    assert "lasts" in run(service, "plan", "AAPL", "-i", "60").stdout
    changed = run(service, "change", job, "--symbols", "IBM", "--interval", "7200")
    assert json.loads(changed.stdout)["config"]["symbols"] == ["IBM"]
    assert run(service, "delete", job).returncode == 0
    assert jobs(service) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "AAPL", "--interval", "60.5"], 2),
        (["add", "AAPL", "AAPL", "-i", "60"], 1),
        (["add", b"\xed\xa0\x80", "-i", "60"], 1),
        (["plan", b"\xed\xa0\x80", "-i", "60"], 1),
    ],
)
def test_a_wrong_call_is_one_line(
    service: Service, arguments: list[str | bytes], code: int
) -> None:
    done = run(service, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    if code == 1:
        [line] = done.stderr.splitlines()
        assert line.startswith("pricewire: ")
    assert jobs(service) == []
