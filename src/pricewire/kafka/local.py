"""A local single-node Apache Kafka (KRaft), run from its Maven artifacts without Docker.

The composition root and the tests start, stop and look at it; calls block, so an event loop hands
them to a thread. Invariants: it listens on 127.0.0.1 only; its data, once formatted, is kept; what
was left half done (a fetch, a format, a start) never looks complete; and a process is signalled
only while it is provably the one that was started here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pricewire.errors import StartupError
from pricewire.kafka.local_data.install import (
    SHIPPED,
    fetch,
    installed_version,
    java,
    java_complaint,
    lines_from,
    locked,
    made_whole,
    run,
    write_atomically,
)

START_SECONDS = 30
_SECRET = re.compile("KEY|SECRET|PASSWORD|TOKEN|DATABASE_URL")


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to know about the local Kafka; `port` is the running broker's own."""

    running: bool
    answering: bool
    port: int
    pid: int | None
    started_by: str | None
    cluster_id: str | None
    version: str | None
    data: Path
    log: Path

    @property
    def bootstrap_servers(self) -> str:
        return f"localhost:{self.port}"


@dataclass(frozen=True, slots=True)
class _Process:
    """The state file: which process was started, told from a later one with the same pid."""

    pid: int
    began: str
    port: int
    started_by: str

    @property
    def alive(self) -> bool:
        return self.began != "" and _began(self.pid) == self.began


@dataclass(frozen=True)
class LocalKafka:
    """One broker in one folder.

    Args:
        home: its data, configuration, logs and state file.
        port: the client listener, on loopback; kept data may be served at another one later.
        say: takes a line for each step that makes a person wait.
        heap_mb: the JVM's largest heap.
        kafka_home: an Apache Kafka distribution (with libs/*.jar); without one it is fetched.
        partitions: of a topic that comes into being because a client asks for it.
    """

    home: Path
    port: int
    say: Callable[[str], None]
    heap_mb: int = 384
    kafka_home: Path | None = None
    partitions: int = 6

    @property
    def libs(self) -> Path:
        return (self.kafka_home or self.home / "dist").absolute() / "libs"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "logs" / "kafka.log"

    def missing(self) -> str | None:
        """Return why a local Kafka cannot run here, or None when it can."""
        if complaint := java_complaint():
            return complaint
        if installed_version(self.libs):
            return None
        if self.kafka_home:
            return f"KAFKA_HOME={self.kafka_home} holds no libs/kafka_*.jar"
        if not shutil.which("mvn"):
            return "no mvn on the PATH to fetch Apache Kafka with, and no KAFKA_HOME"
        return None

    def start(self, *, started_by: str) -> Status:
        """Start the broker unless it runs, maybe at another port, and return once it answers.

        Raises:
            StartupError: it cannot run here, its port is taken, it died or it does not answer.
        """
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        with locked(self.home / "lock"):
            running = self._process()
            if running is None or not self._came_up(running):
                self._launch(started_by)
        return self.status()

    def stop(self, timeout: float = 20) -> bool:
        """Stop the broker; True if one ran. Past `timeout` seconds it is killed."""
        if not self.home.is_dir():
            return False
        with locked(self.home / "lock"):
            process = self._process()
            if process:
                self._terminate(process, timeout)
            self._state_file.unlink(missing_ok=True)
        return process is not None

    def status(self) -> Status:
        process = self._process()
        port = process.port if process else self.port
        cluster_id = self._cluster_id()
        return Status(
            running=process is not None,
            answering=process is not None and _answers(_admin(port), cluster_id, 2),
            port=port,
            pid=process.pid if process else None,
            started_by=process.started_by if process else None,
            cluster_id=cluster_id,
            version=installed_version(self.libs),
            data=self.data,
            log=self.log,
        )

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of the broker's log."""
        return "\n".join(lines_from(self.log, 0)[-lines:])

    def tool(self, main_class: str, *args: str) -> list[str]:
        """Return the command line that runs one of Kafka's command-line tools."""
        logging = f"-Dlog4j2.configurationFile={SHIPPED / 'tools-log4j2.properties'}"
        return [java(), "-Xmx256m", logging, "-cp", f"{self.libs}/*", main_class, *args]

    @property
    def _state_file(self) -> Path:
        return self.home / "broker.json"

    def _process(self) -> _Process | None:
        try:
            process = _Process(**json.loads(self._state_file.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return process if process.alive else None

    def _launch(self, started_by: str) -> None:
        if complaint := self.missing():
            raise StartupError(f"a local Kafka cannot run here: {complaint}")
        if not _bindable(self.port):
            raise StartupError(_PORT_TAKEN.format(port=self.port))
        if not installed_version(self.libs):
            fetch(self.libs, self.say)
        if not (self.data / "meta.properties").exists():
            self._format()
        self._write_properties("server.properties", self.data)
        self.say(f"starting Kafka on localhost:{self.port} ...")
        written = self.log.stat().st_size if self.log.exists() else 0
        process = self._spawn(started_by)
        write_atomically(self._state_file, json.dumps(asdict(process)))
        if not self._came_up(process):
            self._state_file.unlink()
            raise StartupError(f"Kafka died while it started: {self._last_words(written)}")

    def _format(self) -> None:
        if self.data.is_dir() and any(self.data.iterdir()):
            raise StartupError(f"{self.data} is not empty and no Kafka data: move it away")
        self.say("formatting Kafka's data folder ...")
        cluster_id = _new_cluster_id()
        options = ["format", "-t", cluster_id, "-c", "format.properties"]
        command = self.tool("kafka.tools.StorageTool", *options)
        with made_whole(self.data) as partial:
            self._write_properties("format.properties", partial)
            run(command, self.home, self.home / "logs" / "format.out", "formatting Kafka's data")

    def _write_properties(self, name: str, data: Path) -> None:
        template = Template((SHIPPED / "server.properties").read_text(encoding="utf-8"))
        values = {"port": self.port, "partitions": self.partitions, "data": data.name}
        text = template.substitute(values, controller_port=_bindable(0))
        write_atomically(self.home / name, text)

    def _spawn(self, started_by: str) -> _Process:
        """Start the JVM in a session of its own, where a Ctrl-C of ours does not reach it."""
        with (self.home / "logs" / "kafka.out").open("wb") as out:
            process = subprocess.Popen(  # noqa: S603
                self._command(),
                cwd=self.home,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Somebody must take note of its end while we live, or it stays behind as a zombie.
        threading.Thread(target=process.wait, name="local-kafka", daemon=True).start()
        return _Process(process.pid, _began(process.pid), self.port, started_by)

    def _command(self) -> list[str]:
        return [
            java(),
            f"-Xms{min(128, self.heap_mb)}m",
            f"-Xmx{self.heap_mb}m",
            "-XX:+UseG1GC",
            "-Djava.awt.headless=true",
            "-Dkafka.logs.dir=logs",
            f"-Dlog4j2.configurationFile={SHIPPED / 'log4j2.properties'}",
            *("-cp", f"{self.libs}/*", "kafka.Kafka", "server.properties"),
        ]

    def _came_up(self, process: _Process) -> bool:
        """Wait until the broker answers; False where it died instead.

        One that takes too long is left alone: it may be recovering its data after a crash.
        """
        admin = _admin(process.port)
        give_up = time.monotonic() + START_SECONDS
        while process.alive:
            if _answers(admin, self._cluster_id(), 0.25):
                return True
            if time.monotonic() > give_up:
                raise StartupError(
                    f"Kafka (pid {process.pid}) runs but did not answer within {START_SECONDS} s: "
                    f"see {self.log}, start again to wait on, or stop it with pricewire kafka stop"
                )
        return False

    def _last_words(self, written: int) -> str:
        lines = lines_from(self.log, written) + lines_from(self.log.with_name("kafka.out"), 0)
        telling = [line for line in lines if re.search(r"\b(ERROR|FATAL)\b|Exception|Error:", line)]
        return " | ".join((telling or lines)[-5:]) or "it left no word"

    def _terminate(self, process: _Process, timeout: float) -> None:
        self.say(f"stopping Kafka (pid {process.pid}) ...")
        if _signal_and_wait(process, signal.SIGTERM, timeout):
            return
        self.say(f"Kafka did not stop within {timeout:g} s and is killed; its data recovers")
        _signal_and_wait(process, signal.SIGKILL, 5)

    def _cluster_id(self) -> str | None:
        lines = lines_from(self.data / "meta.properties", 0)
        found = [line.partition("=")[2] for line in lines if line.startswith("cluster.id=")]
        return found[0] if found else None


_PORT_TAKEN = (
    "port {port} is taken by another program: LOCAL_KAFKA_PORT names another one for the local "
    "Kafka; if a Kafka already runs there, KAFKA_BOOTSTRAP_SERVERS=localhost:{port} uses it"
)


def _admin(port: int) -> AdminClient:
    # A broker that is not up yet is no news: librdkafka would report each failed connection.
    return AdminClient(
        {
            "bootstrap.servers": f"localhost:{port}",
            "broker.address.family": "v4",
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 250,
            "log_level": 0,
        }
    )


def _new_cluster_id() -> str:
    """Return 16 random bytes in base64; StorageTool would take a leading dash for an option."""
    while (drawn := base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")).startswith("-"):
        pass
    return drawn


def _answers(admin: AdminClient, cluster_id: str | None, timeout: float) -> bool:
    try:
        metadata = admin.list_topics(timeout=timeout)
    except KafkaException:
        return False
    return bool(metadata.brokers) and metadata.cluster_id == cluster_id


def _began(pid: int) -> str:
    """Return what tells a process from an earlier or later one with its pid; "" if it is gone."""
    if not Path("/proc/self/stat").exists():
        return _began_without_proc(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The command's name, in brackets, may hold spaces; the state comes right after it.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _began_without_proc(pid: int) -> str:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    env = {**os.environ, "LC_ALL": "C"}
    asked = subprocess.run(command, capture_output=True, text=True, env=env, check=False)  # noqa: S603
    state, _, began = asked.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def _environment() -> dict[str, str]:
    """Return our environment without providers' keys, passwords, and where the database is."""
    return {name: value for name, value in os.environ.items() if not _SECRET.search(name.upper())}


def _signal_and_wait(process: _Process, number: signal.Signals, timeout: float) -> bool:
    give_up = time.monotonic() + timeout
    with suppress(ProcessLookupError):
        if process.alive:
            os.kill(process.pid, number)
    while process.alive and time.monotonic() < give_up:
        time.sleep(0.05)
    return not process.alive


def _bindable(port: int) -> int | None:
    """Return the port of our loopback address (0: any free one), or None where it is taken."""
    with socket.socket() as probe:
        # As Java binds: connections that linger from an earlier run do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        bound: int = probe.getsockname()[1]
        return bound
