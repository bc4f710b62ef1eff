"""The examples of the documents, run one after the other against one real `pricewire up`.

Each must print what its document shows. An example that cannot run here is listed with the reason;
a new one that is not listed is run, and fails where it does not do what it says.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.example_tools import LOG, UUID, Example, examples, same_for_all, shape
from tests.kafka_tools import CHECKOUT, KafkaTools, free_port
from tests.service_tools import PRICEWIRE, Service, eventually, running

pytestmark = pytest.mark.kafka

README = CHECKOUT / "README.md"
KAFKA = CHECKOUT / "docs" / "kafka.md"
PAGES = [README, KAFKA]

DOCKER = "needs Docker; the compose files are checked by tests of their own"
KEY = "needs a key of a provider, and the internet"
FEED = "needs the internet; test_feeds runs it against a vendor on this machine"
POSTGRES = "needs a PostgreSQL of one's own; test_main_job runs these parts on one"
CANNOT_RUN = {
    "make test": "is this very run",
    "docker-compose up -d": DOCKER,
    "docker-compose up -d zookeeper kafka": DOCKER,
    "docker-compose ps": DOCKER,
    "docker-compose logs kafka": DOCKER,
    "docker exec kafka kafka-topics --list --bootstrap-server localhost:9092": DOCKER,
    "docker exec kafka kafka-console-consumer --bootstrap-server localhost:9092 "
    "--topic price-events --from-beginning": DOCKER,
    "ALPHA_VANTAGE_API_KEY=… make up": KEY,
    'curl "http://localhost:8000/v1/prices/latest?symbol=MSFT"': KEY,
    'curl "http://localhost:8000/v1/prices/latest?symbol=EUR/USD"': KEY,
    ".venv/bin/pricewire stream BTC-USD ETH-EUR --provider coinbase": FEED,
    "export DATABASE_URL=postgresql://user:password@host:5432/pricewire "
    "KAFKA_BOOTSTRAP_SERVERS=kafka:9092": POSTGRES,
    ".venv/bin/pricewire api &": POSTGRES,
    ".venv/bin/pricewire relay &": POSTGRES,
}
UP = "make up"
"""What the fixture did already: its log must show what the document shows."""
INSTEAD = {
    "curl …": ('for _ in 1 2; do curl -s "http://localhost:8000/v1/prices/latest?symbol=IBM"; done')
}
"""Commands that a document abbreviates."""
ENDLESS = ("ConsoleConsumer", "curl -N")
SECONDS = 40


@dataclass
class Place:
    """Where the examples run: a home of their own, their own ports, the service in it."""

    home: Path
    settings: dict[str, str]
    service: Service
    libs: Path
    raw_response: str = ""

    def localised(self, command: str) -> str:
        changes = {
            "localhost:8000": f"localhost:{self.service.port}",
            "localhost:9092": f"localhost:{self.settings['LOCAL_KAFKA_PORT']}",
            "$HOME/.pricewire/kafka/dist/libs": str(self.libs),
            ".venv/bin/pricewire": PRICEWIRE,
            "scripts/": f"{CHECKOUT}/scripts/",
        }
        for said, here in changes.items():
            command = command.replace(said, here)
        return re.sub(UUID, self.raw_response, command)

    def as_in_documents(self, output: str) -> str:
        """One user's home stands for another's."""
        return same_for_all(output.replace(str(self.home), "/home/you"))

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        java = {"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}
        port = {"API_PORT": str(self.service.port)}
        return {"PATH": path, "HOME": str(self.home), **java, **port, **self.settings}

    def run(self, example: Example) -> None:
        if example.command == UP:
            eventually(lambda: self._printed_by_up(example.output))
        elif example.command == LOG:
            eventually(functools.partial(self._logged, example.output))
        elif any(word in example.command for word in ENDLESS):
            self._until_shown(example)
        else:
            self._to_its_end(example)

    def _printed_by_up(self, output: str) -> bool:
        return (
            re.search(shape(output), self.as_in_documents(self.service.log), re.DOTALL) is not None
        )

    def _logged(self, line: str) -> bool:
        return same_for_all(line) in same_for_all(self.service.log)

    def _to_its_end(self, example: Example) -> None:
        """A question may be asked again: what was just told to the service shows after a while."""
        command = self.localised(INSTEAD.get(example.command, example.command))
        give_up = time.monotonic() + (SECONDS if command.startswith("curl") else 0)
        while True:
            done = subprocess.run(
                ["bash", "-c", command.replace("curl ", "curl -sS ", 1)],
                env=self.environment,
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            printed = self.as_in_documents(done.stdout or done.stderr)
            fits = not example.output or re.fullmatch(shape(example.output), printed, re.DOTALL)
            if done.returncode == example.exit_code and fits:
                self._remember(done.stdout)
                return
            assert time.monotonic() < give_up, (
                f"{example}\nexit code {done.returncode}\n{done.stdout}{done.stderr}\n"
                f"{printed}\nis not\n{same_for_all(example.output)}"
            )
            time.sleep(0.3)

    def _remember(self, printed: str) -> None:
        """A command that names a raw response means the one that was last seen."""
        if found := re.findall(rf'"raw_response_id":"({UUID})"', printed):
            self.raw_response = found[-1]

    def _until_shown(self, example: Example) -> None:
        """What never ends is stopped as soon as it has shown what it should."""
        with tempfile.NamedTemporaryFile() as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.localised(example.command)}"],
                env=self.environment,
                cwd=self.home,
                stdout=output,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
            try:
                eventually(lambda: self._shows(Path(output.name), example), SECONDS)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def _shows(self, printed_to: Path, example: Example) -> bool:
        printed = self.as_in_documents(printed_to.read_text(encoding="utf-8"))
        return re.match(shape(example.output), printed, re.DOTALL) is not None


@pytest.fixture(scope="module")
def place(kafka: KafkaTools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("you")
    settings = {
        "KAFKA_HOME": str(kafka.broker.libs.parent),
        "LOCAL_KAFKA_PORT": str(free_port()),
        "LOCAL_KAFKA_HEAP_MB": "256",
        # The documents wait for half a minute.
        "KAFKA_PRODUCER_ATTEMPT_SECONDS": "4",
    }
    service = Service(home, {**settings, "PRICEWIRE_HOME": str(home / ".pricewire")})
    with running(service):
        there = Place(home, settings, service, kafka.broker.libs)
        yield there
        service.stop()
        subprocess.run([PRICEWIRE, "kafka", "stop"], env=there.environment, check=False)


# A dozen of the commands start a JVM.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_print_what_the_document_shows(place: Place, page: Path) -> None:
    ran = 0
    for example in examples(page):
        if example.command not in CANNOT_RUN:
            place.run(example)
            ran += 1
    assert ran >= 15


def test_what_is_listed_as_not_to_be_run_is_in_a_document() -> None:
    commands = {example.command for page in PAGES for example in examples(page)}
    assert set(CANNOT_RUN) | set(INSTEAD) <= commands
