"""Rights on the topic: a missing one is said, one that is taken away for a while costs nothing.

A real broker with access lists; the service comes as a user who may do only what the test allows.
What needs no right here is tested along: the consumer group of the tail reader, which is never
used, and the topic's configuration, which is only checked less without.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checks import SYMBOLS, assert_nothing_lost, await_flow, await_more, publishing
from tests.secured_kafka import CANARY, SecuredKafka, secured_kafka
from tests.service_tools import Load, Service, eventually, running

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

NEEDED = ("DESCRIBE", "CREATE", "READ", "WRITE")
AWAY_SECONDS = 2.0


@pytest.fixture(scope="module")
def kafka_asks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("lists"), access_lists=True) as kafka:
        yield kafka


def settings(kafka: SecuredKafka, topic: str, user: str = "relay") -> dict[str, str]:
    return kafka.environment(
        "SASL_PLAINTEXT",
        KAFKA_SASL_USERNAME=user,
        KAFKA_PRICE_EVENTS_TOPIC=topic,
        KAFKA_TOPIC_PARTITIONS="3",
        KAFKA_PRODUCER_ATTEMPT_SECONDS="0.5",
        HISTORY_INTERVAL_SECONDS="0.01",
        SHUTDOWN_SECONDS="2",
    )


@pytest.mark.parametrize("missing", ["DESCRIBE", "CREATE", "READ", "WRITE", "WRITE anywhere"])
def test_a_missing_right_is_one_clear_line_and_nothing_is_lost(
    missing: str, kafka_asks: SecuredKafka, tmp_path: Path
) -> None:
    right, _, anywhere = missing.partition(" ")
    topic = f"lacks-{missing.lower().replace(' ', '-')}"
    # Who may write nowhere is refused the producer's id, a right on the cluster, before anything.
    user = "stranger" if anywhere else "relay"
    kafka_asks.allow("elsewhere", "WRITE", user="relay")
    kafka_asks.allow(topic, *(one for one in NEEDED if one != right), user=user)
    if right == "DESCRIBE":
        kafka_asks.deny(topic, right, user)
    if right == "READ":
        kafka_asks.allow(topic, "DESCRIBE", user=user)

    said = f"does not allow {right.title()} on topic {topic}: grant it to the user of KAFKA_SASL"
    with running(Service(tmp_path / "home", settings(kafka_asks, topic, user))) as service:
        acknowledged = [service.price(symbol) for symbol in ("AAPL", "MSFT", "AAPL")]
        eventually(lambda: service.json("/v1/events/AAPL~1")["state"] == "stuck", 40)
        eventually(lambda: said in (service.json("/v1/events/AAPL~1")["last_error"] or ""))
        assert any(
            said in (shard["last_error"] or "")
            for shard in service.json("/health/ready")["parts"]["relay"]["shards"]
        )
        eventually(lambda: rebuilds(service) >= 3, 40)
        [line] = lines(service, "relay.interrupted")
        assert said in line
        assert lines(service, "librdkafka|FATAL") == []

        kafka_asks.take_away(topic, right)
        kafka_asks.allow(topic, right, user=user)
        acknowledged += [service.price("AAPL")]
        eventually(lambda: lines(service, "relay.resumed") != [], 40)
        assert_nothing_lost(service, kafka_asks.cluster, acknowledged, topic=topic)
        assert len(lines(service, "relay.interrupted")) == 1
        assert len(lines(service, "topic.not_checked")) == 1
        assert CANARY not in service.log


@pytest.mark.parametrize("taken", ["WRITE", "DESCRIBE", "everything"])
def test_a_right_taken_away_for_two_seconds_and_given_back(
    taken: str, kafka_asks: SecuredKafka, tmp_path: Path
) -> None:
    topic = f"without-{taken.lower()}"
    kafka_asks.allow(topic, *NEEDED)
    with publishing(tmp_path / "home", settings(kafka_asks, topic)) as service:
        with Load(service, SYMBOLS, threads=3) as load:
            await_flow(service)
            take(kafka_asks, topic, taken)
            began = time.monotonic()
            if taken != "DESCRIBE":
                eventually(lambda: lines(service, "relay.interrupted") != [])
            # Who writes already needs no Describe; only what begins anew does.
            time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
            kafka_asks.take_away(topic, "DESCRIBE")
            kafka_asks.allow(topic, *NEEDED)
            await_flow(service, 20)
            await_more(load, 50)
        assert_nothing_lost(service, kafka_asks.cluster, load.acknowledged, topic=topic)
        interrupted = lines(service, "relay.interrupted")
        assert len(interrupted) == len(set(interrupted)) <= 2, interrupted


def take(kafka: SecuredKafka, topic: str, taken: str) -> None:
    """Take a right away; Describe, which each of the others brings with it, is denied."""
    if taken == "DESCRIBE":
        kafka.deny(topic, taken)
    else:
        kafka.take_away(topic, *(NEEDED if taken == "everything" else (taken,)))


def lines(service: Service, pattern: str) -> list[str]:
    """Return the log's lines with `pattern`, without their times."""
    told = [line for line in service.log.splitlines() if re.search(pattern, line)]
    return [re.sub(r"^\S+Z ", "", line) for line in told]


def rebuilds(service: Service) -> float:
    _, _, body = service.get("/metrics")
    counts = re.findall(r"^pricewire_producer_rebuilds\S* (\S+)$", body.decode(), re.MULTILINE)
    return sum(map(float, counts))
