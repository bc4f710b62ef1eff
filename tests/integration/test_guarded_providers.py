"""Guards and fallbacks through the running service: who throttles, answers nonsense, is used up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, published, running
from tests.vendor_tools import KNOWN, canaries

pytestmark = pytest.mark.kafka

PATH = "/v1/prices/latest?symbol=ACME"


class Vendors:
    """Finnhub, Tiingo and Alpaca at one address, each with its own answer; counts the calls."""

    def __init__(self) -> None:
        self.calls = {"finnhub": 0, "tiingo": 0, "alpaca": 0}
        self.says: dict[str, tuple[bytes, int]] = {}

    def __call__(self, request: Request) -> Response:
        beginnings = {"/api/v1/": "finnhub", "/v2/": "alpaca"}
        named = [name for begin, name in beginnings.items() if request.path.startswith(begin)]
        name = named[0] if named else "tiingo"
        self.calls[name] += 1
        body, status = self.says.get(name, (KNOWN[name].live.body, KNOWN[name].live.status))
        return Response(body, status, content_type="application/json")


@pytest.fixture
def vendors(httpserver: HTTPServer) -> Vendors:
    made = Vendors()
    httpserver.expect_request(re.compile(".*")).respond_with_handler(made)
    return made


@pytest.fixture
def environment(
    kafka: KafkaTools, database_url: str, httpserver: HTTPServer, vendors: Vendors
) -> dict[str, str]:
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"price-events-{uuid4().hex[:8]}",
        "DATABASE_URL": database_url,
        "DEFAULT_PROVIDER": "finnhub",
        "FALLBACK_PROVIDERS": "tiingo,alpaca",
        # The defaults are those of the vendors' own addresses.
        "FINNHUB_BUDGET": "60/minute",
        "TIINGO_BUDGET": "50/hour",
        "ALPACA_BUDGET": "2/day",
    }
    for name in vendors.calls:
        given[f"{name}_BASE_URL".upper()] = httpserver.url_for("")
        given |= {f"{name}_{need}".upper(): key for need, key in canaries(name).items()}
    return given


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with running(Service(tmp_path / "home", environment)) as service:
        eventually(service.publishes)
        yield service


def test_when_the_first_throttles_the_next_answers_and_all_is_told_and_kept(
    service: Service, vendors: Vendors, kafka: KafkaTools, environment: dict[str, str]
) -> None:
    vendors.says = {"finnhub": (b'{"error":"API limit reached."}', 429), "tiingo": (b"<html>", 200)}
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: service.json(f"{PATH}&wait_ms=10000"), range(16)))
    assert {one["source"] for one in told} == {"alpaca"}
    assert [one["provider"] for one in told[0]["attempts"]] == ["finnhub", "tiingo"]
    assert told[0]["attempts"][0]["code"].startswith("rate_limited")
    assert told[0]["attempts"][1]["code"] == "not_a_price"
    assert vendors.calls["finnhub"] == 1
    events = {one.event_id for one in published(kafka, environment["KAFKA_PRICE_EVENTS_TOPIC"])}
    assert events == {one["event"]["id"] for one in told}

    cached = service.json(f"{PATH}&max_age=60")
    assert (cached["cached"], cached["event"]["state"]) == (True, "published")
    assert cached["raw_response_id"] in {one["raw_response_id"] for one in told}


def test_a_budget_survives_kill_9_and_then_a_stored_price_is_stale(
    service: Service, vendors: Vendors
) -> None:
    alone = f"{PATH}&provider=alpaca"
    for _ in range(2):
        assert service.json(alone)["source"] == "alpaca"
        service.kill()
        service.start()
    status, headers, body = service.get(alone)
    problem: dict[str, Any] = json.loads(body)
    assert (status, problem["code"]) == (503, "rate_limited_daily")
    assert 0 < int(headers["retry-after"]) == problem["retry_after"] <= 86_400
    stale = service.json(f"{alone}&allow_stale=true")
    assert (stale["stale"], stale["cached"], stale["source"]) == (True, True, "alpaca")
    assert stale["stale_reason"].startswith("rate_limited_daily: the budget of alpaca, 2 calls")
    assert vendors.calls["alpaca"] == 2
    several = service.json("/v1/prices/latest?symbol=ACME,BAD~&provider=alpaca")["prices"]
    assert [one["error"]["code"] for one in several] == ["rate_limited_daily", "invalid_symbol"]
