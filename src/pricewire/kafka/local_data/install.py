"""What the local Kafka is made of: the files shipped beside this one, Java, and Kafka's artifacts.

`pricewire.kafka.local` calls it before it starts a broker, the tests to fetch one copy for all of
them. Invariants: an interrupted fetch never looks complete, and two processes that fetch or start
at once do so one after the other.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pricewire.errors import StartupError

KAFKA_VERSION = "4.3.1"
JAVA_VERSION = 17
COMMAND_SECONDS = 600

SHIPPED = Path(__file__).parent
_BROKER_JAR = "kafka_2.1*-*.jar"


def fetch(libs: Path, say: Callable[[str], None]) -> None:
    """Fetch Apache Kafka's artifacts into `libs`; returns at once where they are already.

    Raises:
        StartupError: with the end of what Maven said.
    """
    libs = libs.absolute()
    libs.parent.mkdir(parents=True, exist_ok=True)
    with locked(libs.with_name("libs.lock")):
        if installed_version(libs):
            return
        say(f"fetching Apache Kafka {KAFKA_VERSION} (54 MB, once) ...")
        copy = ["mvn", "-q", "-B", "-f", str(SHIPPED / "pom.xml"), "dependency:copy-dependencies"]
        with made_whole(libs) as partial:
            options = [f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
            run(copy + options, libs.parent, libs.with_name("mvn.log"), "fetching Apache Kafka")


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Have a folder made beside its place; it gets there only when the block succeeds."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    partial.rename(folder)


def run(command: list[str], folder: Path, log: Path, doing: str) -> None:
    with log.open("wb") as out:
        try:
            subprocess.run(  # noqa: S603
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            tail = " | ".join(lines_from(log, 0)[-5:]) or str(error)
            raise StartupError(f"{doing} failed, all of it is in {log}: {tail}") from None


def installed_version(libs: Path) -> str | None:
    jars = sorted(jar.stem for jar in libs.glob(_BROKER_JAR) if jar.stem[-1].isdigit())
    return jars[-1].rpartition("-")[2] if jars else None


def java() -> str:
    at_home = Path(os.environ.get("JAVA_HOME", "/nowhere")) / "bin" / "java"
    return str(at_home) if at_home.is_file() else shutil.which("java") or "java"


def java_complaint() -> str | None:
    needed = f"Java {JAVA_VERSION} or newer"
    command = java()
    try:
        asked = subprocess.run(  # noqa: S603
            [command, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return f"{needed} is neither on the PATH nor in JAVA_HOME"
    found = re.search(r'version "(\d+)', asked.stderr)
    if found and int(found[1]) < JAVA_VERSION:
        return f"{needed} is needed, {command} is older"
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out until the block ends, however it ends."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def lines_from(path: Path, start: int) -> list[str]:
    """Return the lines of a file from byte `start`, or all of them if it has become shorter."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content[start if start <= len(content) else 0 :].decode(errors="replace").splitlines()
