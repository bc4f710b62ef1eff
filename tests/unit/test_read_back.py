"""What a check compares: a record that came back otherwise is told, thing by thing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message
from typer.testing import CliRunner

from pricewire.cli import kafka
from pricewire.kafka.check import Findings, RoundTrip, a_test_record
from pricewire.kafka.codec import NOT_OURS_TO_COUNT
from pricewire.kafka.read_back import differences, headers_of

AT = datetime(2026, 11, 24, 10, 30, 0, 250_000, tzinfo=UTC)
SENT = a_test_record(1, 6, AT)
MILLISECONDS = int(AT.timestamp() * 1000)


def read(**changes: Any) -> Message:
    given: dict[str, Any] = {
        "topic": "price-events",
        "partition": 1,
        "offset": 7,
        "key": SENT.key.encode(),
        "value": SENT.value,
        "headers": list(SENT.headers),
        "timestamp": (TIMESTAMP_CREATE_TIME, MILLISECONDS),
    }
    return Message(**given | changes)


def test_the_prices_of_a_check_have_digits_that_a_float_would_lose() -> None:
    assert b'"price":112.1300,' in SENT.value


def test_a_test_event_carries_a_header_that_keeps_it_from_being_counted() -> None:
    assert set(NOT_OURS_TO_COUNT) & {name for name, _ in SENT.headers} == {"pw-test"}


def test_what_came_back_as_it_was_sent_has_no_differences() -> None:
    assert differences(SENT, read(), 7) == ()
    assert differences(SENT, read(), None) == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": b"AAPL"}, "the key was sent as TEST.4 and read as AAPL"),
        ({"key": None}, "the key was sent as TEST.4 and read as nothing"),
        ({"offset": 8}, "the broker reported offset 7, it lies at 8"),
        (
            {"value": SENT.value.replace(b"112.1300", b"112.13")},
            "member price was sent as 112.1300 and read as 112.13",
        ),
        (
            {"value": SENT.value.replace(b'"price":112.1300,', b"")},
            "member price was sent as 112.1300 and read as nothing",
        ),
        (
            {"value": SENT.value.replace(b"{", b'{"more":1,')},
            "member more was sent as nothing and read as 1",
        ),
        ({"value": b"\x00\x01"}, "the value was sent as {"),
        ({"value": None}, "the value was sent as {"),
        ({"value": SENT.value.replace(b",", b", ")}, "the value was sent as {"),
        ({"headers": SENT.headers[:-1]}, "header pw-test was sent as true and read as nothing"),
        ({"headers": [*SENT.headers, ("x", b"1")]}, "header x was sent as nothing and read as 1"),
        ({"headers": SENT.headers[::-1]}, "the order of the headers was sent as "),
        ({"headers": None}, "header ce_specversion was sent as 1.0 and read as nothing"),
        ({"timestamp": (TIMESTAMP_CREATE_TIME, MILLISECONDS + 1)}, "the record's time was sent as"),
    ],
    ids=lambda given: None if isinstance(given, dict) else given[:40],
)
def test_whatever_changed_on_the_way_is_told(changes: dict[str, Any], says: str) -> None:
    [first, *_] = differences(SENT, read(**changes), 7)
    assert first.startswith(says)


def test_a_time_that_the_broker_stamps_is_no_difference() -> None:
    stamped = read(timestamp=(TIMESTAMP_LOG_APPEND_TIME, MILLISECONDS + 99))
    assert differences(SENT, stamped, 7) == ()


def test_what_did_not_come_back_is_told() -> None:
    assert "was not there to be read" in differences(SENT, None, 7)[0]


def test_headers_of_a_message_without_any() -> None:
    assert headers_of(read(headers=None)) == []


def test_a_check_that_fails_says_what_differs_and_has_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trips = (
        RoundTrip("TEST.1", 0, 4, ()),
        RoundTrip("TEST.4", 1, None, ("member price was sent as 1.10 and read as 1.1",)),
    )

    async def checked(_: object) -> Findings:
        return Findings("price-events", 2, trips, None)

    monkeypatch.setattr(kafka, "check_producer", checked)
    monkeypatch.setattr(kafka, "start_logs", lambda _: None)
    done = CliRunner().invoke(kafka.app, ["check"])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:] == [
        "published  TEST.1    partition 0, offset 4: read back unchanged",
        f"published  TEST.4    partition 1, offset unknown: {trips[1].differences[0]}",
        "verdict    FAILED: the broker confirmed 2 test events, 1 were read back unchanged",
    ]


def test_a_check_of_nothing_has_not_passed() -> None:
    assert not Findings("price-events", 0, (), None).passed
