"""Poison of ten kinds among good events: set aside untouched, nothing else lost, put back once.

`PRICEWIRE_TEST_POISON` and `PRICEWIRE_TEST_GOOD` make it longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Message, Producer

from tests.faults.processor_tools import SOURCE, Feed, partition_of, price_of
from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, running

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

POISON = int(os.environ.get("PRICEWIRE_TEST_POISON", "200"))
GOOD = int(os.environ.get("PRICEWIRE_TEST_GOOD", "10000"))
SYMBOLS = 100
REASONS = {
    *("pw-origin-topic", "pw-origin-partition", "pw-origin-offset"),
    *("pw-processor", "pw-error-class", "pw-error"),
}
Bad = tuple[bytes | None, bytes | None]


def value_of(symbol: str, sequence: int, price: str) -> bytes:
    return (
        f'{{"symbol":"{symbol}","price":{price},"timestamp":"2024-03-20T10:30:00Z",'
        f'"source":"test","raw_response_id":"{UUID(int=sequence)}"}}'
    ).encode()


def poisoned(kind: str, symbol: str, sequence: int) -> Bad:
    key, good = symbol.encode(), value_of(symbol, sequence, "1.5")
    made: dict[str, Bad] = {
        "not JSON": (key, good[:-1]),
        "wrong types": (key, good.replace(b'"test"', b"[7]")),
        "NaN": (key, value_of(symbol, sequence, "NaN")),
        "price as string": (key, value_of(symbol, sequence, '"1.5"')),
        "missing member": (key, good.replace(b'"source":"test",', b"")),
        "1 MB": (key, good[:-1] + b" " * (1_000_000 - len(good)) + b"}"),
        "empty": (key, b""),
        "tombstone": (key, None),
        "registry-framed": (key, b"\x00\x00\x00\x00\x07" + good),
        "wrong key": (f"{symbol}X".encode(), good),
    }
    return made[kind]


KINDS = {
    "not JSON": "not_json",
    "wrong types": "schema",
    "NaN": "not_json",
    "price as string": "schema",
    "missing member": "schema",
    "1 MB": "size",
    "empty": "not_json",
    "tombstone": "tombstone",
    "registry-framed": "not_json",
    "wrong key": "key",
}


@pytest.fixture
def service(kafka: KafkaTools, tmp_path: Path) -> Iterator[Service]:
    topic = f"events-{uuid4().hex[:8]}"
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_MOVING_AVERAGES_TOPIC": f"{topic}-averages",
        "KAFKA_GROUP_PREFIX": topic,
        "KAFKA_TOPIC_RETENTION_HOURS": "-1",
        "CHECKPOINT_SECONDS": "0.3",
    }
    kafka.create_topic(topic, 6, {"max.message.bytes": "2097152"})
    with running(Service(tmp_path, settings)) as service:
        yield service


def topic_of(service: Service) -> str:
    return service.environment["KAFKA_PRICE_EVENTS_TOPIC"]


PROCESSORS = ("averages", "candles")
"""Those of the topic; each sets aside for itself."""


def lag_of(service: Service, processor: str = "averages") -> tuple[int, dict[str, int]]:
    """How much is still to count by anybody, and what one has counted over all partitions."""
    told = service.json("/v1/lag")
    counted: dict[str, int] = defaultdict(int)
    for one in told["lag"]:
        if one["processor"] == processor:
            for name, count in one["counters"].items():
                counted[name] += count
    return told["behind"], counted


def raw_headers(message: Message) -> list[tuple[str, bytes | None]]:
    headers: Any = message.headers() or []
    return list(headers)


def feed_with_poison(service: Service, kafka: KafkaTools) -> dict[tuple[int, int], tuple[str, Bad]]:
    """Put good events on the topic and poison among them; return that by its place."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers,
                         "message.max.bytes": 2_000_000})  # fmt: skip
    feed = Feed(kafka.bootstrap_servers, topic_of(service), SYMBOLS, GOOD, 0, random.Random(7))
    offsets: dict[int, int] = defaultdict(int)
    sent: dict[tuple[int, int], tuple[str, Bad]] = {}
    kinds = list(KINDS)
    for number in range(GOOD):
        name, sequence = f"S{number % SYMBOLS}", number // SYMBOLS + 1
        feed._produce(producer, name, sequence)
        offsets[partition_of(name)] += 1
        if number % (GOOD // POISON) == 0:
            kind = kinds[len(sent) % len(kinds)]
            key, value = poisoned(kind, name, sequence)
            place = partition_of(name)
            extra: Any = [("mine", b"\xff\x00"), ("mine", None), ("number", str(number).encode())]
            producer.produce(topic_of(service), value, key, place, headers=extra)
            sent[place, offsets[place]] = kind, (key, value)
            offsets[place] += 1
        if number % 200 == 0:
            producer.flush(30)
    assert producer.flush(60) == 0
    assert len(sent) == POISON
    return sent


def test_poison_is_set_aside_untouched_and_all_else_is_counted(
    service: Service, kafka: KafkaTools
) -> None:
    sent = feed_with_poison(service, kafka)
    eventually(lambda: lag_of(service)[1]["taken"] == GOOD, 120, pause=0.3)
    eventually(lambda: lag_of(service)[0] == 0, 60)
    for processor in PROCESSORS:
        _, counted = lag_of(service, processor)
        assert (counted["taken"], counted["dead_letters"], counted["missing"]) == (GOOD, POISON, 0)
    found: dict[str, dict[tuple[int, int], str]] = {processor: {} for processor in PROCESSORS}
    for message in kafka.each(f"{topic_of(service)}.dlq"):
        headers = raw_headers(message)
        reasons = {name: value or b"" for name, value in headers if name in REASONS}
        place = int(reasons["pw-origin-partition"]), int(reasons["pw-origin-offset"])
        kind, (key, value) = sent[place]
        mine = found[reasons["pw-processor"].decode()]
        assert place not in mine
        mine[place] = reasons["pw-error-class"].decode()
        assert (message.key(), message.value()) == (key, value)
        assert headers[:2] == [("mine", b"\xff\x00"), ("mine", None)]
        assert [name for name, _ in headers if name not in REASONS] == ["mine", "mine", "number"]
        assert reasons["pw-origin-topic"].decode() == topic_of(service)
        assert reasons["pw-error"]
        assert mine[place] == KINDS[kind]
    for processor, mine in found.items():
        assert mine.keys() == sent.keys()
        told = Counter(mine.values())
        print(f"{processor}: {GOOD} good events counted, {len(mine)} set aside: {told}")


def test_put_back_after_a_fix_each_counts_once(service: Service, kafka: KafkaTools) -> None:
    """What a reader that was too strict refused, one that is right takes, and no more than once.

    A limit of 100 bytes, as if by mistake, is the defect; the program without it is the fix.
    """
    assert service.stop() == 0
    strict = Service(service.home, service.environment, program=STRICT, port=service.port)
    count, source = 40, SOURCE.replace("/1", "/3")
    with running(strict):
        produce_ours(kafka, topic_of(service), source, count)
        for processor in PROCESSORS:
            eventually(lambda: lag_of(strict, processor)[1]["dead_letters"] == count, 60)  # noqa: B023
            assert lag_of(strict, processor)[1]["taken"] == 0
        assert strict.stop() == 0
    service.start()
    dry = settle(service, {"error_class": "size"})
    assert (len(dry), {one["state"] for one in dry}) == (len(PROCESSORS) * count, {"open"})
    assert put_back(service, kafka) == []
    first = settle(service, {"ids": [dry[0]["id"], dry[0]["id"]], "dry_run": False})
    assert [one["state"] for one in first] == ["redriven"]
    killed_while_putting_back(service, kafka)
    service.start()

    def nothing_is_left() -> bool:
        settle(service, {"error_class": "size", "dry_run": False})
        return settle(service, {"error_class": "size"}) == []

    eventually(nothing_is_left, 60, pause=1)
    assert sorted(put_back(service, kafka)) == sorted(
        (f"FIXED~{one + 1}", processor) for one in range(count) for processor in PROCESSORS
    )
    eventually(lambda: lag_of(service)[0] == 0, 30)
    names = ("taken", "repeats", "missing", "lost", "dead_letters")
    for processor in PROCESSORS:
        counted = lag_of(service, processor)[1]
        assert [counted[name] for name in names] == [count, 0, 0, 0, count]


STRICT = (sys.executable, str(Path(__file__).with_name("strict_reader.py")))


def killed_while_putting_back(service: Service, kafka: KafkaTools) -> None:
    before = len(put_back(service, kafka))

    def ask() -> None:
        with contextlib.suppress(OSError, HTTPException):
            settle(service, {"error_class": "size", "dry_run": False})

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: len(put_back(service, kafka)) > before + 3, 60)
    service.kill()
    asking.join()


def put_back(service: Service, kafka: KafkaTools) -> list[tuple[str, str]]:
    """The ids of what was put back, and for whom, in the topic's order."""
    headers = [dict(raw_headers(one)) for one in kafka.each(topic_of(service))]
    return [
        ((one["ce_id"] or b"").decode(), (one["pw-redrive-for"] or b"").decode())
        for one in headers
        if "pw-redrive" in one
    ]


def produce_ours(kafka: KafkaTools, topic: str, source: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for sequence in range(1, count + 1):
        value = value_of("FIXED", sequence, f"{price_of('FIXED', sequence):.2f}")
        headers: Any = [
            ("ce_specversion", b"1.0"),
            ("ce_id", f"FIXED~{sequence}".encode()),
            ("ce_type", b"price.recorded"),
            ("ce_source", source.encode()),
            ("content-type", b"application/json"),
        ]
        producer.produce(topic, value, "FIXED", partition_of("FIXED"), headers=headers)
    assert producer.flush(30) == 0


def settle(service: Service, choice: dict[str, object]) -> list[dict[str, Any]]:
    status, _, body = service.get(
        "/v1/dead-letters/redrive", method="POST", body=json.dumps(choice), timeout=60
    )
    assert status == 200, body
    letters: list[dict[str, Any]] = json.loads(body)["dead_letters"]
    return letters
