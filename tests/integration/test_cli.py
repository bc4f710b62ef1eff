"""The command line as people meet it: what is printed where, and the exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pricewire.settings import Settings
from tests.kafka_tools import CHECKOUT, KafkaTools, free_port, local_kafka
from tests.service_tools import PRICEWIRE, Service, eventually, running

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def pricewire(tmp_path: Path) -> Run:
    """Runs `pricewire ARGUMENTS` with nothing but these settings, in an empty folder."""

    def run(*arguments: str, **settings: str) -> Done:
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PRICEWIRE_HOME": str(tmp_path / "home"),
            **settings,
        }
        return subprocess.run(
            [PRICEWIRE, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


def complaint(done: Done) -> str:
    """Return the one line on stderr of a command that failed with exit code 1."""
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("pricewire: ")
    return line


def test_version_is_that_of_the_project(pricewire: Run) -> None:
    done = pricewire("version")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{project['version']}\n", "")


def test_settings_prints_every_variable_with_its_origin_and_no_secret(
    pricewire: Run, tmp_path: Path
) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / ".env").write_text("LOG_LEVEL=DEBUG\nAPI_PORT=8001\n")
    done = pricewire(
        "settings",
        API_PORT="8002",
        LOG_FORMAT="",
        ALPHA_VANTAGE_API_KEY="hunter2-key",
        DATABASE_URL="postgresql://me:hunter2-db@host:5432/name?password=hunter2-query",
        KAFKA_BOOTSTRAP_SERVERS="kafka:9092",
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME="me",
        KAFKA_SASL_PASSWORD="hunter2-sasl",
        KAFKA_SSL_CERTIFICATE_LOCATION="/certificate",
        KAFKA_SSL_KEY_LOCATION="/key",
        KAFKA_SSL_KEY_PASSWORD="hunter2-ssl",
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = {}
    for line in done.stdout.splitlines():
        name, value, origin = line.split("\t")
        rows[name] = (value, origin)
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    assert rows["API_PORT"] == ("8002", "environment")
    assert rows["LOG_LEVEL"] == ("DEBUG", ".env")
    assert rows["LOG_FORMAT"] == ("text", "default")
    assert rows["KAFKA_TOPIC_PARTITIONS"] == ("6", "default")
    assert rows["ALPHA_VANTAGE_API_KEY"] == ("**********", "environment")
    assert rows["DATABASE_URL"][1] == "environment"
    assert "host:5432/name" in rows["DATABASE_URL"][0]
    assert "hunter2" not in done.stdout


@pytest.mark.parametrize("command", ["up", "api", "relay", "settings"])
def test_bad_settings_are_one_line_on_stderr_that_names_each(pricewire: Run, command: str) -> None:
    done = pricewire(command, API_PORT="http-hunter2", KAFKA_PRODUCER_ACKS="hunter2")
    line = complaint(done)
    assert "API_PORT" in line
    assert "KAFKA_PRODUCER_ACKS" in line
    assert "hunter2" not in line
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_TOPIC_RETENTION_HOURS": "0"}, "-1 for ever"),
        ({"DATABASE_URL": "mysql://me:hunter2@host/x"}, "postgresql://user:password@host"),
        ({"DEFAULT_PROVIDER": "alpha_vantage"}, "ALPHA_VANTAGE_API_KEY"),
        (
            {
                "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
                "KAFKA_SECURITY_PROTOCOL": "SSL",
                "KAFKA_SSL_KEY_PASSWORD": "hunter2",
            },
            "KAFKA_SSL_KEY_LOCATION",
        ),
        ({"HISTORY_FILE": "/nowhere/prices.csv"}, "/nowhere/prices.csv"),
        ({"API_HOST": "no.such.host.invalid"}, "API_HOST"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_what_would_be_right(
    pricewire: Run, settings: dict[str, str], says: str
) -> None:
    # A Kafka that is away is no reason not to start: what is refused is the setting.
    servers = {"KAFKA_BOOTSTRAP_SERVERS": f"kafka.invalid:{free_port()}"}
    given = settings if "KAFKA_SECURITY_PROTOCOL" in settings else servers | settings
    done = pricewire("up", **{"API_PORT": str(free_port()), **given})
    line = complaint(done)
    assert says in line
    assert "hunter2" not in line


@pytest.mark.parametrize("command", ["api", "relay"])
def test_a_part_of_its_own_refuses_sqlite_and_says_what_to_do(pricewire: Run, command: str) -> None:
    done = pricewire(command, API_PORT=str(free_port()))
    line = complaint(done)
    assert "pricewire up" in line
    assert "DATABASE_URL=postgresql://" in line


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("kafka", "nonsense"), ("store", "nonsense"), ("up", "--nonsense")],
)
def test_a_wrong_call_is_exit_code_2(pricewire: Run, arguments: tuple[str, ...]) -> None:
    done = pricewire(*arguments)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_store_fork_prints_the_new_source(pricewire: Run) -> None:
    first, second = pricewire("store", "fork"), pricewire("store", "fork")
    source = re.compile(r"/pricewire/([0-9a-f-]{36})/(\d+)")
    found = [source.search(done.stdout) for done in (first, second)]
    assert [done.returncode for done in (first, second)] == [0, 0]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][1] == found[1][1]
    assert int(found[1][2]) == int(found[0][2]) + 1


@pytest.mark.kafka
def test_store_fork_is_refused_while_up_runs_and_counts_afterwards(
    pricewire: Run, kafka: KafkaTools, tmp_path: Path
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"price-events-{uuid4().hex[:8]}",
    }
    service = Service(tmp_path / "home", environment)
    with running(service):
        assert "another pricewire uses" in complaint(pricewire("store", "fork"))
        service.price("AAPL", wait_ms=10_000)
        eventually(service.drained)
        before = service.json("/v1/events/AAPL~1")["source"]
        assert service.stop() == 0
    forked = pricewire("store", "fork")
    assert forked.returncode == 0
    with running(service):
        service.price("AAPL", wait_ms=10_000)
        eventually(service.drained)
        after = service.json("/v1/events/AAPL~2")["source"]
    assert before.endswith("/1")
    assert after == before.removesuffix("1") + "2"
    assert after in forked.stdout


@pytest.fixture
def local(kafka: KafkaTools, pricewire: Run) -> Iterator[dict[str, str]]:
    """Settings of a local Kafka that does not run yet; one that is left running is stopped."""
    settings = {
        "LOCAL_KAFKA_PORT": str(free_port()),
        "KAFKA_HOME": str(kafka.broker.libs.parent),
        "LOCAL_KAFKA_HEAP_MB": "256",
    }
    yield settings
    pricewire("kafka", "stop", **settings)


@pytest.mark.kafka
def test_a_kafka_started_by_hand_is_used_by_up_and_left_running(
    pricewire: Run, local: dict[str, str], tmp_path: Path
) -> None:
    servers = f"localhost:{local['LOCAL_KAFKA_PORT']}"
    before = pricewire("kafka", "status", **local)
    assert before.returncode == 3
    assert "status     not running" in before.stdout
    assert pricewire("kafka", "stop", **local).stdout == "it was not running\n"

    started = pricewire("kafka", "start", **local)
    assert (started.returncode, started.stderr) == (0, "")
    assert "status     answers" in started.stdout
    status = pricewire("kafka", "status", **local)
    assert status.returncode == 0
    assert re.search(rf"servers +{servers}\nprocess +\d+, started by hand\n", status.stdout)
    again = pricewire("kafka", "start", **local)
    assert again.returncode == 0
    assert _pid(again) == _pid(status)

    with running(Service(tmp_path / "home", local)) as service:
        assert service.price("AAPL", wait_ms=15_000)["event"]["state"] == "published"
        assert f"kafka      {servers}" in service.log
        assert service.stop() == 0
    after = pricewire("kafka", "status", **local)
    assert after.returncode == 0
    assert _pid(after) == _pid(status)

    logs = pricewire("kafka", "logs", "-n", "3", **local)
    assert logs.returncode == 0
    assert len(logs.stdout.splitlines()) == 3
    stopped = pricewire("kafka", "stop", **local)
    assert stopped.returncode == 0
    assert stopped.stdout.splitlines()[-1] == "stopped"
    assert pricewire("kafka", "status", **local).returncode == 3


@pytest.mark.kafka
def test_a_kafka_started_by_hand_while_up_runs_is_left_running(
    pricewire: Run, local: dict[str, str], tmp_path: Path
) -> None:
    with running(Service(tmp_path / "home", local)) as service:
        service.price("AAPL", wait_ms=15_000)
        assert "started by up" in pricewire("kafka", "status", **local).stdout
        assert pricewire("kafka", "stop", **local).returncode == 0
        assert service.price("AAPL")["event"]["state"] == "queued"
        assert pricewire("kafka", "start", **local).returncode == 0
        eventually(service.drained, 40)
        assert service.stop() == 0
    status = pricewire("kafka", "status", **local)
    assert status.returncode == 0
    assert "started by hand" in status.stdout


@pytest.mark.kafka
def test_a_cluster_id_that_would_begin_with_a_dash_is_no_trouble(
    kafka: KafkaTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, first = os.urandom, [b"\xf8" * 16]
    monkeypatch.setattr(os, "urandom", lambda size: first.pop() if first else draw(size))
    broker = local_kafka(tmp_path / "home")
    try:
        assert broker.start(started_by="tests").answering
    finally:
        broker.stop()


def test_kafka_start_without_java_says_what_is_missing(pricewire: Run) -> None:
    line = complaint(pricewire("kafka", "start", PATH="/nonexistent", JAVA_HOME=""))
    assert "java" in line.lower()


def _pid(done: Done) -> str:
    found = re.search(r"process +(\d+)", done.stdout)
    assert found is not None, done.stdout
    return found[1]
