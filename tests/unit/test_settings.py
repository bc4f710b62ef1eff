"""Settings: their names, what contradicts itself, and that no secret is ever told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricewire.errors import StartupError
from pricewire.settings import Settings, describe, load_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set and no `.env` is near."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def rows(settings: Settings) -> dict[str, tuple[str, str]]:
    return {name: (value, origin) for name, value, origin in describe(settings)}


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert settings.kafka_bootstrap_servers is None
    assert settings.kafka_price_events_topic == "price-events"
    assert settings.kafka_security_protocol == "PLAINTEXT"
    assert settings.kafka_producer_acks == "all"
    assert settings.kafka_producer_compression == "snappy"
    assert settings.kafka_producer_attempts == 3
    assert settings.kafka_producer_attempt_seconds == 10
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8000)
    assert settings.local_kafka_port == 9092
    assert settings.provider == "history"
    assert settings.uses_sqlite
    assert settings.database == f"sqlite:///{Path('~/.pricewire/pricewire.db').expanduser()}"


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "broker:9092", "kafka_bootstrap_servers"),
        ("KAFKA_PRICE_EVENTS_TOPIC", "my.prices", "kafka_price_events_topic"),
        ("KAFKA_PRODUCER_COMPRESSION", "zstd", "kafka_producer_compression"),
        ("KAFKA_PRODUCER_LINGER_MS", "7.5", "kafka_producer_linger_ms"),
        ("KAFKA_PRODUCER_BATCH_BYTES", "20000", "kafka_producer_batch_bytes"),
        ("KAFKA_PRODUCER_ATTEMPTS", "5", "kafka_producer_attempts"),
        ("KAFKA_PRODUCER_ATTEMPT_SECONDS", "2.5", "kafka_producer_attempt_seconds"),
        ("PRICEWIRE_HOME", "/data", "pricewire_home"),
        ("RAW_FRAMES_DAYS", "7", "raw_frames_days"),
        ("API_HOST", "0.0.0.0", "api_host"),
        ("API_PORT", "8001", "api_port"),
        ("LOCAL_KAFKA_PORT", "19092", "local_kafka_port"),
        ("DEFAULT_PROVIDER", "history", "default_provider"),
        ("ALPHA_VANTAGE_BASE_URL", "http://localhost:1234", "alpha_vantage_base_url"),
        ("HISTORY_FILE", "/data/history.csv", "history_file"),
        ("HISTORY_INTERVAL_SECONDS", "0.5", "history_interval_seconds"),
    ],
)
def test_a_variable_of_the_contract_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    settings = load(monkeypatch, **{variable: value})
    assert str(getattr(settings, field)) == value
    assert rows(settings)[variable][1] == "environment"


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, API_PORT="", DATABASE_URL="")
    assert settings.api_port == 8000
    assert settings.uses_sqlite
    assert rows(settings)["API_PORT"] == ("8000", "default")


def test_a_key_makes_its_provider_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, ALPHA_VANTAGE_API_KEY=SECRET).provider == "alpha_vantage"
    assert load(monkeypatch, DEFAULT_PROVIDER="history").provider == "history"


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("postgresql://u:p@host:5432/name", "postgresql+asyncpg://u:p@host:5432/name"),
        ("postgres://u:p@host/name", "postgresql+asyncpg://u:p@host/name"),
        ("postgresql+asyncpg://host/name", "postgresql+asyncpg://host/name"),
        ("sqlite:////data/prices.db", "sqlite:////data/prices.db"),
        ("sqlite:///prices.db", "sqlite:///prices.db"),
    ],
)
def test_a_database_is_named_by_a_url(
    monkeypatch: pytest.MonkeyPatch, url: str, opened: str
) -> None:
    settings = load(monkeypatch, DATABASE_URL=url)
    assert settings.database == opened
    assert settings.uses_sqlite == url.startswith("sqlite")


@pytest.mark.parametrize(
    "url",
    [
        "prices.db",
        "/data/prices.db",
        "postgresql:name",
        "mysql://u:hunter2@host/name",
        "postgresql+psycopg://u:hunter2@host/name",
        "sqlite://",
        "sqlite:///",
    ],
)
def test_a_database_url_that_names_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(StartupError, match="DATABASE_URL") as refused:
        load(monkeypatch, DATABASE_URL=url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["sqlite://prices.db", "sqlite:///:memory:", "postgresql://u:p@host:port/name"]
)
def test_a_database_url_that_can_never_be_opened_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(StartupError, match="DATABASE_URL"):
        load(monkeypatch, DATABASE_URL=url)


SASL = {
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": SECRET,
}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_MECHANISM, .*PASSWORD"),
        (
            SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": ""},
            "SASL_SSL needs KAFKA_SASL_USERNAME$",
        ),
        (SASL, "KAFKA_SECURITY_PROTOCOL must be SASL"),
        ({"KAFKA_SASL_PASSWORD": SECRET}, "KAFKA_SECURITY_PROTOCOL must be SASL"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SSL_CA_LOCATION": "/ca.pem"}, "KAFKA_SECURITY_PROTOCOL must be SSL"),
        (
            SASL
            | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CA_LOCATION": "/ca.pem"},
            "KAFKA_SECURITY_PROTOCOL must be SSL",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTIFICATE_LOCATION": "/c.pem"},
            "KAFKA_SSL_KEY_LOCATION",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEY_LOCATION": "/k.pem"},
            "KAFKA_SSL_CERTIFICATE_LOCATION",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "needs KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_SSL_KEY_PASSWORD": SECRET}, "KAFKA_SSL_KEY_LOCATION"),
        ({"KAFKA_TOPIC_RETENTION_HOURS": "0"}, "KAFKA_TOPIC_RETENTION_HOURS"),
        ({"KAFKA_TOPIC_MIN_INSYNC_REPLICAS": "2"}, "KAFKA_TOPIC_MIN_INSYNC_REPLICAS"),
        ({"DEFAULT_PROVIDER": "alpha_vantage"}, "ALPHA_VANTAGE_API_KEY"),
        ({"DEFAULT_PROVIDER": "nobody"}, "DEFAULT_PROVIDER"),
        ({"KAFKA_PRODUCER_ACKS": "1"}, "KAFKA_PRODUCER_ACKS"),
        ({"KAFKA_PRICE_EVENTS_TOPIC": "a b"}, "KAFKA_PRICE_EVENTS_TOPIC"),
        ({"KAFKA_PRICE_EVENTS_TOPIC": ".."}, "KAFKA_PRICE_EVENTS_TOPIC"),
        ({"API_PORT": "0"}, "API_PORT"),
        ({"API_PORT": "http"}, "API_PORT"),
        ({"KAFKA_PRODUCER_ATTEMPTS": "0"}, "KAFKA_PRODUCER_ATTEMPTS"),
        ({"ALPHA_VANTAGE_BASE_URL": "www.alphavantage.co"}, "ALPHA_VANTAGE_BASE_URL"),
        ({"ALPHA_VANTAGE_BASE_URL": "https://a.co/query"}, "ALPHA_VANTAGE_BASE_URL"),
        ({"ALPHA_VANTAGE_BASE_URL": f"https://me:{SECRET}@a.co"}, "ALPHA_VANTAGE_BASE_URL"),
        ({"ALPHA_VANTAGE_BASE_URL": f"https://a.co?apikey={SECRET}"}, "ALPHA_VANTAGE_BASE_URL"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_variable_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(StartupError, match=named) as refused:
        load(monkeypatch, **variables)
    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__


def test_every_variable_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match=r"API_PORT.*LOG_LEVEL"):
        load(monkeypatch, API_PORT="x", LOG_LEVEL="loud")


def test_a_base_url_with_a_password_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match="ALPHA_VANTAGE_BASE_URL"):
        load(monkeypatch, ALPHA_VANTAGE_BASE_URL=f"https://:{SECRET}@a.co")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/name",
        f"postgresql://:{SECRET}@host/name",
        f"postgresql://me:a/{SECRET}@host/name",
        f"postgresql://me:a:{SECRET}?b@host/name",
        f"postgresql://host/name?user=me&password={SECRET}",
        f"postgresql://me@tenant:{SECRET}@host/name",
        f"postgresql://me:p@{SECRET}@host/name",
    ],
)
def test_the_password_of_a_database_is_never_told(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    settings = load(monkeypatch, DATABASE_URL=url)
    told = rows(settings)["DATABASE_URL"][0]
    assert SECRET not in told
    assert "***" in told
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_no_secret_is_ever_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        **SASL,
        KAFKA_BOOTSTRAP_SERVERS="kafka:9093",
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SSL_CERTIFICATE_LOCATION="/c.pem",
        KAFKA_SSL_KEY_LOCATION="/k.pem",
        KAFKA_SSL_KEY_PASSWORD=SECRET,
        ALPHA_VANTAGE_API_KEY=SECRET,
    )
    assert SECRET not in str(describe(settings)) + repr(settings) + str(settings)
    assert rows(settings)["ALPHA_VANTAGE_API_KEY"] == ("**********", "environment")


def test_each_setting_is_described_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("API_PORT=8001\nLOG_LEVEL=DEBUG\n")
    described = rows(load(monkeypatch, LOG_LEVEL="ERROR"))
    assert described["LOG_LEVEL"] == ("ERROR", "environment")
    assert described["API_PORT"] == ("8001", ".env")
    assert described["API_HOST"] == ("127.0.0.1", "default")
    assert described["DATABASE_URL"] == ("", "default")
    assert set(described) == {name.upper() for name in Settings.model_fields}
