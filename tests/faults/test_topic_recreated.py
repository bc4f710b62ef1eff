"""The topic is deleted and made anew under the relay: noticed, said, healed or stopped, verified.

What was published to the old topic is not on the new one, and `pricewire verify outbox` names it;
what waited is there, in order, each event once.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException, murmur2

from tests.kafka_tools import KafkaTools
from tests.service_tools import (
    PRICEWIRE,
    Load,
    Published,
    Service,
    eventually,
    published,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

SYMBOLS = ["AAPL", "MSFT", "IBM", "GOOG", "FB"]
PARTITIONS = 6


@dataclass(frozen=True)
class Verified:
    """What `pricewire verify outbox --json` said."""

    exit_code: int
    lacking: set[str]
    counts: dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A service that publishes to a topic which the test takes away."""

    kafka: KafkaTools
    topic: str
    service: Service

    def replace(self, partitions: int) -> None:
        """Delete the topic and make it anew; again where the service was quicker."""
        made = False
        while not made:
            self.kafka.delete_topic(self.topic)
            try:
                self.kafka.create_topic(self.topic, partitions)
                made = True
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def records(self) -> list[Published]:
        return published(self.kafka, self.topic)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.service.home),
            "PRICEWIRE_HOME": str(self.service.home),
            **self.service.environment,
        }
        return subprocess.run(
            [PRICEWIRE, *arguments],
            env=environment,
            cwd=self.service.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def verify(self) -> Verified:
        done = self.run("verify", "outbox", "--json")
        assert done.stdout, done.stderr
        *events, counts, history = [json.loads(line) for line in done.stdout.splitlines()]
        assert {event["kind"] for event in events} <= {"lacking"}, done.stdout
        assert (counts["topic"], history["published"]) == (self.topic, 0)
        return Verified(done.returncode, {event["id"] for event in events}, counts)

    def shards(self) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = self.service.json("/health/ready")["parts"]["relay"][
            "shards"
        ]
        return shards

    def has_published(self, events: int) -> bool:
        """Whether every shard with a symbol of ours has published so many."""
        busy = {murmur2(symbol.encode(), PARTITIONS) for symbol in SYMBOLS}
        return all(self.shards()[shard]["published"] >= events for shard in busy)

    def assert_every_event_is_there_or_named(self, acknowledged: list[dict[str, Any]]) -> None:
        """The new topic has each symbol's last events, in order; what lacks are the first."""
        eventually(self.service.drained, 40)
        verified = self.verify()
        there = [record.event_id for record in self.records()]
        assert len(set(there)) == len(there)
        assert set(there).isdisjoint(verified.lacking)
        assert {price["event"]["id"] for price in acknowledged} <= set(there) | verified.lacking
        for symbol, numbers in _by_symbol(there).items():
            lost = sorted(_by_symbol(verified.lacking)[symbol])
            assert lost + numbers == list(range(1, len(lost) + len(numbers) + 1)), symbol
        assert verified.exit_code == (1 if verified.lacking else 0)
        assert verified.counts["published"] == len(there) + len(verified.lacking)
        assert verified.counts["lacking"] == len(verified.lacking)


def _by_symbol(ids: set[str] | list[str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for event_id in ids:
        symbol, _, number = event_id.rpartition("~")
        numbers[symbol].append(int(number))
    return numbers


@pytest.fixture
def scene(kafka: KafkaTools, tmp_path: Path) -> Iterator[Scene]:
    topic = f"recreated-{uuid4().hex[:8]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS),
        "KAFKA_PRODUCER_ATTEMPT_SECONDS": "0.5",
        "HISTORY_INTERVAL_SECONDS": "0.01",
    }
    service = Service(tmp_path / "home", environment)
    try:
        service.start()
        eventually(service.publishes, 40)
        yield Scene(kafka, topic, service)
    finally:
        service.kill()


def test_made_anew_under_load_it_is_published_to_from_the_first_event_that_waits(
    scene: Scene,
) -> None:
    with Load(scene.service, SYMBOLS, threads=4) as load:
        eventually(lambda: scene.has_published(20), 40)
        scene.replace(PARTITIONS)
        eventually(lambda: scene.service.log.count("topic.replaced") >= 4, 30)
        before = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) >= before + 200)
    scene.assert_every_event_is_there_or_named(load.acknowledged)
    assert scene.verify().counts["lacking"] >= 20 * 4
    assert "pricewire verify outbox" in scene.service.log
    assert scene.service.stop() == 0


def test_deleted_under_load_and_made_by_the_relay_itself(scene: Scene) -> None:
    with Load(scene.service, SYMBOLS, threads=4) as load:
        eventually(lambda: scene.has_published(20), 40)
        scene.kafka.delete_topic(scene.topic)
        eventually(lambda: scene.service.log.count("topic.replaced") >= 4, 40)
    scene.assert_every_event_is_there_or_named(load.acknowledged)


def test_made_anew_with_fewer_partitions_it_is_left_alone_until_it_is_right(scene: Scene) -> None:
    with Load(scene.service, SYMBOLS, threads=2) as load:
        eventually(lambda: scene.has_published(20), 40)
        scene.replace(2)
        eventually(lambda: _all_say(scene, "KAFKA_TOPIC_PARTITIONS=2"), 20)
    out_of_place = len(scene.records())
    eventually(lambda: sum(shard["stuck"] is not None for shard in scene.shards()) >= 4)
    report = scene.service.json("/health/ready")
    assert report["status"] == "degraded"
    assert report["parts"]["relay"]["status"] == "stuck"
    assert {shard["phase"] for shard in scene.shards()} == {"topic is not as configured"}
    assert len(scene.records()) == out_of_place
    said = [line for line in scene.service.log.splitlines() if "topic.mismatch" in line]
    assert len(said) == PARTITIONS
    assert all("has 2 partitions, KAFKA_TOPIC_PARTITIONS says 6" in line for line in said)
    assert "Traceback" not in scene.service.log

    scene.replace(PARTITIONS)
    eventually(scene.service.drained, 40)
    eventually(lambda: scene.service.json("/health/ready")["status"] == "up")
    scene.assert_every_event_is_there_or_named(load.acknowledged)


def _all_say(scene: Scene, text: str) -> bool:
    return all(text in (shard["last_error"] or "") for shard in scene.shards())


def test_made_anew_by_a_console_consumer_that_asks_first(scene: Scene) -> None:
    """Its settings are the broker's, and so is the number of partitions, which is ours."""
    prices = [scene.service.price(SYMBOLS[turn % 5]) for turn in range(20)]
    eventually(scene.service.drained)
    with ThreadPoolExecutor() as threads:
        scene.kafka.delete_topic(scene.topic)
        shown = threads.submit(scene.kafka.console_consume, scene.topic, 1)
        eventually(lambda: scene.service.log.count("topic.replaced") >= 4, 30)
        prices += [scene.service.price(SYMBOLS[turn % 5]) for turn in range(20)]
        assert len(shown.result(40)) == 1
    scene.assert_every_event_is_there_or_named(prices)
    assert len(scene.verify().lacking) == 20


def test_what_verify_prints_and_its_exit_codes(scene: Scene) -> None:
    for symbol in SYMBOLS * 6:
        scene.service.price(symbol)
    eventually(scene.service.drained)
    whole = scene.run("verify", "outbox")
    assert whole.returncode == 0, whole.stderr
    assert "30: 30 on the topic, 0 expired, 0 differing, 0 lacking" in whole.stdout
    assert "nothing lacks" in whole.stdout
    scene.replace(PARTITIONS)
    first = scene.run("verify", "outbox", "--limit", "3")
    assert first.returncode == 1, first.stderr
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["lacking"] * 3
    assert lines[3].endswith("and 27 more; --json names all")
    assert "0 expired, 0 differing, 30 lacking" in first.stdout
    assert scene.run("verify", "outbox", "--limit", "x").returncode == 2
    assert scene.run("verify", "nothing").returncode == 2
    assert scene.service.stop() == 0
    assert scene.verify().counts["lacking"] == 30
