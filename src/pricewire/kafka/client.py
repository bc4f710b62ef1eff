"""How every client of ours reaches the brokers: addresses, security, and what librdkafka logs.

The composition root fills `Connection`; producer, topic and tail reader build on `base`. Invariant:
no password is in `repr`, and librdkafka's own lines go through our log, not to stderr.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pricewire.errors import StartupError

Config = dict[str, Any]

librdkafka_log = logging.getLogger("librdkafka")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and how to connect.

    Args:
        servers: `host:port,host:port`.
        security: librdkafka's security.*, sasl.* and ssl.* properties.
        in_memory: librdkafka's mock cluster, which knows no admin calls.
    """

    servers: str
    security: Config = field(default_factory=dict, repr=False)
    in_memory: bool = False

    def base(self, client: str) -> Config:
        """Return the properties that all clients share."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": f"pricewire-{client}",
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2_000,
            "enable.metrics.push": False,
            "log.connection.close": False,
            "logger": librdkafka_log,
            **self._addresses(),
            **self.security,
        }

    def check(self) -> None:
        """Have librdkafka read what the settings name, such as keys and certificates.

        Raises:
            StartupError: names the setting that it cannot use.
        """
        for name, path in self.security.items():
            if name.endswith(".location") and not os.access(path, os.R_OK):
                raise StartupError(f"{_setting(name)}={path}: there is no such file to be read")
        try:
            AdminClient(self.base("check"))
        except KafkaException as error:
            raise StartupError(_unusable(error.args[0].str())) from None

    def _addresses(self) -> Config:
        """A broker on this machine listens on IPv4: trying ::1 first costs a refusal each time."""
        hosts = {server.rpartition(":")[0] for server in self.servers.split(",")}
        return {"broker.address.family": "v4"} if hosts <= {"localhost", "127.0.0.1"} else {}


def _setting(librdkafka_name: str) -> str:
    return f"KAFKA_{librdkafka_name.replace('.', '_').upper()}"


def _unusable(text: str) -> str:
    """Return librdkafka's complaint about a property in the words of our settings."""
    found = re.search(r"(ssl|sasl)\.[a-z.]+(?= failed)", text)
    if found is None:
        return f"Kafka's client cannot use the settings: {text}"
    setting = _setting(found[0])
    reason = "it holds no PEM certificate"
    if setting == "KAFKA_SSL_KEY_LOCATION":
        reason = "it is no PEM key, or KAFKA_SSL_KEY_PASSWORD does not open it"
        if "mismatch" in text:
            reason = "it is not the key of KAFKA_SSL_CERTIFICATE_LOCATION"
    return f"{setting} cannot be used: {reason} ({text.rpartition(':')[2].strip()})"
