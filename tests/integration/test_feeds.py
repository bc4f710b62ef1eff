"""A live feed through the whole service: from a vendor's websocket to the database and the topic.

The vendor is a server on this machine that plays a feed of Coinbase's shape, and a recorded one
where it lies beside the checkout (`../shared/recorded`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.feed_server import FeedServer, Frame, gaps, made_up, serving, trades
from tests.kafka_tools import KafkaTools, free_port
from tests.service_tools import PRICEWIRE, Service, eventually, running

RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded" / "coinbase"
pytestmark = pytest.mark.kafka


def recorded() -> list[Frame]:
    lines = RECORDED / "ws_feed_10_products.jsonl"
    if not lines.exists():
        pytest.skip("there is no recorded feed beside the checkout")
    times = (RECORDED / "ws_feed_10_products.recv.txt").read_text().split()
    frames = lines.read_text().splitlines()
    return list(zip(map(float, times), frames, strict=True))


def cuts_of(frames: Sequence[Frame], count: int, seed: int) -> dict[int, int]:
    """Return where the connection is cut, and how many frames nobody gets then."""
    chance = random.Random(seed)
    places = sorted(chance.sample(range(20, len(frames) - 10, 12), count))
    return {place: chance.randrange(1, 8) for place in places}


def service_for(home: Path, kafka: KafkaTools, server: FeedServer, url: str | None) -> Service:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": kafka.create_topic(f"feeds-{uuid4()}"),
        "COINBASE_WS_URL": server.url,
        # Nobody fills gaps here.
        "COINBASE_BASE_URL": f"http://127.0.0.1:{free_port()}",
    }
    if url is not None and not url.startswith("sqlite"):
        settings["DATABASE_URL"] = url
    return Service(home, settings)


@contextmanager
def fed(
    server: FeedServer, home: Path, kafka: KafkaTools, url: str | None = None
) -> Iterator[Service]:
    """Run a service whose Coinbase is `server`."""
    with serving(server), running(service_for(home, kafka, server, url)) as service:
        yield service


def sent(service: Service, method: str, path: str, body: object = None) -> tuple[int, Any]:
    text = None if body is None else json.dumps(body)
    status, _, answer = service.get(path, method=method, body=text)
    return status, json.loads(answer) if answer else None


def stream(service: Service, symbols: Sequence[str], **more: object) -> str:
    body = {"kind": "stream", "provider": "coinbase", "symbols": list(symbols)} | more
    status, made = sent(service, "POST", "/v1/jobs", body)
    assert status == 202, made
    return f"/v1/jobs/{made['job_id']}"


def stored(service: Service) -> dict[str, list[tuple[str, str]]]:
    """Return prices as the database has them and the ids of their frames, in their order."""
    query = "SELECT symbol, price, raw_response_id FROM prices ORDER BY symbol, sequence"
    url = service.environment.get("DATABASE_URL")
    rows = asyncio.run(_asked(url, query)) if url else _asked_sqlite(service, query)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for symbol, price, frame in rows:
        found[symbol].append((str(price), str(frame)))
    return found


async def _asked(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


def _asked_sqlite(service: Service, query: str) -> list[Any]:
    connection = sqlite3.connect(service.home / "pricewire.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def published(service: Service, kafka: KafkaTools) -> dict[str, list[str]]:
    """Return prices as they stand on the topic, digit by digit, by key."""
    found: dict[str, list[str]] = defaultdict(list)
    for message in kafka.read_all(service.environment["KAFKA_PRICE_EVENTS_TOPIC"]):
        key, value = message.key(), message.value()
        assert key is not None
        assert value is not None
        body = json.loads(value, parse_float=str, parse_int=str)
        found[key.decode()].append(body["price"])
    return found


def play(service: Service, kafka: KafkaTools, server: FeedServer) -> None:
    """Stream all that the server plays and compare it with what there is then."""
    path = stream(service, sorted(trades(server.frames)))
    assert server.played.wait(90)
    assert server.cut == len(server.cuts)
    expected = trades(server.sent)
    count = sum(map(len, expected.values()))
    eventually(lambda: sum(map(len, stored(service).values())) >= count, 30)
    eventually(service.drained, 30)
    prices = {symbol: [trade["price"] for trade in sold] for symbol, sold in expected.items()}
    rows = stored(service)
    assert {symbol: [price for price, _ in found] for symbol, found in rows.items()} == prices
    assert published(service, kafka) == prices
    job = service.json(path)
    assert {one["symbol"]: one["missing"] for one in job["symbols"]} == {
        symbol: gaps(sold) for symbol, sold in expected.items()
    }
    feed = job["feed"]
    assert (feed["ticks"], feed["repeats"], feed["unreadable"]) == (count, 0, 0)
    assert feed["reconnects"] == server.cut
    symbol = max(rows, key=lambda one: len(rows[one]))
    for (_, frame), trade in list(zip(rows[symbol], expected[symbol], strict=True))[:3]:
        status, _, body = service.get(f"/v1/raw-responses/{frame}")
        assert status == 200, body
        assert json.loads(body) == trade


@pytest.mark.postgres
def test_every_match_once_exact_and_in_order_and_gaps_named_exactly(
    database_url: str, kafka: KafkaTools, tmp_path: Path
) -> None:
    """At its own pace on SQLite, as fast as it goes on PostgreSQL, cut ten times."""
    frames = made_up(300, 4)
    speed = 1 if database_url.startswith("sqlite") else None
    server = FeedServer(frames, speed=speed, cuts=cuts_of(frames, 10, 3))
    with fed(server, tmp_path, kafka, database_url) as service:
        play(service, kafka, server)
        assert service.stop() == 0


@pytest.mark.parametrize("cut", [0, 10])
def test_the_recorded_feed_as_fast_as_it_goes(kafka: KafkaTools, tmp_path: Path, cut: int) -> None:
    frames = recorded()
    server = FeedServer(frames, cuts=cuts_of(frames, cut, 5))
    with fed(server, tmp_path, kafka) as service:
        play(service, kafka, server)


@pytest.mark.faults
@pytest.mark.parametrize("cut", [0, 10])
def test_the_recorded_feed_with_its_receive_times(
    kafka: KafkaTools, tmp_path: Path, cut: int
) -> None:
    frames = recorded()
    server = FeedServer(frames, speed=1, cuts=cuts_of(frames, cut, 8))
    with fed(server, tmp_path, kafka) as service:
        play(service, kafka, server)


@pytest.mark.faults
def test_a_kill_loses_only_what_is_not_sent_again_and_says_the_gap(
    kafka: KafkaTools, tmp_path: Path
) -> None:
    frames = made_up(1_200, 12)
    server = FeedServer(frames, speed=1)
    with fed(server, tmp_path, kafka) as service:
        path = stream(service, sorted(trades(frames)))
        eventually(lambda: server.position > 200, 30)
        service.kill()
        service.start()
        assert server.played.wait(60)
        eventually(lambda: service.json(path)["feed"]["rate"] == 0, 30)
        eventually(service.drained, 30)
        rows, job = stored(service), service.json(path)
        missing = {one["symbol"]: one["missing"] for one in job["symbols"]}
        for symbol, sold in trades(frames).items():
            lost = {number for first, last in missing[symbol] for number in range(first, last + 1)}
            assert lost
            kept = [trade["price"] for trade in sold if trade["trade_id"] not in lost]
            assert [price for price, _ in rows[symbol]] == kept
        assert published(service, kafka) == {
            symbol: [price for price, _ in found] for symbol, found in rows.items()
        }


def test_gaps_are_filled_by_rest_where_the_vendor_can(kafka: KafkaTools, tmp_path: Path) -> None:
    frames = made_up(200, 1)
    server = FeedServer(frames, cuts=cuts_of(frames, 4, 11))
    with serving(server):
        service = service_for(tmp_path, kafka, server, None)
        service.environment["COINBASE_BASE_URL"] = server.rest_url
        with running(service):
            path = stream(service, sorted(trades(frames)))
            assert server.played.wait(60)
            seen = trades(server.sent)
            told = sum(gaps_between(sold) for sold in seen.values())
            assert told > 0
            eventually(lambda: service.json(path)["feed"]["filled"] == told, 60)
            eventually(service.drained, 30)
            rows, job = stored(service), service.json(path)
            assert all(one["missing"] == [] for one in job["symbols"])
            for symbol, sold in trades(frames).items():
                last = seen[symbol][-1]["trade_id"]
                had = sorted(trade["price"] for trade in sold if trade["trade_id"] <= last)
                assert sorted(price for price, _ in rows[symbol]) == had
            assert sum(map(len, published(service, kafka).values())) == job["feed"]["ticks"]


def gaps_between(sold: Sequence[dict[str, Any]]) -> int:
    return sum(last - first + 1 for first, last in gaps(sold))


def test_streaming_jobs_over_http(kafka: KafkaTools, tmp_path: Path) -> None:
    frames = made_up(40, 0.5)
    server = FeedServer(frames)
    with fed(server, tmp_path, kafka) as service:
        check_refusals(service)
        path = stream(service, ["BTC-USD", "ETH-EUR"], conflate=60_000)
        eventually(lambda: (service.json(path)["feed"] or {}).get("state") == "streaming")
        assert server.played.wait(30)
        eventually(lambda: service.json(path)["feed"]["repeats"] == 0)
        check_looks(service, path)
        assert sent(service, "PATCH", path, {"conflate": None})[1]["config"]["conflate"] is None
        assert sent(service, "PATCH", path, {})[0] == 422
        assert sent(service, "PATCH", path, {"interval": 5})[0] == 422
        assert sent(service, "POST", f"{path}/pause")[1]["status"] == "paused"
        eventually(lambda: service.json(path)["feed"]["state"] == "idle")
        assert sent(service, "POST", f"{path}/resume")[1]["status"] == "active"
        eventually(lambda: server.connections == 2)
        assert sent(service, "DELETE", path)[0] == 204
        assert sent(service, "GET", path)[0] == 404
        check_command_line(service)
        assert service.stop() == 0


def check_command_line(service: Service) -> None:
    added = run(service, "stream", "ETH-EUR", "--provider", "coinbase", "--conflate", "500")
    job = json.loads(added.stdout)
    assert job["config"] == {"symbols": ["ETH-EUR"], "provider": "coinbase", "conflate": 500}
    listed = run(service, "jobs", "list").stdout
    assert job["job_id"] in listed
    assert "500 ms" in listed
    changed = run(service, "jobs", "change", job["job_id"], "--conflate", "0")
    assert json.loads(changed.stdout)["config"]["conflate"] is None
    refused = run(service, "stream", "AAPL", "--provider", "coinbase")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert run(service, "jobs", "delete", job["job_id"]).returncode == 0


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(service.home),
        "API_PORT": str(service.port),
        "COLUMNS": "300",
    }
    return subprocess.run(
        [PRICEWIRE, *arguments],
        env=environment,
        cwd=service.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_refusals(service: Service) -> None:
    good = {"kind": "stream", "provider": "coinbase", "symbols": ["BTC-USD"]}
    wrong: list[dict[str, Any]] = [
        good | {"provider": "nobody"},
        good | {"provider": "history"},
        good | {"provider": "finnhub"},
        good | {"symbols": []},
        good | {"symbols": ["BTC-USD", "BTC-USD"]},
        good | {"symbols": ["AAPL"]},
        good | {"conflate": 5},
        good | {"conflate": 1.5},
        good | {"interval": 60},
        good | {"kind": "flood"},
        {"provider": "coinbase", "symbols": ["BTC-USD"]},
    ]
    for body in wrong:
        status, problem = sent(service, "POST", "/v1/jobs", body)
        assert (status, problem["code"]) == (422, "invalid_parameter"), (body, problem)
    assert service.json("/v1/jobs")["jobs"] == []
    polled = {"kind": "poll", "symbols": ["AAPL"], "interval": 3600}
    status, made = sent(service, "POST", "/v1/jobs", polled)
    assert (status, made["config"]["interval"]) == (202, 3600)
    assert sent(service, "DELETE", f"/v1/jobs/{made['job_id']}")[0] == 204


def check_looks(service: Service, path: str) -> None:
    [listed] = service.json("/v1/jobs")["jobs"]
    assert (listed["kind"], listed["symbols"]) == ("stream", None)
    job = service.json(path)
    assert {one["symbol"] for one in job["symbols"]} == {"BTC-USD", "ETH-EUR"}
    assert all(one["ticks"] == 1 and one["conflated"] > 0 for one in job["symbols"])
    part = service.json("/health/ready")["parts"]["feeds"]
    assert (part["status"], part["feeds"][0]["state"]) == ("up", "streaming")
    metrics = service.get("/metrics")[2].decode()
    assert 'pricewire_feed_streaming{feed="coinbase"} 1.0' in metrics
    assert 'pricewire_feed_ticks_total{feed="coinbase"} 2.0' in metrics
