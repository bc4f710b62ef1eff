"""The compose files and the Dockerfile, without Docker: each command of the users' page is held
against what the files hold, and the files against the schema, the settings and each other.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema.validators import validator_for

from pricewire.settings import Settings, load_settings
from pricewire.web import prices
from tests.kafka_tools import CHECKOUT

FILES = ["docker-compose.yml", "docker-compose.zookeeper.yml"]
OURS = ["api", "averages", "candles", "candles-history", "relay"]
SCHEMA = CHECKOUT / "tests" / "data" / "compose-spec.json"
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")

PAGE_COMMANDS = [
    "docker-compose up -d",
    "docker-compose up -d zookeeper kafka",
    "docker-compose ps",
    "docker-compose logs kafka",
    "docker exec kafka kafka-topics --list --bootstrap-server localhost:9092",
    (
        "docker exec kafka kafka-console-consumer --bootstrap-server localhost:9092"
        " --topic price-events --from-beginning"
    ),
    "python scripts/test_kafka_producer.py",
    "browse http://localhost:8080",
    'curl "http://localhost:8000/v1/prices/latest?symbol=AAPL"',
]
PAGE_SETTINGS = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "KAFKA_PRICE_EVENTS_TOPIC": "price-events",
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
}
NOT_PASSED_ON = {
    "KAFKA_TOPIC_REPLICATION_FACTOR": "there is one broker",
    "KAFKA_TOPIC_MIN_INSYNC_REPLICAS": "there is one broker",
    "KAFKA_HOME": "the image has no Java",
    "LOCAL_KAFKA_PORT": "the image has no Java",
    "LOCAL_KAFKA_HEAP_MB": "the image has no Java",
    "PRICEWIRE_HOME": "the image has it",
    "API_HOST": "the image has it",
    "API_PORT": "the port is mapped",
    "HISTORY_FILE": "a path of the host",
    **{
        name.upper(): "this Kafka speaks PLAINTEXT"
        for name in Settings.model_fields
        if name.startswith(("kafka_sasl_", "kafka_ssl_"))
    },
}


def compose(name: str) -> Any:
    return yaml.safe_load((CHECKOUT / name).read_text(encoding="utf-8"))


def services(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose(name)["services"]
    return found


def default(value: str) -> str:
    """Return what a value becomes while no variable of the environment is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def container(name: str, container_name: str) -> dict[str, Any]:
    [found] = [
        one for one in services(name).values() if one.get("container_name") == container_name
    ]
    return dict(found)


def published(name: str) -> dict[str, str]:
    """Return the service behind each port of the host."""
    found = {}
    for service, one in services(name).items():
        for port in one.get("ports", []):
            address, outside, inside = port.split(":")
            assert address == "127.0.0.1", "nothing here asks for a password"
            assert outside == inside, port
            found[outside] = service
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_file_fits_the_compose_specification(name: str) -> None:
    schema = json.loads(SCHEMA.read_bytes())
    validator = validator_for(schema)
    validator.check_schema(schema)
    complaints = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator(schema).iter_errors(compose(name))
    ]
    assert complaints == []


def up(name: str, *wanted: str) -> None:
    there = services(name)
    if wanted:
        assert set(wanted) <= set(there)
    else:
        started = {one for one, service in there.items() if not service.get("profiles")}
        assert {"postgres", "kafka", "kafka-ui", *OURS} <= started
        assert ("zookeeper" in started) is (name == "docker-compose.zookeeper.yml")


def logs(name: str, service: str) -> None:
    assert service in services(name)


def execute(name: str, container_name: str, tool: str, *arguments: str) -> None:
    one = container(name, container_name)
    # This image has its tools on the PATH, without the .sh of Apache's own.
    assert one["image"].startswith("confluentinc/cp-kafka:")
    assert tool in {"kafka-topics", "kafka-console-consumer"}
    given = dict(itertools.pairwise(arguments))
    assert_reached(one, given["--bootstrap-server"])
    if "--topic" in given:
        assert given["--topic"] == Settings.model_fields["kafka_price_events_topic"].default


def assert_reached(kafka: dict[str, Any], server: str) -> None:
    """A client at `server` is answered there, and is told to come back there."""
    listeners, advertised = (
        dict(one.split("://") for one in kafka["environment"][key].split(","))
        for key in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS")
    )
    [listener] = [one for one, address in advertised.items() if address == server]
    assert listeners[listener] == f"0.0.0.0:{server.rpartition(':')[2]}"


def script(name: str, path: str) -> None:
    assert (CHECKOUT / path).is_file()
    assert published(name)["9092"] == "kafka"


def visit(name: str, url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname == "localhost"
    service = published(name)[str(parts.port)]
    assert (service, parts.path) in {("kafka-ui", ""), ("api", prices.PATH)}


CHECKS: dict[str, Callable[..., object]] = {
    "docker-compose up -d": up,
    "docker-compose ps": services,
    "docker-compose logs": logs,
    "docker exec": execute,
    "python": script,
    "browse": visit,
    "curl": visit,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", PAGE_COMMANDS)
def test_a_command_of_the_page_finds_what_it_names(command: str, name: str) -> None:
    [start] = [one for one in CHECKS if command.startswith(one)]
    CHECKS[start](name, *shlex.split(command.removeprefix(start)))


@pytest.mark.parametrize("name", FILES)
def test_the_pages_variables_are_settings_and_reach_this_kafka(name: str) -> None:
    for variable, value in PAGE_SETTINGS.items():
        field = Settings.model_fields[variable.lower()]
        assert field.default in (None, value), variable
    kafka = services(name)["kafka"]
    assert_reached(kafka, PAGE_SETTINGS["KAFKA_BOOTSTRAP_SERVERS"])
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "true"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("service", OURS)
def test_what_is_set_is_a_setting_and_what_can_be_set_arrives(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = services(name)[service]["environment"]
    known = {field.upper() for field in Settings.model_fields}
    assert set(given) - known == set()
    missing = known - set(given) - set(NOT_PASSED_ON)
    assert missing == set(), "pass them on in both files, or say in NOT_PASSED_ON why not"
    assert set(NOT_PASSED_ON) <= known - set(given)
    monkeypatch.chdir(tmp_path)
    for variable in known:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, default(value))
    settings = load_settings()
    assert settings.provider == "history"
    assert not settings.uses_sqlite


@pytest.mark.parametrize("name", FILES)
def test_services_find_each_other(name: str) -> None:
    there = services(name)
    inside = there["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for service in OURS:
        given = there[service]["environment"]
        assert f"://{given['KAFKA_BOOTSTRAP_SERVERS']}," in inside
        database = urlsplit(default(given["DATABASE_URL"]))
        postgres = there["postgres"]["environment"]
        assert (database.username, database.password, database.path, database.port) == (
            postgres["POSTGRES_USER"],
            default(postgres["POSTGRES_PASSWORD"]),
            f"/{postgres['POSTGRES_DB']}",
            5432,
        )
        assert database.hostname in there
    ui = there["kafka-ui"]["environment"]
    assert f"://{ui['KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS']}," in inside


@pytest.mark.parametrize("name", FILES)
def test_a_topic_made_by_asking_has_as_many_partitions_as_ours(name: str) -> None:
    there = services(name)
    partitions = {there[one]["environment"]["KAFKA_TOPIC_PARTITIONS"] for one in OURS}
    assert partitions == {there["kafka"]["environment"]["KAFKA_NUM_PARTITIONS"]}
    assert partitions == {str(Settings.model_fields["kafka_topic_partitions"].default)}


@pytest.mark.parametrize("name", FILES)
def test_every_service_is_pinned_restarts_and_says_how_it_is(name: str) -> None:
    for service, one in services(name).items():
        assert re.search(r":v?\d+(\.\d+)+$|^pricewire:local$", one["image"]), service
        assert one["restart"] == "unless-stopped", service
        if service == "api":
            assert "build" in one
            assert re.search(r"^HEALTHCHECK .* CMD \[", DOCKERFILE, re.MULTILINE)
        else:
            check = one["healthcheck"]
            assert check.get("disable") or check["test"][0].startswith("CMD"), service


@pytest.mark.parametrize("name", FILES)
def test_who_waits_for_health_waits_for_one_who_tells_it(name: str) -> None:
    there = services(name)
    for service, one in there.items():
        for other, how in one.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, service
            assert not there[other].get("healthcheck", {}).get("disable"), other
            assert not there[other].get("profiles"), other
    assert set(there["api"]["depends_on"]) == {"postgres"}, "it answers without Kafka"


@pytest.mark.parametrize("name", FILES)
def test_secrets_come_from_the_environment_only(name: str) -> None:
    secret = re.compile(r"(KEY|PASSWORD|SECRET|TOKEN)(_|$)")
    values = [
        (key, value)
        for one in services(name).values()
        for key, value in one.get("environment", {}).items()
        if secret.search(key) or "://" in value
    ]
    assert len(values) > 5
    for key, value in values:
        if secret.search(key):
            assert value.startswith(f"${{{key}:-"), key
        assert not re.search(r"://[^/$]*:[^/$]*@", value), key


@pytest.mark.parametrize("name", FILES)
def test_a_stop_has_the_time_that_it_takes(name: str) -> None:
    shutdown: float = Settings.model_fields["shutdown_seconds"].default
    for service in OURS:
        grace = services(name)[service]["stop_grace_period"]
        assert float(grace.removesuffix("s")) > 2 * shutdown


@pytest.mark.parametrize("name", FILES)
def test_data_lies_in_volumes_that_are_declared(name: str) -> None:
    used = {
        volume.partition(":")[0]
        for one in services(name).values()
        for volume in one.get("volumes", [])
    }
    assert used == set(compose(name)["volumes"])
    assert {"postgres-data", "kafka-data", "zookeeper-data"} <= used


def test_the_two_sets_differ_in_their_kafka_only_and_share_no_data() -> None:
    plain, zookeeper = (services(name) for name in FILES)
    assert set(plain) == set(zookeeper)
    assert {one for one in plain if plain[one] != zookeeper[one]} == {"kafka", "zookeeper"}
    assert zookeeper["zookeeper"] | {"profiles": ["zookeeper"]} == plain["zookeeper"]
    broker = zookeeper["kafka"]["environment"]
    assert broker["KAFKA_ZOOKEEPER_CONNECT"] == "zookeeper:2181"
    assert "KAFKA_PROCESS_ROLES" not in broker
    versions = {zookeeper[one]["image"].partition(":")[2] for one in ("kafka", "zookeeper")}
    assert len(versions) == 1
    assert versions.pop().startswith("7.9.")
    assert all(volume["name"] for volume in compose(FILES[1])["volumes"].values())


# The image.


def instructions(word: str) -> list[str]:
    whole = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} (.*)$", whole, re.MULTILINE)


def test_the_image_is_pinned_not_root_and_its_process_gets_the_signals() -> None:
    bases = {base.partition(" ")[0] for base in instructions("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases.pop())
    [user] = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert [json.loads(one) for one in instructions("ENTRYPOINT")] == [["pricewire"]]
    assert [json.loads(one) for one in instructions("CMD")] == [["api"]]


def test_the_image_installs_nothing_whose_hash_is_not_locked() -> None:
    installs = [
        command
        for run in instructions("RUN")
        for command in run.split("&&")
        if re.search(r"\bpip\b", command) and "venv" not in command
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command, command
    build, everything = (
        set(
            re.findall(r"^(\S+==\S+)", (CHECKOUT / "requirements" / name).read_text(), re.MULTILINE)
        )
        for name in ("build.txt", "all.txt")
    )
    assert build
    assert build <= everything


def test_what_the_image_copies_is_there_and_passes_the_dockerignore() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [
        source
        for copy in instructions("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    ]
    assert set(copied) == set(allowed)
    assert all((CHECKOUT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(".env", rule) for rule in allowed)


def test_the_images_health_check_asks_a_route_that_is_there() -> None:
    [check] = re.findall(r" CMD (\[.*\])$", instructions("HEALTHCHECK")[0])
    interpreter, option, program = json.loads(check)
    assert (interpreter, option) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
    [path] = re.findall(r"'GET', '([^']+)'", program)
    headings = (CHECKOUT / "docs" / "http.md").read_text(encoding="utf-8")
    assert f"GET {path}" in headings
