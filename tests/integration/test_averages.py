"""Averages as users meet them: on the topic, at the API, and what could not be counted."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer

from tests.kafka_tools import KafkaTools
from tests.service_tools import PRICEWIRE, Service, eventually, running

pytestmark = pytest.mark.kafka

VALUE = (
    '{"symbol":"ACME","price":%s,"timestamp":"2024-03-20T10:30:0%dZ","source":"mine",'
    '"raw_response_id":"01a208e5-dfcd-7325-bd50-2c7e2cf2631a"}'
)
POISON: list[tuple[str, bytes | None, bytes | None]] = [
    ("not_json", b"ACME", b"{"),
    ("not_json", b"ACME", b""),
    ("not_json", b"ACME", b"\x00\x00\x00\x00\x07" + (VALUE % ("1", 1)).encode()),
    ("not_json", b"ACME", (VALUE % ("NaN", 1)).encode()),
    ("schema", b"ACME", (VALUE % ('"1.5"', 1)).encode()),
    ("schema", b"ACME", (VALUE % ("true", 1)).encode()),
    ("schema", b"ACME", b'{"symbol":"ACME","price":1}'),
    ("key", b"OTHER", (VALUE % ("1", 1)).encode()),
    ("size", b"ACME", (VALUE % ("1", 1)).encode()[:-1] + b" " * 900_000 + b"}"),
    ("tombstone", b"ACME", None),
]


@pytest.fixture(scope="module")
def topic() -> str:
    return f"events-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def service(
    kafka: KafkaTools, topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_MOVING_AVERAGES_TOPIC": f"{topic}-averages",
        "KAFKA_GROUP_PREFIX": topic,
        "KAFKA_TOPIC_RETENTION_HOURS": "-1",
        "AVERAGES": "sma:3,ema:3,sma:2s",
        "CHECKPOINT_SECONDS": "0.2",
        "HISTORY_INTERVAL_SECONDS": "0.05",
    }
    with running(Service(tmp_path_factory.mktemp("averages"), settings)) as service:
        yield service


def averages(service: Service, **query: object) -> list[dict[str, Any]]:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    status, _, body = service.get(f"/v1/averages?{text}")
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body, parse_float=Decimal)["averages"]
    return found


def produce(
    kafka: KafkaTools, topic: str, records: list[tuple[bytes | None, bytes | None]], **headers: str
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value in records:
        producer.produce(topic, value, key, partition=0, headers=dict(headers))
    assert producer.flush(10) == 0


def headers_of(record: Message) -> dict[str, str | bytes | None]:
    return dict(record.headers() or [])


def rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001"))


def behind(service: Service) -> int:
    found: int = service.json("/v1/lag")["behind"]
    return found


def test_an_average_is_on_the_topic_and_explained(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    [cold] = averages(service, symbol="AAPL", kind="sma", window="3")
    assert (cold["warm"], cold["value"], cold["count"]) == (False, None, None)
    prices = [service.price("AAPL", wait_ms=5000) for _ in range(4)]
    eventually(lambda: averages(service, symbol="AAPL", kind="sma", window="3")[0]["warm"])

    def is_last() -> bool:
        [latest] = averages(service, symbol="AAPL", kind="sma", window="3")
        return bool(latest["id"] == "AAPL~4~sma:3")

    eventually(is_last)
    [average] = averages(service, symbol="AAPL", kind="sma", window="3")
    total = sum((Decimal(str(price["price"])) for price in prices[1:]), Decimal(0))
    assert rounded(average["value"]) == rounded(total / 3)
    entries = average["explanation"]["entries"]
    assert [entry["event_id"] for entry in entries] == ["AAPL~2", "AAPL~3", "AAPL~4"]
    for entry in entries:
        receipt = service.json(f"/v1/events/{entry['event_id']}")
        assert (receipt["topic"], receipt["offset"]) == (topic, entry["offset"])
    records = kafka.read_all(f"{topic}-averages")
    [record] = [one for one in records if headers_of(one)["ce_id"] == b"AAPL~4~sma:3"]
    assert (record.partition(), record.offset()) == (average["partition"], average["offset"])
    value = json.loads(record.value() or b"", parse_float=Decimal)
    assert list(value) == [
        *("symbol", "kind", "window", "value", "timestamp", "count"),
        *("raw_response_id", "event_id"),
    ]
    assert value["value"] == average["value"]
    assert value["raw_response_id"] == prices[3]["raw_response_id"]
    assert headers_of(record)["ce_type"] == b"average.moved"


def test_one_that_nobody_configured_is_computed_on_request(service: Service) -> None:
    for _ in range(3):
        service.price("IBM", wait_ms=5000)
    [average] = averages(service, symbol="IBM", kind="wma", window="3")
    assert average["computed"] == "on request"
    assert average["id"] is None
    prices = [entry["price"] for entry in average["explanation"]["entries"]]
    weighted = sum(price * weight for weight, price in enumerate(prices, 1)) / 6
    assert rounded(average["value"]) == rounded(weighted)


@pytest.mark.parametrize(
    "query", ["symbol=A~B", "symbol=AAPL&kind=foo", "symbol=AAPL&kind=ema&window=5m"]
)
def test_a_wrong_question_says_what_is_right(service: Service, query: str) -> None:
    status, _, body = service.get(f"/v1/averages?{query}")
    assert status == 422
    assert len(json.loads(body)["detail"]) > 20


def test_others_records_count_and_tests_do_not(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    good: list[tuple[bytes | None, bytes | None]] = [
        (b"ACME", (VALUE % (price, at)).encode())
        for at, price in enumerate(("10.0", "20.0", "30.0"))
    ]
    produce(kafka, topic, good[:2])
    produce(kafka, topic, [(b"ACME", (VALUE % ("999", 9)).encode())], **{"pw-test": "1"})
    produce(kafka, topic, good[2:])
    eventually(lambda: behind(service) == 0)
    [average] = averages(service, symbol="ACME", kind="sma", window="3")
    assert str(average["value"]) == "20.00000"
    assert all(
        entry["event_id"] == f"{topic}/0/{entry['offset']}"
        for entry in average["explanation"]["entries"]
    )


def test_what_cannot_be_counted_is_set_aside_and_put_back_once(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    produce(kafka, topic, [(key, value) for _, key, value in POISON], mine="kept")
    eventually(lambda: behind(service) == 0)

    def letters(query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = service.json(f"/v1/dead-letters?{query}")["dead_letters"]
        # Each processor of the topic sets aside for itself.
        return [one for one in found if one["processor"] == "averages"]

    eventually(lambda: len(letters()) == len(POISON))
    oldest_first = sorted(letters(), key=lambda one: one["origin_offset"])
    assert [one["error_class"] for one in oldest_first] == [name for name, _, _ in POISON]
    for told, (_, key, value) in zip(oldest_first, POISON, strict=True):
        whole = service.json(f"/v1/dead-letters/{told['id']}")
        assert base64.b64decode(whole["value"]) == (value or b"")
        assert whole["key"].encode() == key
        assert whole["headers"] == [["mine", "kept"]]
        assert (whole["origin_topic"], whole["processor"]) == (topic, "averages")
    before = len(kafka.read_all(topic))
    tombstone = oldest_first[-1]["id"]
    dry = settle(service, "redrive", {"ids": [tombstone]})
    assert (dry["dry_run"], dry["dead_letters"][0]["state"]) == (True, "open")
    assert len(kafka.read_all(topic)) == before
    for new_offset in (True, False):
        again = settle(service, "redrive", {"ids": [tombstone], "dry_run": False})
        assert again["dead_letters"][0]["state"] == "redriven"
        assert ("new_offset" in again["dead_letters"][0]) is new_offset
    # It is as poisonous as before: set aside once more, as a letter of its own.
    eventually(lambda: len(letters()) == len(POISON) + 1)
    back = [one for one in kafka.read_all(topic) if headers_of(one).get("pw-redrive")]
    assert [one.value() for one in back] == [None]
    settle(service, "drop", {"error_class": "schema", "dry_run": False})
    assert {one["state"] for one in letters("error_class=schema")} == {"dropped"}
    assert len(letters("state=open")) == len(POISON) - 3
    status, _, body = post(service, "/v1/dead-letters/drop", {"nonsense": 1})
    assert status == 422, body


def test_a_dropped_event_of_ours_is_lost_for_good(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    """Its gap is open while it may still be put back; `dlq drop` closes it, and it is counted."""
    source = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/7"
    for sequence in (1, 2, 3):
        price = "NaN" if sequence == 2 else "1.5"
        value = (VALUE % (price, sequence)).replace("ACME", "GAPS").encode()
        identity = {"ce_source": source, "ce_id": f"GAPS~{sequence}"}
        produce(kafka, topic, [(b"GAPS", value)], **identity)

    def counters() -> tuple[int, int]:
        found = service.json("/v1/lag")["lag"]
        lag = [one for one in found if one["processor"] == "averages"]
        missing, lost = (sum(one["counters"][n] for one in lag) for n in ("missing", "lost"))
        return missing, lost

    eventually(lambda: counters() == (1, 0))
    [letter] = [
        one
        for one in service.json("/v1/dead-letters?state=open")["dead_letters"]
        if (one["key"], one["processor"]) == ("GAPS", "averages")
    ]
    settle(service, "drop", {"ids": [letter["id"]], "dry_run": True})
    for _ in range(2):
        settle(service, "drop", {"ids": [letter["id"]], "dry_run": False})
    eventually(lambda: counters() == (0, 1))
    # A drop is final: it cannot be put back afterwards, and where it comes all the same, not count.
    [told] = settle(service, "redrive", {"ids": [letter["id"]], "dry_run": False})["dead_letters"]
    assert told["state"] == "dropped"
    value = (VALUE % ("1.5", 2)).replace("ACME", "GAPS").encode()
    produce(kafka, topic, [(b"GAPS", value)], ce_source=source, ce_id="GAPS~2")
    eventually(lambda: behind(service) == 0)
    [average] = averages(service, symbol="GAPS", kind="sma", window="3")
    assert (average["warm"], average["explanation"]["missing"]) == (False, [])


def test_the_command_line_shows_lag_and_dead_letters(service: Service) -> None:
    lag = cli(service, "lag")
    assert lag.returncode == 0, lag.stderr
    assert "averages" in lag.stdout
    # Nobody wrote to price-history: there is no position, and no word for one.
    assert "None" not in lag.stdout
    listed = cli(service, "dlq", "list", "--state", "open")
    assert "not_json" in listed.stdout
    nothing = cli(service, "dlq", "drop", "--error-class", "not_json")
    assert "nothing was done" in nothing.stdout
    wrong = cli(service, "dlq", "show", "x")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)


def test_the_command_line_says_when_nobody_answers(tmp_path: Path) -> None:
    gone = subprocess.run(
        [PRICEWIRE, "lag"], capture_output=True, text=True, env={"API_PORT": "1"}, check=False
    )
    assert gone.returncode == 1
    assert "pricewire up" in gone.stderr
    assert len(gone.stderr.splitlines()) == 1


def cli(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"API_PORT": str(service.port), "COLUMNS": "200"}
    return subprocess.run(
        [PRICEWIRE, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def settle(service: Service, verb: str, choice: dict[str, object]) -> dict[str, Any]:
    status, _, body = post(service, f"/v1/dead-letters/{verb}", choice)
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def post(service: Service, path: str, body: object) -> tuple[int, dict[str, str], bytes]:
    return service.get(path, method="POST", body=json.dumps(body))
