"""Certificates for tests of TLS: authorities, servers' and clients', written as PEM files.

The security tests make what they need in a folder of their own. Invariant: keys are PKCS 8, which
is what Apache Kafka reads, and nothing that is made here is trusted anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Files:
    """One certificate and its key: apart, and in one file as a broker's key store has them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """A certificate authority of its own, and the folder of its files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ca = trustme.CA(organization_name=f"Pricewire tests, {name}")
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self.certificate = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.certificate)

    def server(self, name: str, *hosts: str, days: int = 30) -> Files:
        """Issue a server's certificate for `hosts`; negative `days`: it expired so long ago."""
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(
            *(hosts or ("localhost", "127.0.0.1")),
            not_before=now - timedelta(days=60),
            not_after=now + timedelta(days=days),
        )
        return self._write(name, issued)

    def client(self, name: str, password: str | None = None) -> Files:
        """Issue a client's certificate with `CN=name`; its key is encrypted with `password`."""
        return self._write(name, self._ca.issue_cert(f"{name}.test", common_name=name), password)

    def _write(self, name: str, issued: trustme.LeafCert, password: str | None = None) -> Files:
        files = Files(*(self._folder / f"{name}{end}.pem" for end in ("", "-key", "-both")))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = _pkcs8(issued.private_key_pem.bytes(), password)
        files.certificate.write_bytes(chain)
        files.key.write_bytes(key)
        files.both.write_bytes(key + chain)
        return files


def _pkcs8(pem: bytes, password: str | None) -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    key = load_pem_private_key(pem, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
