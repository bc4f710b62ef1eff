"""How every client of ours reaches the brokers: addresses, security, and what librdkafka logs.

The composition root fills `Connection`; producer, topic and tail reader build on `base`. Invariant:
no password is in `repr`, and librdkafka's own lines go through our log, not to stderr.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

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

    def _addresses(self) -> Config:
        """A broker on this machine listens on IPv4: trying ::1 first costs a refusal each time."""
        hosts = {server.rpartition(":")[0] for server in self.servers.split(",")}
        return {"broker.address.family": "v4"} if hosts <= {"localhost", "127.0.0.1"} else {}
