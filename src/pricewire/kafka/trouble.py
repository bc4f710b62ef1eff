"""What errors of brokers and of librdkafka mean: one line each, with what to look at.

Topic and producer ask it before they tell anybody. Invariants: one cause gives the same line every
time (no durations, no connection's name), so that an outage is told once; and a line holds no
secret.
"""

from __future__ import annotations

import re
import socket
import ssl

from confluent_kafka import KafkaError

from pricewire.kafka.client import Config

TLS_SECONDS = 2.0

_NO_ANSWER = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT)  # noqa: SLF001
_UNTRUSTED = "certificate verify failed"
_MEANINGS = {
    r"(?i)(topic|cluster)[ _]authorization[ _]failed": (
        "Kafka at {servers} does not allow {right} on topic {topic}: grant it to the user of "
        "{identity} (kafka-acls --add --operation {right} --topic {topic})"
    ),
    r"mechanism handshake failed": (
        "Kafka at {servers} does not take {mechanism} there: look at KAFKA_SASL_MECHANISM and "
        "KAFKA_SECURITY_PROTOCOL ({plain})"
    ),
    r"_AUTHENTICATION|SASL_AUTHENTICATION_FAILED": (
        "Kafka at {servers} refuses the user name or the password: look at KAFKA_SASL_USERNAME, "
        "KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM={mechanism}"
    ),
    r"alert (bad|unknown|unsupported|certificate)": (
        "Kafka at {servers} wants a client certificate that it trusts: look at "
        "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION ({plain})"
    ),
    _UNTRUSTED: (
        "the certificate of Kafka at {servers} cannot be trusted, being of an unknown authority, "
        "expired or for another host name: look at KAFKA_SSL_CA_LOCATION"
    ),
    r"PLAINTEXT broker listener|wrong version number": (
        "Kafka at {servers} does not speak TLS there: look at KAFKA_SECURITY_PROTOCOL={protocol}"
    ),
    r"INVALID_TIMESTAMP|Invalid timestamp": (
        "Kafka at {servers} refuses records that are dated ahead of its clock: set the clock of "
        "this machine right (the topic's message.timestamp.after.max.ms, {plain})"
    ),
    r"_RESOLVE": "no Kafka broker answers at {servers}: {plain}; look at KAFKA_BOOTSTRAP_SERVERS",
}
"""What to say for what is found in an error's name or text; the first that is found."""


def explain(error: KafkaError, config: Config, *, topic: str = "", right: str = "Describe") -> str:
    """Return one line for `error`.

    Args:
        config: of the client that met it.
        right: the operation that an ACL must allow for what was tried.
    """
    text = plain(error)
    for pattern, line in _MEANINGS.items():
        if re.search(pattern, f"{error.name()} {text}"):
            return line.format(
                servers=config["bootstrap.servers"],
                topic=topic,
                right=right,
                plain=text,
                mechanism=config.get("sasl.mechanism", "SASL"),
                protocol=config.get("security.protocol", "PLAINTEXT"),
                identity=_identity(config),
            )
    return text


def plain(error: KafkaError) -> str:
    """Return what `error` says, in one line, without the names of connection, batch and state."""
    text = re.sub(r"^\S+/(?:bootstrap|\d+): ", "", " ".join(error.str().split()))
    # A producer's fatal error wraps what the broker said in numbers that are never the same.
    text = re.sub(r"^ProduceRequest for .* failed: (.*) \(broker .*$", r"\1", text)
    return re.sub(r" \(after \d+ms in state .*\)$", "", text)


def _identity(config: Config) -> str:
    if "sasl.username" in config:
        return "KAFKA_SASL_USERNAME"
    certificate = "ssl.certificate.location" in config
    return "KAFKA_SSL_CERTIFICATE_LOCATION" if certificate else "this client, ANONYMOUS"


class Complaint:
    """Keeps the last reason that a client gave; `note` is its `error_cb`.

    What a failed call itself raises says only that no broker answered. Callbacks are served by
    `poll`: call it before asking for the reason.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        # "All brokers are down" follows the error that says why, and says less.
        if self._last is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._last = error

    def forget(self) -> None:
        self._last = None

    @property
    def explained(self) -> bool:
        """Whether the reason is one that waiting alone does not mend."""
        last = self._last
        return last is not None and explain(last, self._config) != plain(last)

    def explain(self, error: KafkaError) -> str:
        """Return one line for a call that failed with `error`; may ask the broker's TLS."""
        reason = self._last or error
        servers, text = self._config["bootstrap.servers"], plain(reason)
        if _UNTRUSTED in text:
            return why_untrusted(reason, self._config)
        meaning = explain(reason, self._config)
        if meaning != text:
            return meaning
        if reason.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            protocol = self._config.get("security.protocol", "PLAINTEXT")
            text = f"connections are closed; is KAFKA_SECURITY_PROTOCOL={protocol} right?"
        if error.code() in _NO_ANSWER:
            return f"no Kafka broker answers at {servers}: {text}"
        return f"Kafka at {servers}: {plain(error)}"


def why_untrusted(error: KafkaError, config: Config) -> str:
    """Return why a broker's certificate is not trusted; shakes hands itself, as librdkafka tells
    only that it is not.
    """
    found = re.match(r"(?:sasl_)?ssl://\[?([^/\]]+)\]?:(\d+)/", error.str())
    message = _verdict(found[1], int(found[2]), config) if found else ""
    where = f"{found[1]}:{found[2]}" if found else config["bootstrap.servers"]
    if "expired" in message:
        return f"the certificate of Kafka at {where} has expired: it must be renewed at the broker"
    if "mismatch" in message:
        return (
            f"the certificate of Kafka at {where} is for another host name: look at "
            "KAFKA_BOOTSTRAP_SERVERS and at the broker's advertised.listeners"
        )
    if message:
        return (
            f"the certificate of Kafka at {where} is not of an authority that is trusted: look at "
            f"KAFKA_SSL_CA_LOCATION ({message})"
        )
    return explain(error, config)


def _verdict(host: str, port: int, config: Config) -> str:
    try:
        context = ssl.create_default_context(cafile=config.get("ssl.ca.location"))
        with (
            socket.create_connection((host, port), TLS_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as refused:
        return refused.verify_message
    except OSError:
        return ""
