"""Reads what a check published and says in what it differs from what was sent; for `check`.

Invariant: `differences` is pure and compares all that a consumer sees: key, value, each member with
its digits, each header, the time and the place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Connection
from pricewire.kafka.codec import Headers, Record

OPEN_SECONDS = 5.0
READ_SECONDS = 8.0
_ATTEMPT_SECONDS = 1.0


class ReadBack:
    """Reads the partitions of a topic from the ends that they have when opened; blocking."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self.topic = topic
        self._consumer = Consumer(
            {
                **connection.base("check"),
                "group.id": "pricewire-check",
                "enable.auto.commit": False,
                # An open transaction of somebody else must not hold the check up.
                "isolation.level": "read_uncommitted",
            }
        )

    def open(self, at_most: int) -> int:
        """Take the position at the ends; return how many partitions the topic has.

        Raises:
            KafkaUnavailable: a partition has no leader that answers.
        """
        give_up = time.monotonic() + OPEN_SECONDS
        while True:
            try:
                return self._take_position(at_most)
            except KafkaException as error:
                # A topic that was just made has no leaders for a moment.
                if time.monotonic() > give_up:
                    reason = f"topic {self.topic} cannot be read: {error.args[0].str()}"
                    raise KafkaUnavailable(reason) from error
                time.sleep(0.1)

    def _take_position(self, at_most: int) -> int:
        metadata = self._consumer.list_topics(self.topic, timeout=_ATTEMPT_SECONDS)
        partitions = len(metadata.topics[self.topic].partitions)
        if partitions == 0:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        ends = []
        for number in range(min(partitions, at_most)):
            partition = TopicPartition(self.topic, number)
            _, end = self._consumer.get_watermark_offsets(partition, timeout=_ATTEMPT_SECONDS)
            ends.append(TopicPartition(self.topic, number, end))
        self._consumer.assign(ends)
        return partitions

    def read(self, records: Mapping[int, Record]) -> dict[int, Message]:
        """Return the message of each record by partition; those that did not come are missing."""
        wanted = {_id(record.headers): partition for partition, record in records.items()}
        found: dict[int, Message] = {}
        give_up = time.monotonic() + READ_SECONDS
        while len(found) < len(wanted) and time.monotonic() < give_up:
            message = self._consumer.poll(_ATTEMPT_SECONDS)
            if message is None or message.error() is not None:
                continue
            partition = wanted.get(_id(headers_of(message)))
            if partition is not None:
                found[partition] = message
        return found

    def close(self) -> None:
        self._consumer.close()


def headers_of(message: Message) -> Headers:
    raw = message.headers() or []
    return list(raw.items() if isinstance(raw, dict) else raw)


def _id(headers: Headers) -> str | bytes | None:
    return dict(headers).get("ce_id")


def differences(sent: Record, read: Message | None, offset: int | None) -> tuple[str, ...]:
    """Return one sentence for each thing in which what was read is not what was sent."""
    if read is None:
        return (f"it was not there to be read within {READ_SECONDS:g} s",)
    found = []
    if offset is not None and read.offset() != offset:
        found.append(f"the broker reported offset {offset}, it lies at {read.offset()}")
    if read.key() != sent.key.encode():
        found.append(_changed("the key", sent.key.encode(), read.key()))
    found += _value_differences(sent.value, read.value())
    found += _header_differences(sent.headers, headers_of(read))
    kind, milliseconds = read.timestamp()
    expected = int(sent.recorded_at.timestamp() * 1000)
    # A topic may be set to stamp the time of the append instead.
    if kind == TIMESTAMP_CREATE_TIME and milliseconds != expected:
        found.append(_changed("the record's time", expected, milliseconds))
    return tuple(found)


def _value_differences(sent: bytes, read: bytes | str | None) -> list[str]:
    if read == sent:
        return []
    try:
        members = msgspec.json.decode(read or b"", type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return [_changed("the value", sent, read)]
    given = msgspec.json.decode(sent, type=dict[str, msgspec.Raw])
    found = [
        _changed(f"member {name}", _raw(given.get(name)), _raw(members.get(name)))
        for name in {**given, **members}
        if _raw(given.get(name)) != _raw(members.get(name))
    ]
    return found or [_changed("the value", sent, read)]


def _raw(member: msgspec.Raw | None) -> bytes | None:
    return None if member is None else bytes(member)


def _header_differences(sent: Headers, read: Headers) -> list[str]:
    given, members = dict(sent), dict(read)
    found = [
        _changed(f"header {name}", given.get(name), members.get(name))
        for name in {**given, **members}
        if given.get(name) != members.get(name)
    ]
    if not found and sent != read:
        found.append(_changed("the order of the headers", list(given), [name for name, _ in read]))
    return found


def _changed(what: str, sent: object, read: object) -> str:
    return f"{what} was sent as {_shown(sent)} and read as {_shown(read)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
