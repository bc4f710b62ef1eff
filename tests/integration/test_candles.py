"""Candles as users meet them: on the topic, at the API, of prices of now and of the past."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Producer, murmur2

from pricewire.domain.candle import Interval
from pricewire.streams.candles import parse_candle_id
from tests.kafka_tools import KafkaTools
from tests.postgres_tools import LocalPostgres
from tests.service_tools import Service, eventually, running

pytestmark = pytest.mark.kafka

AT = datetime(2024, 3, 20, 14, 30, tzinfo=UTC)
SOURCE = b"/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def service(
    request: pytest.FixtureRequest, kafka: KafkaTools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    topic = f"prices-{uuid4().hex[:8]}"
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_PRICE_HISTORY_TOPIC": f"{topic}-history",
        "KAFKA_MOVING_AVERAGES_TOPIC": f"{topic}-averages",
        "KAFKA_CANDLES_TOPIC": f"{topic}-candles",
        "KAFKA_GROUP_PREFIX": topic,
        "KAFKA_TOPIC_RETENTION_HOURS": "-1",
        "CHECKPOINT_SECONDS": "0.2",
        "HISTORY_INTERVAL_SECONDS": "0.01",
    }
    if request.param == "postgres":
        server: LocalPostgres = request.getfixturevalue("postgres")
        settings["DATABASE_URL"] = server.database_url()
    with running(Service(tmp_path_factory.mktemp("candles"), settings)) as service:
        eventually(lambda: len(service.json("/v1/lag")["lag"]) == 18, 60)
        yield service


class Feed:
    """Puts prices on the topics as the relay does."""

    def __init__(self, kafka: KafkaTools, service: Service) -> None:
        self.topic = service.environment["KAFKA_PRICE_EVENTS_TOPIC"]
        self.service = service
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})

    def put(self, event_id: str, price: str, at: datetime, *, past: bool = False) -> None:
        symbol = event_id.partition("~")[0]
        value = (
            f'{{"symbol":"{symbol}","price":{price},"timestamp":"{at:%Y-%m-%dT%H:%M:%S}Z",'
            f'"source":"test","raw_response_id":"{UUID(int=7)}"}}'
        )
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", event_id.encode()),
            ("ce_type", b"price.backfilled" if past else b"price.recorded"),
            ("ce_source", SOURCE),
            ("content-type", b"application/json"),
        ]
        topic = f"{self.topic}-history" if past else self.topic
        partition = murmur2(symbol.encode(), 6)
        self._producer.produce(topic, value, symbol, partition, headers=headers)

    def settle(self) -> None:
        assert self._producer.flush(10) == 0
        eventually(lambda: self.service.json("/v1/lag")["behind"] == 0, 30)


@pytest.fixture
def feed(kafka: KafkaTools, service: Service) -> Feed:
    return Feed(kafka, service)


def candles(service: Service, symbol: str, interval: str, **query: object) -> dict[str, Any]:
    more = "".join(f"&{name}={quote(str(value))}" for name, value in query.items())
    status, _, body = service.get(f"/v1/candles?symbol={symbol}&interval={interval}{more}")
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body, parse_float=str, parse_int=str)
    return answer


def minute(n: int) -> datetime:
    return AT + timedelta(minutes=n)


def told(one: dict[str, Any]) -> list[Any]:
    return [one[name] for name in ("open", "high", "low", "close", "count", "closed", "revision")]


def test_prices_become_candles_and_a_late_one_a_new_revision(
    service: Service, kafka: KafkaTools, feed: Feed
) -> None:
    feed.put("LATE~1", "10.00", minute(0))
    feed.put("LATE~2", "12.50", minute(0) + timedelta(seconds=20))
    feed.put("LATE~3", "11.0", minute(6))
    feed.settle()
    first, last = candles(service, "LATE", "1m")["candles"]
    assert told(first) == ["10.00", "12.50", "10.00", "12.50", "2", True, "1"]
    assert told(last) == ["11.0", "11.0", "11.0", "11.0", "1", False, "0"]
    assert (first["start"], first["end"]) == ("2024-03-20T14:30:00Z", "2024-03-20T14:31:00Z")
    feed.put("LATE~4", "9.5", minute(0) + timedelta(seconds=40))
    feed.put("LATE~4", "9.5", minute(0) + timedelta(seconds=40))
    feed.settle()
    [first, _] = candles(service, "LATE", "1m")["candles"]
    assert told(first) == ["10.00", "12.50", "9.5", "9.5", "3", True, "2"]
    [day] = candles(service, "LATE", "1d")["candles"]
    assert (day["start"], day["count"], day["closed"]) == ("2024-03-20T04:00:00Z", "4", False)
    records = [
        (dict(one.headers() or []), json.loads(one.value() or b"", parse_float=Decimal))
        for one in kafka.read_all(f"{feed.topic}-candles")
        if one.key() == b"LATE"
    ]
    revisions = {}
    for headers, value in records:
        name = headers["ce_id"]
        assert isinstance(name, bytes)
        event_id, interval, start = parse_candle_id(name.decode())
        assert (event_id, interval) == (value["event_id"], value["interval"])
        assert headers["ce_type"] == b"candle.closed"
        assert headers["ce_source"] == SOURCE + b"/candles/1"
        revisions[interval, start, value["revision"]] = (value["event_id"], value["count"])
    assert revisions == {
        (Interval.MINUTE, minute(0), 1): ("LATE~3", 2),
        (Interval.FIVE_MINUTES, minute(0), 1): ("LATE~3", 2),
        (Interval.MINUTE, minute(0), 2): ("LATE~4", 3),
        (Interval.FIVE_MINUTES, minute(0), 2): ("LATE~4", 3),
    }


def test_past_prices_and_those_of_now_are_merged_and_told_apart(
    service: Service, feed: Feed
) -> None:
    feed.put("BOTH~1", "50", minute(0) + timedelta(seconds=30))
    feed.put("BOTH~2", "51", minute(2))
    feed.put("BOTH~h1", "40", minute(-60), past=True)
    feed.put("BOTH~h2", "48", minute(0), past=True)
    feed.put("BOTH~h3", "52.5", minute(0) + timedelta(seconds=30), past=True)
    feed.put("BOTH~h4", "47", minute(1), past=True)
    feed.settle()
    answer = candles(service, "BOTH", "1m")
    starts = [one["start"][11:16] for one in answer["candles"]]
    assert starts == ["13:30", "14:30", "14:31", "14:32"]
    merged = answer["candles"][1]
    # Of equal times the past comes first.
    assert told(merged) == ["48", "52.5", "48", "50", "3", True, "2"]
    parts = [(part["series"], part["count"]) for part in merged["parts"]]
    assert parts == [("history", "2"), ("live", "1")]
    as_of = {one["series"]: one for one in answer["as_of"]}
    assert set(as_of) == {"live", "history"}
    assert {one["partition"] for one in as_of.values()} == {str(murmur2(b"BOTH", 6))}
    averages = service.json("/v1/averages?symbol=BOTH")["averages"]
    # Two prices of now: no average of five, whatever the past had.
    assert [one["warm"] for one in averages] == [False]


def test_pages_lead_on_and_back(service: Service, feed: Feed) -> None:
    for n in range(7):
        feed.put(f"PAGES~{n + 1}", str(n + 1), minute(n))
    feed.settle()
    page = candles(service, "PAGES", "1m", **{"from": "2024-03-20", "limit": 3})
    assert [one["open"] for one in page["candles"]] == ["1", "2", "3"]
    assert (page["next"], page["previous"]) == ("2024-03-20T14:33:00Z", None)
    page = candles(service, "PAGES", "1m", **{"from": page["next"], "limit": 4})
    assert [one["open"] for one in page["candles"]] == ["4", "5", "6", "7"]
    assert page["next"] is None
    page = candles(service, "PAGES", "1m", limit=2)
    assert [one["open"] for one in page["candles"]] == ["6", "7"]
    page = candles(service, "PAGES", "1m", limit=5, to=page["previous"])
    assert [one["open"] for one in page["candles"]] == ["1", "2", "3", "4", "5"]
    assert page["previous"] is None
    page = candles(service, "PAGES", "1m", to="2024-03-20T16:32:00+02:00")
    assert [one["open"] for one in page["candles"]] == ["1", "2"]
    assert candles(service, "NOBODY", "1m")["candles"] == []


@pytest.mark.parametrize(
    "query",
    [
        "symbol=AAPL",
        "interval=1m",
        "symbol=A~B&interval=1m",
        "symbol=AAPL&interval=2m",
        "symbol=AAPL&interval=1m&limit=0",
        "symbol=AAPL&interval=1m&limit=5001",
        "symbol=AAPL&interval=1m&limit=x",
        "symbol=AAPL&interval=1m&from=2024-03-20T10:30:00",
        "symbol=AAPL&interval=1m&from=0000-01-01",
        "symbol=AAPL&interval=1m&from=0001-01-01T00:00:00%2B02:00",
        "symbol=AAPL&interval=1m&from=yesterday",
        "symbol=AAPL&interval=1m&from=2024-03-20&to=2024-03-20",
        "symbol=%ED%A0%80&interval=1m",
    ],
)
def test_a_wrong_question_says_what_is_right(service: Service, query: str) -> None:
    status, _, body = service.get(f"/v1/candles?{query}")
    assert status == 422, body
    assert len(json.loads(body)["detail"]) > 20


def test_daily_prices_of_the_service_itself_make_days_only(service: Service) -> None:
    prices = [service.price("AAPL", wait_ms=5000) for _ in range(3)]
    eventually(lambda: service.json("/v1/lag")["behind"] == 0, 30)
    found = candles(service, "AAPL", "1d")["candles"]
    assert [one["start"][:10] for one in found] == [price["timestamp"][:10] for price in prices]
    assert [Decimal(one["close"]) for one in found] == [
        Decimal(str(price["price"])) for price in prices
    ]
    assert [one["closed"] for one in found] == [True, True, False]
    assert candles(service, "AAPL", "1m")["candles"] == []
    print(service.get("/v1/candles?symbol=AAPL&interval=1d&limit=1")[2])


def lags(service: Service) -> set[tuple[str, str]]:
    """Return which processors and partitions the metrics say are not behind."""
    metrics = service.get("/metrics")[2].decode()
    pattern = r'^pricewire_processor_lag_events{partition="(\d+)",processor="([^"]+)"} 0\.0$'
    return {(name, number) for number, name in re.findall(pattern, metrics, re.MULTILINE)}


def test_each_processor_is_told_by_name(service: Service) -> None:
    names = ["averages", "candles", "candles-history"]
    assert sorted({one["processor"] for one in service.json("/v1/lag")["lag"]}) == names
    parts = service.json("/health/ready")["parts"]
    assert all(parts[name]["status"] == "up" for name in names)
    metrics = service.get("/metrics")[2].decode()
    assert all(f'processor="{name}"' in metrics for name in names)
    eventually(lambda: lags(service) == {(name, str(n)) for name in names for n in range(6)}, 20)
    status, _, body = service.get("/v1/dead-letters?origin=nowhere")
    assert status == 422, body
    history = service.environment["KAFKA_PRICE_HISTORY_TOPIC"]
    assert service.json(f"/v1/dead-letters?origin={history}") == {
        "dead_letters": [],
        "dry_run": False,
    }
