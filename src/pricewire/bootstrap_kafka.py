"""The composition root's half for Kafka: which one is used, and the local one's life.

`bootstrap` and the CLI call it. Invariant: only a loopback address, or none, is ever answered by
starting a local Kafka; any other address is used as it is.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pricewire.kafka.client import Config, Connection
from pricewire.kafka.local import LocalKafka
from pricewire.kafka.memory import MemoryKafka
from pricewire.settings import Settings

__all__ = ["Connection", "LocalKafka", "kafka_ready", "local_kafka", "named_kafka"]

Say = Callable[[str], None]


def local_kafka(settings: Settings, say: Say) -> LocalKafka:
    """Return the handle of the local Kafka; starts nothing."""
    return LocalKafka(
        home=settings.home / "kafka",
        port=_local_port(settings) or settings.local_kafka_port,
        heap_mb=settings.local_kafka_heap_mb,
        kafka_home=settings.kafka_home,
        partitions=settings.kafka_topic_partitions,
        say=say,
    )


@contextmanager
def kafka_ready(settings: Settings, say: Say) -> Iterator[Connection]:
    """Give a connection: to the named Kafka, a local one started for it, or the in-memory one.

    Raises:
        StartupError: the local Kafka cannot be started.
    """
    port = _local_port(settings)
    if port is None or (settings.kafka_bootstrap_servers and _listens(port)):
        yield named_kafka(settings)
        return
    local = local_kafka(settings, say)
    missing = local.missing()
    if missing is None:
        with _running_local(local) as servers:
            yield Connection(servers)
    elif settings.kafka_bootstrap_servers:
        say(f"nothing listens at {settings.kafka_bootstrap_servers}, and no local Kafka can be "
            f"started there: {missing}; events are kept until it is there")  # fmt: skip
        yield named_kafka(settings)
    else:
        say(f"WARNING: {missing}; using librdkafka's in-memory cluster instead of Apache Kafka: "
            "nothing of the topic survives this process, and admin calls are missing")  # fmt: skip
        with _memory() as connection:
            yield connection


def named_kafka(settings: Settings) -> Connection:
    """Return the connection that the settings name; nothing is started.

    Raises:
        StartupError: a key or certificate is missing or cannot be used.
    """
    servers = settings.kafka_bootstrap_servers or f"localhost:{settings.local_kafka_port}"
    connection = Connection(servers, _security(settings))
    if settings.kafka_security_protocol != "PLAINTEXT":
        connection.check()
    return connection


@contextmanager
def _running_local(local: LocalKafka) -> Iterator[str]:
    """A Kafka that was started by hand stays when the service stops; one of ours does not."""
    servers = local.start(started_by="up").bootstrap_servers
    try:
        yield servers
    finally:
        if local.status().started_by == "up":
            local.stop()


@contextmanager
def _memory() -> Iterator[Connection]:
    memory = MemoryKafka()
    try:
        yield Connection(memory.bootstrap_servers, in_memory=True)
    finally:
        memory.close()


def _local_port(settings: Settings) -> int | None:
    """Return the port at which a local Kafka may be started, None where it must not be."""
    servers = settings.kafka_bootstrap_servers
    if servers is None:
        return settings.local_kafka_port
    host, _, port = servers.rpartition(":")
    plain = settings.kafka_security_protocol == "PLAINTEXT"
    return int(port) if plain and port.isdigit() and _is_loopback(host) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _security(settings: Settings) -> Config:
    config: dict[str, Any] = {"security.protocol": settings.kafka_security_protocol}
    optional = {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "ssl.certificate.location": settings.kafka_ssl_certificate_location,
        "ssl.key.location": settings.kafka_ssl_key_location,
        "ssl.key.password": settings.kafka_ssl_key_password,
    }
    for name, value in optional.items():
        if isinstance(value, SecretStr):
            config[name] = value.get_secret_value()
        elif isinstance(value, Path):
            config[name] = str(value.expanduser())
        elif value is not None:
            config[name] = value
    return config
