"""What is said of Kafka's errors, and what of the link's settings is refused at the start.

The texts are those of librdkafka 2.16 and of brokers 4.3, as they came in the fault tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from pricewire.errors import StartupError
from pricewire.kafka.client import Connection
from pricewire.kafka.trouble import Complaint, explain, plain
from pricewire.services.outage import Interruption
from tests.certificates import Authority

SECRET = "hunter2"
CONFIG = {
    "bootstrap.servers": "kafka:9093",
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "relay",
    "sasl.password": SECRET,
}
UNVERIFIED = (
    "sasl_ssl://kafka:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::"
    "certificate verify failed: broker certificate could not be verified (after 4ms in state X)"
)


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (
            KafkaError._AUTHENTICATION,
            (
                "sasl_ssl://kafka:9093/bootstrap: SASL authentication error: Authentication failed "
                "during authentication due to invalid credentials (after 301ms in state AUTH_REQ)"
            ),
            "KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
        ),
        (
            KafkaError._AUTHENTICATION,
            (
                "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported mechanism: "
                "broker's supported mechanisms: PLAIN"
            ),
            "does not take SCRAM-SHA-512 there: look at KAFKA_SASL_MECHANISM",
        ),
        (KafkaError._SSL, UNVERIFIED, "look at KAFKA_SSL_CA_LOCATION"),
        (
            KafkaError._TRANSPORT,
            "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: number 42",
            "look at KAFKA_SSL_CERTIFICATE_LOCATION",
        ),
        (
            KafkaError._TRANSPORT,
            "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            "look at KAFKA_SECURITY_PROTOCOL=SASL_SSL",
        ),
        (KafkaError._RESOLVE, "Failed to resolve 'kafka:9093'", "look at KAFKA_BOOTSTRAP_SERVERS"),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            "Broker: Topic authorization failed",
            "does not allow Write on topic prices: grant it to the user of KAFKA_SASL_USERNAME",
        ),
        (
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            (
                "Failed to acquire idempotence PID from broker kafka:9093/1: Broker: Cluster "
                "authorization failed"
            ),
            "does not allow Write on topic prices",
        ),
        (
            KafkaError._GAPLESS_GUARANTEE,
            (
                "ProduceRequest for prices [0] with 1 message(s) failed: Broker: Topic "
                "authorization failed (broker 1 PID{Id:0,Epoch:0}, base seq 0): unable to satisfy"
            ),
            "does not allow Write on topic prices",
        ),
    ],
)
def test_an_error_is_one_line_with_what_to_look_at(code: int, text: str, said: str) -> None:
    line = explain(KafkaError(code, text), CONFIG, topic="prices", right="Write")
    assert said in line
    assert "kafka:9093" in line
    assert "\n" not in line
    assert SECRET not in line


def test_one_cause_reads_the_same_every_time() -> None:
    said = {
        plain(
            KafkaError(
                KafkaError._TRANSPORT, f"kafka:9093/{name}: Refused (after {ms}ms in state X)"
            )
        )
        for name, ms in (("bootstrap", 0), ("1", 31))
    }
    assert said == {"Refused"}


def test_the_reason_is_what_the_client_complained_of_before_the_call_failed() -> None:
    failed = KafkaError(KafkaError._TRANSPORT, "Failed to get metadata")
    complaint = Complaint(CONFIG)
    assert complaint.explain(failed) == (
        "no Kafka broker answers at kafka:9093: Failed to get metadata"
    )
    complaint.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert "is KAFKA_SECURITY_PROTOCOL=SASL_SSL right?" in complaint.explain(failed)
    waiting_may_mend = not complaint.explained
    complaint.note(KafkaError(KafkaError._AUTHENTICATION, "Authentication failed"))
    complaint.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert "refuses the user name or the password" in complaint.explain(failed)
    assert waiting_may_mend
    assert complaint.explained
    complaint.forget()
    assert "Failed to get metadata" in complaint.explain(failed)


def tls(**files: Path | str) -> Connection:
    names = {name.replace("_", "."): str(value) for name, value in files.items()}
    return Connection("localhost:1", {"security.protocol": "SSL", **names})


def test_what_the_link_needs_and_cannot_be_used_is_refused(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    mine = ours.client("relay", SECRET)
    pair = {"ssl_certificate_location": mine.certificate, "ssl_key_location": mine.key}
    tls(ssl_ca_location=ours.certificate, **pair, ssl_key_password=SECRET).check()

    no_pem = tmp_path / "words.pem"
    no_pem.write_text("certificate, please")
    stranger = {"ssl_certificate_location": other.client("relay").certificate}
    refused = {
        "KAFKA_SSL_CA_LOCATION=.*there is no such file": tls(ssl_ca_location=tmp_path / "gone"),
        "KAFKA_SSL_CA_LOCATION cannot be used: it holds no PEM": tls(ssl_ca_location=no_pem),
        "KAFKA_SSL_KEY_PASSWORD does not open it": tls(**pair, ssl_key_password="hunter3"),
        "not the key of KAFKA_SSL_CERTIFICATE_LOCATION": tls(
            **pair | stranger, ssl_key_password=SECRET
        ),
    }
    for said, connection in refused.items():
        with pytest.raises(StartupError, match=said) as error:
            connection.check()
        assert "hunter" not in error.value.detail


def test_an_interruption_of_all_shards_is_told_once_and_its_end_once() -> None:
    interruption = Interruption()
    with capture_logs() as told:
        for _ in range(3):
            for shard in (0, 1):
                interruption.met(shard, "no broker answers")
        interruption.over(0)
        interruption.met(1, "no broker answers")
        interruption.over(1)
        interruption.over(0)
        interruption.met(0, "no broker answers")
    assert [line["event"] for line in told] == [
        *("relay.interrupted", "relay.resumed", "relay.interrupted")
    ]
