"""Every provider through the running service: exact on the topic, its key nowhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer

from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, published, running
from tests.vendor_tools import CANARY, KNOWN, answering, canaries

pytestmark = pytest.mark.kafka

EXPECTED = {
    "alpha_vantage": ("42.4200", "2024-03-20T00:00:00Z", "day"),
    "finnhub": ("42.5", "2024-03-20T20:00:00Z", "second"),
    "massive": ("42.25", "2022-04-28T20:55:19.310617Z", "nanosecond"),
    "yahoo": ("42.12", "2024-03-20T20:00:00Z", "second"),
    "coinbase": ("42.5000", "2024-03-20T11:10:41.270099Z", "microsecond"),
    "binance": ("42.50000000", None, "none"),
    "kraken": ("42499.40000", None, "none"),
}


@pytest.fixture
def topic() -> str:
    return f"price-events-{uuid4().hex[:8]}"


@pytest.fixture
def service(
    kafka: KafkaTools, topic: str, httpserver: HTTPServer, tmp_path: Path
) -> Iterator[Service]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "LOG_LEVEL": "DEBUG",
    }
    for name in KNOWN:
        environment[f"{name}_BASE_URL".upper()] = httpserver.url_for("")
        environment |= {f"{name}_{need}".upper(): key for need, key in canaries(name).items()}
    with running(Service(tmp_path, environment)) as service:
        eventually(service.publishes)
        yield service


def ask(service: Service, provider: str, symbol: str) -> str:
    named = f"symbol={quote(symbol, safe='')}&provider={provider}"
    return service.get(f"/v1/prices/latest?{named}&wait_ms=10000")[2].decode()


def test_each_provider_is_exact_on_the_topic_and_its_key_is_nowhere(
    service: Service, kafka: KafkaTools, topic: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    told, ids = [], {}
    for name, known in KNOWN.items():
        httpserver.clear()
        httpserver.expect_request(re.compile(".*")).respond_with_handler(answering(name))
        told += [ask(service, name, symbol) for symbol in (known.symbol, "NO.SUCH")]
        answer = json.loads(told[-2])
        assert answer["source"] == name, told[-2]
        assert answer["symbol"] == known.symbol
        assert json.loads(told[-1])["code"] == "unknown_symbol", told[-1]
        ids[name] = answer["event"]["id"]
        raw = service.get(f"/v1/raw-responses/{answer['raw_response_id']}")
        assert raw[2] == known.live.body
        told.append(str(raw))
        if name in EXPECTED:
            price, timestamp, precision = EXPECTED[name]
            assert f'"price":{price},' in told[-3]
            assert answer["timestamp"] == (timestamp or answer["fetched_at"])
            assert answer["timestamp_precision"] == precision
    records = {one.event_id: one for one in published(kafka, topic)}
    assert set(records) == set(ids.values())
    told.append(str(records))
    told += [service.get(path)[2].decode() for path in ("/v1/providers", "/health/ready")]
    assert service.process is not None
    told += [service.log, Path(f"/proc/{service.process.pid}/cmdline").read_text()]
    assert "C4NARY" not in "".join(told)
    assert CANARY.startswith("C4NARY")
    stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"ABC-USD" in content or b"ABC/USD" in content for content in stored)
    assert not any(b"C4NARY" in content for content in stored)
