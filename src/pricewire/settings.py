"""All settings, read once at the edge from the environment and a `.env` file.

Only the CLI and the composition root read them; rooms below are given values. Invariant: settings
that contradict each other are refused at start-up with a line that says what would be right, and
no secret is ever printed (`describe` masks them).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pricewire.domain.average import parse_averages
from pricewire.domain.budget import parse_budget
from pricewire.errors import InvalidParameter, StartupError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_SQLITE_FILE = re.compile(r"sqlite:///(?!:memory:).+[^/]")
_EXCHANGES = re.compile(r"[a-z0-9]+(,[a-z0-9]+)*")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ValueError("give an origin without a path, such as https://www.alphavantage.co")
    if "@" in parts.netloc or parts.query:
        raise ValueError("an origin holds no user name and no query")
    return f"{parts.scheme}://{parts.netloc}"


def _socket_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError("give a websocket's URL, such as wss://ws.kraken.com/v2")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a websocket's URL holds no user name and no query")
    return url


def _not_zero(hours: int) -> int:
    if hours == 0:
        raise ValueError("give hours, or -1 for ever; 0 would delete everything at once")
    return hours


def _topic(name: str) -> str:
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise ValueError("a topic name has 1 to 249 letters, digits, dots, '_' or '-'")
    return name


def _averages(text: str) -> str:
    try:
        parse_averages(text)
    except InvalidParameter as error:
        raise ValueError(error.detail) from None
    return text


def _budget(text: str) -> str:
    try:
        return str(parse_budget(text))
    except InvalidParameter as error:
        raise ValueError(error.detail) from None


def _exchanges(names: str) -> str:
    if names and not _EXCHANGES.fullmatch(names):
        raise ValueError("give exchanges as ccxt names them, with commas: kraken,bitstamp")
    return names


Origin = Annotated[str, AfterValidator(_origin)]
SocketUrl = Annotated[str, AfterValidator(_socket_url)]
BudgetText = Annotated[str, AfterValidator(_budget)]
TopicName = Annotated[str, AfterValidator(_topic)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Names are those of the environment variables, in lower case; units are in the names."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    kafka_bootstrap_servers: str | None = None
    kafka_price_events_topic: TopicName = "price-events"
    kafka_price_history_topic: TopicName = "price-history"
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    kafka_sasl_mechanism: SaslMechanism | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: Path | None = None
    kafka_ssl_certificate_location: Path | None = None
    kafka_ssl_key_location: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None

    kafka_producer_acks: Literal["all", "-1"] = "all"
    kafka_producer_compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "snappy"
    kafka_producer_linger_ms: Annotated[float, Field(ge=0, le=1000)] = 5
    kafka_producer_batch_bytes: Annotated[int, Field(ge=16_384, le=16_777_216)] = 1_000_000
    kafka_producer_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    kafka_producer_attempt_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10

    kafka_moving_averages_topic: TopicName = "moving-averages"
    kafka_candles_topic: TopicName = "candles"
    kafka_group_protocol: Literal["classic", "consumer"] = "classic"
    kafka_group_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "pricewire"
    kafka_session_seconds: Annotated[float, Field(ge=1, le=1800)] = 10
    checkpoint_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1
    averages: Annotated[str, AfterValidator(_averages)] = "sma:5"
    averages_count: Literal["every_event", "new_times"] = "every_event"

    kafka_topic_partitions: Annotated[int, Field(ge=1, le=1024)] = 6
    kafka_topic_replication_factor: Annotated[int, Field(ge=1, le=32)] = 1
    kafka_topic_min_insync_replicas: Annotated[int, Field(ge=1, le=32)] = 1
    kafka_topic_retention_hours: Annotated[int, Field(ge=-1), AfterValidator(_not_zero)] = 168

    kafka_home: Path | None = None
    local_kafka_port: Port = 9092
    local_kafka_heap_mb: Annotated[int, Field(ge=128, le=65_536)] = 384

    database_url: SecretStr | None = None
    pricewire_home: Path = Path("~/.pricewire")
    raw_frames_days: Annotated[int, Field(ge=0, le=36_500)] = 30

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    stream_readers: Annotated[int, Field(ge=0, le=100_000)] = 2_000
    stream_slow: Literal["conflate", "cut"] = "conflate"
    stream_heartbeat_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 15
    stream_stalled_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = 300
    shutdown_seconds: Annotated[float, Field(ge=0.5, le=600)] = 10
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    default_provider: str | None = None
    fallback_providers: str = ""
    provider_timeout_seconds: Annotated[float, Field(ge=0.1, le=120)] = 10
    provider_total_seconds: Annotated[float, Field(ge=0.1, le=600)] = 15
    alpha_vantage_api_key: SecretStr | None = None
    alpha_vantage_base_url: Origin = "https://www.alphavantage.co"
    alpha_vantage_budget: BudgetText = "1/second,25/day"
    finnhub_api_key: SecretStr | None = None
    finnhub_base_url: Origin = "https://finnhub.io"
    finnhub_ws_url: SocketUrl = "wss://ws.finnhub.io"
    finnhub_budget: BudgetText = "30/second,60/minute"
    twelve_data_api_key: SecretStr | None = None
    twelve_data_base_url: Origin = "https://api.twelvedata.com"
    twelve_data_ws_url: SocketUrl = "wss://ws.twelvedata.com/v1/quotes/price"
    twelve_data_budget: BudgetText = "8/minute,800/day"
    massive_api_key: SecretStr | None = None
    massive_base_url: Origin = "https://api.massive.com"
    massive_ws_url: SocketUrl = "wss://socket.massive.com/stocks"
    massive_budget: BudgetText = "5/minute"
    alpaca_api_key_id: SecretStr | None = None
    alpaca_api_secret_key: SecretStr | None = None
    alpaca_base_url: Origin = "https://data.alpaca.markets"
    alpaca_ws_url: SocketUrl = "wss://stream.data.alpaca.markets/v2/iex"
    alpaca_budget: BudgetText = "200/minute"
    tiingo_api_key: SecretStr | None = None
    tiingo_base_url: Origin = "https://api.tiingo.com"
    tiingo_budget: BudgetText = "50/hour,1000/day"
    yahoo_base_url: Origin = "https://query2.finance.yahoo.com"
    yahoo_budget: BudgetText = "30/hour"
    coinbase_base_url: Origin = "https://api.exchange.coinbase.com"
    coinbase_ws_url: SocketUrl = "wss://ws-feed.exchange.coinbase.com"
    coinbase_budget: BudgetText = "10/second"
    binance_base_url: Origin = "https://api.binance.com"
    binance_ws_url: SocketUrl = "wss://stream.binance.com:9443/stream"
    binance_budget: BudgetText = "600/minute"
    kraken_base_url: Origin = "https://api.kraken.com"
    kraken_ws_url: SocketUrl = "wss://ws.kraken.com/v2"
    kraken_budget: BudgetText = "1/second"
    ccxt_exchanges: Annotated[str, AfterValidator(_exchanges)] = ""
    ccxt_budget: BudgetText = "1/second"
    feeds_most_waiting_events: Annotated[int, Field(ge=1_000, le=100_000_000)] = 200_000
    market_calendars: Literal["on", "off"] = "on"
    history_file: Path | None = None
    history_interval_seconds: Annotated[float, Field(ge=0.001)] = 1

    @property
    def home(self) -> Path:
        return self.pricewire_home.expanduser().absolute()

    @property
    def provider(self) -> str:
        """The default provider: named, or the one whose key is set, or the recorded history."""
        if self.default_provider:
            return self.default_provider
        return "alpha_vantage" if self.alpha_vantage_api_key else "history"

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Who is asked, in order, where the default provider gives no price."""
        names = (name.strip() for name in self.fallback_providers.split(","))
        return tuple(dict.fromkeys(filter(None, names)))

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The exchanges to be asked by ccxt."""
        return tuple(dict.fromkeys(filter(None, self.ccxt_exchanges.split(","))))

    @property
    def database(self) -> str:
        """The database's URL with its driver; a SQLite file in the home folder by default."""
        if self.database_url is None:
            return f"sqlite:///{self.home / 'pricewire.db'}"
        scheme, rest = self.database_url.get_secret_value().split(":", 1)
        return f"{_DRIVERS[scheme]}:{rest}"

    @property
    def uses_sqlite(self) -> bool:
        return self.database.startswith("sqlite")

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        _check_database(self)
        _check_security(self)
        _check_topics(self)
        if self.kafka_topic_min_insync_replicas > self.kafka_topic_replication_factor:
            raise ValueError(
                "KAFKA_TOPIC_MIN_INSYNC_REPLICAS is above KAFKA_TOPIC_REPLICATION_FACTOR: "
                "no write could ever succeed"
            )
        if self.default_provider is not None:
            _check_provider(self, self.default_provider, "DEFAULT_PROVIDER")
        for name in self.fallbacks:
            _check_provider(self, name, "FALLBACK_PROVIDERS")
        return self


_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite",
}


CCXT = "ccxt:"
"""Begins the name of a provider that is an exchange asked by ccxt."""


def _check_provider(settings: Settings, name: str, variable: str) -> None:
    """Refuse a provider that is not there: unknown, or without its keys."""
    if name == "history" or name in (f"{CCXT}{one}" for one in settings.exchanges):
        return
    if name.startswith(CCXT):
        raise ValueError(f"{variable}={name} needs its exchange in CCXT_EXCHANGES")
    known = [
        field.removesuffix("_base_url")
        for field in Settings.model_fields
        if field.endswith("_base_url")
    ]
    if name not in known:
        raise ValueError(f"{variable} is one of history, {', '.join(known)}, ccxt:<exchange>")
    missing = [
        field.upper()
        for field in Settings.model_fields
        if field.startswith(f"{name}_api_") and getattr(settings, field) is None
    ]
    if missing:
        raise ValueError(f"{variable}={name} needs {', '.join(missing)}")


def _check_topics(settings: Settings) -> None:
    """Refuse two topics of one name: whoever reads the one would take the other's for its own."""
    names: dict[str, str] = {}
    for field in Settings.model_fields:
        if field.startswith("kafka_") and field.endswith("_topic"):
            other = names.setdefault(getattr(settings, field), field)
            if other != field:
                raise ValueError(f"{other.upper()} and {field.upper()} must differ")


def _check_database(settings: Settings) -> None:
    if settings.database_url is None:
        return
    url = settings.database_url.get_secret_value()
    if url.partition(":")[0] not in _DRIVERS or "://" not in url:
        raise ValueError(
            "DATABASE_URL is postgresql://user:password@host:5432/name or sqlite:////path/to/file"
        )
    if url.startswith("sqlite") and not _SQLITE_FILE.fullmatch(url):
        raise ValueError("DATABASE_URL names no file: sqlite:////path/to/file, four slashes")
    if not _ports_are_numbers(url):
        raise ValueError("DATABASE_URL has a port that is no number")


def _ports_are_numbers(url: str) -> bool:
    hosts = url.rpartition("@")[2].rpartition("://")[2].partition("/")[0].partition("?")[0]
    ports = [host.rpartition(":")[2] for host in hosts.split(",") if ":" in host]
    return all(port.isdigit() or port.endswith("]") for port in ports)


def _check_security(settings: Settings) -> None:
    sasl = settings.kafka_security_protocol.startswith("SASL")
    given = {
        "KAFKA_SASL_MECHANISM": settings.kafka_sasl_mechanism,
        "KAFKA_SASL_USERNAME": settings.kafka_sasl_username,
        "KAFKA_SASL_PASSWORD": settings.kafka_sasl_password,
    }
    missing = [name for name, value in given.items() if value is None]
    if sasl and missing:
        raise ValueError(
            f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs {', '.join(missing)}"
        )
    if not sasl and len(missing) < len(given):
        raise ValueError("KAFKA_SASL_… is set: KAFKA_SECURITY_PROTOCOL must be SASL_SSL or so")
    tls = settings.kafka_security_protocol.endswith("SSL")
    if not tls and (settings.kafka_ssl_ca_location or settings.kafka_ssl_certificate_location):
        raise ValueError("KAFKA_SSL_… is set: KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL")
    if settings.kafka_ssl_key_password and not settings.kafka_ssl_key_location:
        raise ValueError("KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_KEY_LOCATION")
    if (settings.kafka_ssl_certificate_location is None) != (
        settings.kafka_ssl_key_location is None
    ):
        raise ValueError("KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION go together")
    if settings.kafka_security_protocol != "PLAINTEXT" and not settings.kafka_bootstrap_servers:
        raise ValueError(
            f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs "
            "KAFKA_BOOTSTRAP_SERVERS: the local Kafka speaks PLAINTEXT"
        )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        StartupError: names every variable that is wrong and what would be right; never its value.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise StartupError("; ".join(_complaints(error))) from None


def _complaints(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in problem['loc']).upper()}: {_plain(problem['msg'])}"
        if problem["loc"]
        else _plain(problem["msg"])
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (variable, value, origin) of every setting; secrets and passwords masked."""
    from_env = {name.lower() for name in _environment()}
    rows = []
    for name in Settings.model_fields:
        if name not in settings.model_fields_set:
            origin = "default"
        else:
            origin = "environment" if name in from_env else ".env"
        rows.append((name.upper(), _masked(name, getattr(settings, name)), origin))
    return rows


def _environment() -> list[str]:
    return [name for name, value in os.environ.items() if value]


def _masked(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "database_url" and isinstance(value, SecretStr):
        return mask_url(value.get_secret_value())
    return str(value)


def mask_url(url: str) -> str:
    """Return `url` with its password and query hidden."""
    if url.startswith("sqlite"):
        return url
    # Up to the last @: a password may hold one, unescaped, and so may a user's name.
    hidden = re.sub(r"://.*@", "://***@", url)
    return re.sub(r"\?.*", "?***", hidden)
