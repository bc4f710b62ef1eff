"""Who does the same job: Pricewire and its peers, how each is installed and started, what it keeps.

`bench.streams` and `bench.streams_latency` start them. Peers live in environments of their own in
`.kafka/bench`, made when first needed from locked requirements; nothing of them is in ours.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.main_job import local_kafka
from pricewire.kafka.local_data.install import java
from tests.kafka_tools import free_port
from tests.postgres_tools import LocalPostgres, postgres_server

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(os.environ.get("BENCH_HOME", ".kafka/bench")).absolute()


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one peer.

    Args:
        home: a fresh folder of its own.
        database_url: a fresh, empty PostgreSQL database.
    """

    servers: str
    source: str
    target: str
    group: str
    home: Path
    database_url: str
    events: int
    options: tuple[str, ...] = ()
    symbols: int = 100

    @property
    def arguments(self) -> list[str]:
        return [self.servers, self.source, self.target, self.group]


@dataclass(frozen=True, slots=True)
class Peer:
    """Args:
    guarantee: what holds when it is killed, by name.
    event_ids: it reads the event's id off the headers.
    limit: it does a part of the job only and tells its own times.
    """

    name: str
    guarantee: str
    command: Callable[[Job], list[str]]
    environment: Callable[[Job], Mapping[str, str]] = field(default=lambda _job: {})
    event_ids: bool = True
    limit: bool = False

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        job.home.mkdir(parents=True, exist_ok=True)
        command = self.command(job)
        with (job.home / "out").open("wb") as out, (job.home / "log").open("wb") as log:
            return subprocess.Popen(
                command,
                env={**os.environ, **self.environment(job)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )


@dataclass(frozen=True, slots=True)
class Servers:
    """A broker, a database, and a folder for what peers write."""

    kafka: str
    postgres: LocalPostgres
    home: Path


@contextmanager
def servers() -> Iterator[Servers]:
    """Run them while inside; nothing is left of them, also when this process is terminated."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricewire-bench-")))
        database = home.with_name(home.name + "-pg")
        stack.callback(shutil.rmtree, database, ignore_errors=True)
        kafka = stack.enter_context(local_kafka(home / "kafka"))
        postgres = stack.enter_context(postgres_server(database))
        yield Servers(f"localhost:{kafka.port}", postgres, home)


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a peer; return its exit status."""
    process.terminate()
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def python_of(name: str) -> str:
    """Return the interpreter of a peer's own environment, made if it is not there yet."""
    wanted = PEERS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    mark = folder / "installed"
    python = folder / "bin" / "python"
    version = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not (mark.exists() and mark.read_text() == version):
        print(f"installing {name} into {folder} (once) ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        options = ["-q", "--disable-pip-version-check", "--require-hashes", "-r", str(wanted)]
        _run([str(python), "-m", "pip", "install", *options])
        mark.write_text(version)
    return str(python)


def kafka_streams_classes() -> str:
    """Return the class path of our Kafka Streams program, built if it changed."""
    folder = ENVIRONMENTS / "kafka-streams"
    mark = folder / "installed"
    sources = sorted((PEERS / "kafka-streams").rglob("*.*"))
    version = hashlib.sha256(b"".join(one.read_bytes() for one in sources)).hexdigest()
    if not (mark.exists() and mark.read_text() == version):
        print(f"building Kafka Streams' program in {folder} (once) ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        goals = ["compiler:compile", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        options = [f"-Dbuilt={folder}", f"-DoutputDirectory={folder / 'libs'}"]
        pom = str(PEERS / "kafka-streams" / "pom.xml")
        _run(["mvn", "-q", "-B", "-f", pom, *goals, *options])
        mark.write_text(version)
    return f"{folder / 'classes'}:{folder / 'libs'}/*"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def _pricewire(_job: Job) -> list[str]:
    return [str(Path(sys.executable).with_name("pricewire")), "processor", "averages"]


def pricewire_settings(job: Job) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": job.servers,
        "KAFKA_PRICE_EVENTS_TOPIC": job.source,
        "KAFKA_MOVING_AVERAGES_TOPIC": job.target,
        "DATABASE_URL": job.database_url,
        "AVERAGES": "sma:5",
        "PRICEWIRE_HOME": str(job.home / "pricewire"),
        "API_PORT": str(free_port()),
        "LOG_LEVEL": "WARNING",
    }


def _batch_loop(job: Job) -> list[str]:
    return [sys.executable, str(PEERS / "batch_loop.py"), *job.arguments]


def _aiokafka(job: Job) -> list[str]:
    return [python_of("aiokafka"), str(PEERS / "aiokafka_loop.py"), *job.arguments]


def _quix(job: Job, guarantee: str = "at-least-once") -> list[str]:
    program = str(PEERS / "quix_streams.py")
    state = str(job.home / "state")
    return [python_of("quixstreams"), program, *job.arguments, state, guarantee]


def _kafka_streams(job: Job, *tuned: str) -> list[str]:
    options = [*tuned, *job.options]
    jvm = [one for one in options if one.startswith("-")]
    properties = [one for one in options if not one.startswith("-")]
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    given = ["-Xmx512m", quiet, *jvm, "-cp", kafka_streams_classes(), "MovingAverage"]
    return [java(), *given, *job.arguments, str(job.home / "state"), *properties]


def _limit(which: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        program = str(PEERS / "limits.py")
        return [sys.executable, program, which, *job.arguments, str(job.events)]

    return command


ALL = {
    peer.name: peer
    for peer in (
        Peer(
            "pricewire",
            "exact after a crash: state and position in one transaction, same ids and bytes",
            _pricewire,
            pricewire_settings,
        ),
        Peer("quix-streams", "at least once, with state", _quix),
        Peer("kafka-streams", "exactly once (exactly_once_v2), with state", _kafka_streams),
        Peer(
            "kafka-streams-tuned",
            "the same; batches of 128 KB, parallel collector",
            lambda job: _kafka_streams(job, "producer.batch.size=131072", "-XX:+UseParallelGC"),
        ),
        Peer("batch-loop", "at least once, no state, no headers", _batch_loop, event_ids=False),
        Peer("aiokafka", "at least once, no state", _aiokafka),
        Peer("limit-consume", "none: reads, decodes", _limit("consume"), limit=True),
        Peer("limit-produce", "none: writes", _limit("produce"), limit=True),
    )
}
EXTRA = {
    "quix-exactly-once": Peer(
        "quix-exactly-once",
        "exactly once, with state",
        lambda job: _quix(job, "exactly-once"),
    ),
}
