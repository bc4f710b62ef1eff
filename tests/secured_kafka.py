"""A real broker that asks who comes: listeners with TLS and SASL, users, and access lists.

The security and permission tests run the service against it. Invariants: the plain listener is for
the test alone, which may do everything there; each other listener is one way in that a service may
be told to take; and every secret of a service holds `CANARY`, so that a search finds it anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.certificates import Authority, Files
from tests.cluster_tools import Cluster
from tests.kafka_tools import free_port

CANARY = "canary-6Qz9"
PASSWORD = f"{CANARY}-of-the-user"
KEY_PASSWORD = f"{CANARY}-of-the-key"

LISTENERS = {
    "SSL": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SASL_SSL": "SASL_SSL",
}
"""Name of a listener: the security protocol that it speaks."""


@dataclass
class SecuredKafka:
    """One broker; `environment` tells a service how to come in by one of its listeners."""

    cluster: Cluster
    authority: Authority
    stranger: Authority
    ports: dict[str, int]
    client: Files
    strange_client: Files

    def environment(
        self, listener: str, mechanism: str | None = None, **more: str
    ) -> dict[str, str]:
        protocol = LISTENERS[listener]
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{self.ports[listener]}",
            "KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.endswith("SSL"):
            settings["KAFKA_SSL_CA_LOCATION"] = str(self.authority.certificate)
        if listener == "MUTUAL":
            settings["KAFKA_SSL_CERTIFICATE_LOCATION"] = str(self.client.certificate)
            settings["KAFKA_SSL_KEY_LOCATION"] = str(self.client.key)
            settings["KAFKA_SSL_KEY_PASSWORD"] = KEY_PASSWORD
        if protocol.startswith("SASL"):
            settings["KAFKA_SASL_MECHANISM"] = mechanism or "PLAIN"
            settings["KAFKA_SASL_USERNAME"] = "relay"
            settings["KAFKA_SASL_PASSWORD"] = PASSWORD
        return settings | more

    def allow(self, topic: str, *rights: str, user: str = "relay") -> None:
        """Add one entry to the access list of `topic` for each of `rights`, such as `WRITE`."""
        self._add([_binding(topic, right, user, "ALLOW") for right in rights])

    def deny(self, topic: str, right: str, user: str = "relay") -> None:
        """Refuse what another right brings with it, as Write does Describe."""
        self._add([_binding(topic, right, user, "DENY")])

    def take_away(self, topic: str, *rights: str) -> None:
        """Remove the entries, allowing or denying, of `rights` on `topic`."""
        filters = [_filter(topic, right) for right in rights]
        admin = self.cluster.admin()
        for removed in admin.delete_acls(filters).values():
            removed.result(10)

    def _add(self, entries: Sequence[AclBinding]) -> None:
        admin = self.cluster.admin()
        for added in admin.create_acls(list(entries)).values():
            added.result(10)


def _binding(topic: str, right: str, user: str, verdict: str) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[right],
        AclPermissionType[verdict],
    )


def _filter(topic: str, right: str) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        None,  # type: ignore[arg-type]  # whoever it is for
        None,  # type: ignore[arg-type]  # from wherever
        AclOperation[right],
        AclPermissionType.ANY,
    )


@contextlib.contextmanager
def secured_kafka(folder: Path, *, access_lists: bool) -> Iterator[SecuredKafka]:
    """Run the broker; without `access_lists` whoever proves who he is may do everything."""
    ours, strange = Authority(folder, "ours"), Authority(folder, "strange")
    stores = {
        "SSL": ours.server("broker"),
        "EXPIRED": ours.server("expired", days=-1),
        "ELSEWHERE": ours.server("elsewhere", "kafka.example"),
    }
    ports = {name: free_port() for name in LISTENERS}
    properties = _properties(ports, stores, ours, access_lists=access_lists)
    options = [
        part
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for part in ("--add-scram", f"{mechanism}=[name=relay,password={PASSWORD}]")
    ]
    with Cluster(folder / "kafka", properties=properties, format_options=options) as cluster:
        yield SecuredKafka(
            cluster,
            ours,
            strange,
            ports,
            client=ours.client("relay", KEY_PASSWORD),
            strange_client=strange.client("relay"),
        )


def _properties(
    ports: dict[str, int], stores: dict[str, Files], ours: Authority, *, access_lists: bool
) -> dict[str, str]:
    """Return what makes the plain listener the test's own and gives each other one its rules."""
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    advertised = [f"{name}://localhost:{port}" for name, port in ports.items()]
    protocols = [f"{name}:{protocol}" for name, protocol in LISTENERS.items()]
    own = "PLAINTEXT://127.0.0.1:$port"
    properties = {
        "listeners": ",".join([own, "CONTROLLER://127.0.0.1:$controller_port", *listeners]),
        "advertised.listeners": ",".join([own, *advertised]),
        "listener.security.protocol.map": ",".join(
            ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *protocols]
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false" if access_lists else "true",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    }
    for name, protocol in LISTENERS.items():
        prefix = f"listener.name.{name.lower()}"
        if protocol.endswith("SSL"):
            properties |= _tls(prefix, stores.get(name, stores["SSL"]), ours)
        if protocol.startswith("SASL"):
            properties |= _sasl(prefix)
    return properties | {"listener.name.mutual.ssl.client.auth": "required"}


def _tls(prefix: str, store: Files, ours: Authority) -> dict[str, str]:
    return {
        f"{prefix}.ssl.keystore.type": "PEM",
        f"{prefix}.ssl.keystore.location": str(store.both),
        f"{prefix}.ssl.truststore.type": "PEM",
        f"{prefix}.ssl.truststore.location": str(ours.certificate),
        # A broker checks that it would trust itself, and would not start with the wrong ones.
        f"{prefix}.ssl.endpoint.identification.algorithm": "",
    }


def _sasl(prefix: str) -> dict[str, str]:
    modules = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in ("relay", "stranger"))
    scram = f"{modules}.scram.ScramLoginModule required;"
    return {
        f"{prefix}.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule required {users};",
        f"{prefix}.scram-sha-256.sasl.jaas.config": scram,
        f"{prefix}.scram-sha-512.sasl.jaas.config": scram,
    }
