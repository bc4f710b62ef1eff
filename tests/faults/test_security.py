"""The link to Kafka, encrypted and with a password: it works, and what is wrong with it is said.

Real brokers, certificates made here, the service as its users run it. Each wrong link is one line
in the log, the same in `/health/ready` and in the event's receipt, with the setting to look at and
no secret; what was recorded meanwhile is published, once and in order, after it was mended.
"""

from __future__ import annotations

import logging
import re
import subprocess
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Connection
from pricewire.kafka.probe import Probe
from tests.secured_kafka import CANARY, SecuredKafka, secured_kafka
from tests.service_tools import (
    PRICEWIRE,
    Service,
    assert_all_published,
    assert_each_once_in_order,
    eventually,
    published,
)

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

LINKS = {
    "SSL": ("SSL", None),
    "SSL with a client certificate": ("MUTUAL", None),
    "SASL_PLAINTEXT, PLAIN": ("SASL_PLAINTEXT", "PLAIN"),
    "SASL_PLAINTEXT, SCRAM-SHA-256": ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    "SASL_PLAINTEXT, SCRAM-SHA-512": ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    "SASL_SSL, PLAIN": ("SASL_SSL", "PLAIN"),
    "SASL_SSL, SCRAM-SHA-256": ("SASL_SSL", "SCRAM-SHA-256"),
    "SASL_SSL, SCRAM-SHA-512": ("SASL_SSL", "SCRAM-SHA-512"),
}

WRONG = {
    "password, PLAIN": ("SASL_PLAINTEXT", r"refuses the user name or the password.*SASL_PASSWORD"),
    "password, SCRAM": ("SASL_SSL", r"refuses the user name or the password.*SASL_PASSWORD"),
    "authority": ("SSL", r"not of an authority that is trusted.*KAFKA_SSL_CA_LOCATION"),
    "expired": ("EXPIRED", r"certificate of Kafka at localhost:\d+ has expired"),
    "host": ("ELSEWHERE", r"for another host name.*KAFKA_BOOTSTRAP_SERVERS"),
    "certificate": ("MUTUAL", r"wants a client certificate.*KAFKA_SSL_CERTIFICATE_LOCATION"),
}
"""What is wrong: the listener that is asked, and the line that says it."""


@pytest.fixture(scope="module")
def kafka_asks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured"), access_lists=False) as kafka:
        yield kafka


def wrong(name: str, kafka: SecuredKafka) -> dict[str, str]:
    """Return the settings of a link with one thing wrong."""
    listener, _ = WRONG[name]
    password = f"{CANARY}-no-longer-right"
    return {
        "password, PLAIN": lambda: kafka.environment(
            listener, "PLAIN", KAFKA_SASL_PASSWORD=password
        ),
        "password, SCRAM": lambda: kafka.environment(
            listener, "SCRAM-SHA-512", KAFKA_SASL_PASSWORD=password
        ),
        "authority": lambda: kafka.environment(
            listener, KAFKA_SSL_CA_LOCATION=str(kafka.stranger.certificate)
        ),
        "expired": lambda: kafka.environment(listener),
        "host": lambda: kafka.environment(listener),
        "certificate": lambda: kafka.environment(
            listener,
            KAFKA_SSL_CERTIFICATE_LOCATION=str(kafka.strange_client.certificate),
            KAFKA_SSL_KEY_LOCATION=str(kafka.strange_client.key),
            KAFKA_SSL_KEY_PASSWORD="",
        ),
    }[name]()


def right(name: str, kafka: SecuredKafka) -> dict[str, str]:
    listener, _ = WRONG[name]
    renewed = {"EXPIRED": "SSL", "ELSEWHERE": "SSL"}
    return kafka.environment(renewed.get(listener, listener), "SCRAM-SHA-512")


def service_for(home: Path, topic: str, link: dict[str, str]) -> Service:
    return Service(
        home,
        {
            "KAFKA_PRICE_EVENTS_TOPIC": topic,
            "HISTORY_INTERVAL_SECONDS": "0.02",
            "KAFKA_PRODUCER_ATTEMPT_SECONDS": "0.5",
            "SHUTDOWN_SECONDS": "2",
            **link,
        },
    )


def started_at_once(services: list[Service]) -> None:
    with ThreadPoolExecutor() as threads:
        list(threads.map(Service.start, services))


@pytest.fixture(scope="module")
def links(
    kafka_asks: SecuredKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Service]]:
    """A running service for each right way in, all started at once."""
    services = {
        name: service_for(
            tmp_path_factory.mktemp("home"), f"link-{number}", kafka_asks.environment(*link)
        )
        for number, (name, link) in enumerate(LINKS.items())
    }
    try:
        started_at_once(list(services.values()))
        yield services
    finally:
        for service in services.values():
            service.kill()


@pytest.fixture(scope="module")
def wrong_links(
    kafka_asks: SecuredKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Service]]:
    """A running service for each wrong way in, all started at once."""
    services = {
        name: service_for(
            tmp_path_factory.mktemp("home"), f"wrong-{number}", wrong(name, kafka_asks)
        )
        for number, name in enumerate(WRONG)
    }
    try:
        started_at_once(list(services.values()))
        yield services
    finally:
        for service in services.values():
            service.kill()


@pytest.mark.parametrize("name", list(LINKS))
def test_events_go_over_the_link(
    links: dict[str, Service], name: str, kafka_asks: SecuredKafka
) -> None:
    service = links[name]
    price = service.price("AAPL", wait_ms=20_000)
    assert price["event"]["state"] == "published"
    topic = service.environment["KAFKA_PRICE_EVENTS_TOPIC"]
    [line] = kafka_asks.cluster.tools.console_consume(topic, 1)
    assert "ce_id:AAPL~1," in line
    assert f'"raw_response_id":"{price["raw_response_id"]}"' in line
    assert complaints(service) == []
    assert_tells_no_secret(service)
    assert service.stop() == 0


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_link_is_one_clear_line_and_nothing_is_lost(
    wrong_links: dict[str, Service], name: str, kafka_asks: SecuredKafka
) -> None:
    service, said = wrong_links[name], re.compile(WRONG[name][1])
    acknowledged = [service.price(symbol) for symbol in ("AAPL", "MSFT", "AAPL")]
    eventually(lambda: stuck_events(service) == ["AAPL~1", "MSFT~1"], 60)
    eventually(lambda: rebuilds(service) >= 18, 60)
    assert said.search(service.json("/v1/events/AAPL~1")["last_error"])
    parts = service.json("/health/ready")["parts"]
    assert parts["kafka"]["status"] == "down"
    assert said.search(parts["kafka"]["error"])
    assert all(said.search(shard["last_error"]) for shard in parts["relay"]["shards"])

    lines = complaints(service)
    assert len(set(lines)) == len(lines), lines
    [interrupted] = [line for line in lines if "relay.interrupted" in line]
    assert said.search(interrupted)
    assert stuck_events(service) == ["AAPL~1", "MSFT~1"]
    assert_tells_no_secret(service)
    assert service.stop() == 0

    service.environment |= right(name, kafka_asks)
    service.start()
    acknowledged += [service.price("AAPL")]
    eventually(service.drained, 60)
    records = published(kafka_asks.cluster.tools, service.environment["KAFKA_PRICE_EVENTS_TOPIC"])
    assert_all_published(acknowledged, records)
    assert_each_once_in_order(records)
    assert service.stop() == 0


def test_what_librdkafka_says_of_a_wrong_password_holds_no_secret(
    kafka_asks: SecuredKafka, caplog: pytest.LogCaptureFixture
) -> None:
    wrong_password = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "relay",
        "sasl.password": f"{CANARY}-no-longer-right",
    }
    connection = Connection(f"localhost:{kafka_asks.ports['SASL_PLAINTEXT']}", wrong_password)
    with caplog.at_level(logging.DEBUG, "librdkafka"), pytest.raises(KafkaUnavailable) as refused:
        Probe(connection, "test").answers(5)
    assert "invalid credentials" in caplog.text
    trace = "".join(traceback.format_exception(refused.value))
    assert CANARY not in caplog.text + trace + repr(connection)


def test_a_key_that_cannot_be_opened_is_refused_at_the_start(
    kafka_asks: SecuredKafka, tmp_path: Path
) -> None:
    link = kafka_asks.environment("MUTUAL", KAFKA_SSL_KEY_PASSWORD=f"{CANARY}-of-another-key")
    service = service_for(tmp_path / "home", "never", link)
    service.start(ready=False)
    assert service.process is not None
    assert service.process.wait(30) != 0
    [line] = service.log.splitlines()
    assert "KAFKA_SSL_KEY_LOCATION" in line
    assert "KAFKA_SSL_KEY_PASSWORD does not open it" in line
    assert CANARY not in line


def test_the_settings_are_printed_without_a_secret(
    kafka_asks: SecuredKafka, tmp_path: Path
) -> None:
    link = kafka_asks.environment("SASL_SSL") | {
        name: value
        for name, value in kafka_asks.environment("MUTUAL").items()
        if name.startswith("KAFKA_SSL")
    }
    printed = subprocess.run(
        [PRICEWIRE, "settings"], env=link, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(kafka_asks.client.key) in printed.stdout
    assert CANARY not in printed.stdout + printed.stderr


def complaints(service: Service) -> list[str]:
    """Return the lines from `warning` up, of us or of librdkafka, without their times."""
    told = [line for line in service.log.splitlines() if not re.search(r"\[info |^\w+ ", line)]
    return [re.sub(r"^\S+Z ", "", line) for line in told]


def stuck_events(service: Service) -> list[str]:
    return sorted(re.findall(r"event\.stuck.* event_id=(\S+)", service.log))


def rebuilds(service: Service) -> float:
    _, _, body = service.get("/metrics")
    return sum(
        map(
            float,
            re.findall(r"^pricewire_producer_rebuilds\S* (\S+)$", body.decode(), re.MULTILINE),
        )
    )


def assert_tells_no_secret(service: Service) -> None:
    """Neither the log nor any answer holds a part of a password."""
    told = [service.get(path)[2] for path in ("/health/ready", "/metrics", "/v1/events/AAPL~1")]
    assert CANARY not in service.log + str(told)
