"""What processors are given for each record: a price, something to skip, or poison."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.quote import Precision
from pricewire.kafka.records import RecordReader
from pricewire.services.processing import Poison, PriceTick, Record, Skipped

SOURCE = "/pricewire/01a208e5-c4c5-74aa-b7c5-5302ea8208dd/1"
RAW_ID = "01a208e5-dfcd-7325-bd50-2c7e2cf2631a"
VALUE = (
    b'{"symbol":"AAPL","price":112.1300,"timestamp":"2024-03-20T10:30:00Z",'
    b'"source":"alpha_vantage","raw_response_id":"01a208e5-dfcd-7325-bd50-2c7e2cf2631a"}'
)
HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"AAPL~12"),
    ("ce_type", b"price.recorded"),
    ("ce_source", SOURCE.encode()),
    ("content-type", b"application/json"),
]


class Message:
    """A message as confluent-kafka gives it."""

    def __init__(
        self, value: bytes | None = VALUE, key: bytes | None = b"AAPL", headers: Any = HEADERS
    ) -> None:
        self._value, self._key, self._headers = value, key, headers

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> Any:
        return self._headers

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 77

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_700)


TICK = PriceTick(
    3,
    77,
    1_700,
    "AAPL~12",
    12,
    SOURCE,
    "AAPL",
    Decimal("112.1300"),
    datetime(2024, 3, 20, 10, 30, tzinfo=UTC),
    "alpha_vantage",
    RAW_ID,
)


def read(*messages: Message) -> list[Record]:
    reader = RecordReader("price-events", "topic-1")
    return reader.read(messages)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in VALUE
    return VALUE.replace(old, new)


def test_a_record_of_the_relay_is_a_price() -> None:
    # Twice: the first of a symbol goes the careful way, the next the usual one.
    for tick in read(Message(), Message()):
        assert tick == TICK
        assert isinstance(tick, PriceTick)
        assert str(tick.price) == "112.1300"


def test_more_headers_change_nothing() -> None:
    assert read(Message(), Message(headers=[*HEADERS, ("pw-currency", b"USD")])) == [TICK, TICK]


@pytest.mark.parametrize("precision", list(Precision))
def test_how_fine_a_time_is_is_told(precision: Precision) -> None:
    marked = Message(headers=[*HEADERS, ("pw-precision", precision.value.encode())])
    expected = precision if precision.coarser_than_second else Precision.SECOND
    assert read(Message(), marked)[1] == msgspec.structs.replace(TICK, precision=expected)


@pytest.mark.parametrize("name", ["pw-test", "pw-replay-id"])
def test_tests_and_replays_do_not_count(name: str) -> None:
    marked = Message(headers=[*HEADERS, (name, b"1")])
    assert read(Message(), marked)[1] == Skipped(3, 77, 1_700)
    assert read(Message(headers=[(name, b"")])) == [Skipped(3, 77, 1_700)]


def test_a_redriven_record_counts() -> None:
    assert read(Message(headers=[*HEADERS, ("pw-redrive", b"1")])) == [TICK]


def test_what_is_redriven_for_one_processor_is_nothing_to_the_others() -> None:
    message = Message(headers=[("pw-redrive", b"1"), ("pw-redrive-for", b"averages")])
    readers = [
        RecordReader("price-events", "topic-1", processor=name)
        for name in ("averages", "candles", None)
    ]
    found: list[Record] = [one for reader in readers for one in reader.read([message])]
    assert [type(one) for one in found] == [PriceTick, Skipped, Skipped]


@pytest.mark.parametrize("headers", [None, [], [("ce_id", b"x"), ("ce_source", b"/other")]])
def test_another_producers_record_is_named_by_its_place(headers: Any) -> None:
    [tick] = read(Message(headers=headers))
    assert isinstance(tick, PriceTick)
    assert (tick.event_id, tick.sequence) == ("price-events/3/77", None)
    assert tick.source == "/kafka/topic-1"


def test_another_producers_time_is_told_in_utc() -> None:
    [tick] = read(Message(changed(b"10:30:00Z", b"11:30:00+01:00"), headers=None))
    assert isinstance(tick, PriceTick)
    assert tick.timestamp == datetime(2024, 3, 20, 10, 30, tzinfo=UTC)
    assert tick.timestamp.tzinfo is UTC


POISON: dict[str, list[bytes | None]] = {
    "not_json": [b"{", b"price", b"\x00\x00\x00\x00\x01" + VALUE, b"", b"\xff\xfe", b"{'a': 1}"],
    "schema": [
        changed(b"112.1300", b'"112.1300"'),
        changed(b"112.1300", b"null"),
        changed(b"112.1300", b"0"),
        changed(b"112.1300", b"-1"),
        changed(b"112.1300", b"1e999"),
        changed(b"112.1300", b"[1]"),
        changed(b'"price":112.1300,', b""),
        changed(b"10:30:00Z", b"10:30:00"),
        changed(b"2024-03-20T10:30:00Z", b"yesterday"),
        changed(RAW_ID.encode(), b"uuid-here"),
        changed(b'"AAPL"', b"5"),
        b"[]",
        b"5",
    ],
    "key": [changed(b"AAPL", b"MSFT"), changed(b"AAPL", b"AA~PL")],
    "size": [VALUE[:-1] + b" " * 1_000_000 + b"}"],
    "tombstone": [None],
}


@pytest.mark.parametrize(
    ("error_class", "number"),
    [(error_class, n) for error_class, values in POISON.items() for n in range(len(values))],
)
@pytest.mark.parametrize("ours", [True, False])
def test_poison_is_named_and_kept_as_it_came(error_class: str, number: int, ours: bool) -> None:
    value = POISON[error_class][number]
    headers = HEADERS if ours else None
    for found in read(Message(), Message(value, headers=headers))[1:]:
        assert isinstance(found, Poison)
        assert (found.error_class, found.value, found.key) == (error_class, value, b"AAPL")
        assert list(found.headers) == (headers or [])
        assert 0 < len(found.error) <= 500


@pytest.mark.parametrize("not_a_number", [b"NaN", b"Infinity", b"-Infinity", b"nan"])
def test_not_a_number_is_poison(not_a_number: bytes) -> None:
    [found] = read(Message(changed(b"112.1300", not_a_number)))
    assert isinstance(found, Poison)
    assert found.error_class == "not_json"


@pytest.mark.parametrize(
    ("key", "headers", "error_class"),
    [
        (None, HEADERS, "key"),
        (b"MSFT", HEADERS, "key"),
        (b"\xff", HEADERS, "key"),
        (b"AAPL", [*HEADERS[:1], ("ce_id", b"MSFT~12"), *HEADERS[2:]], "key"),
        (b"AAPL", [*HEADERS[:1], ("ce_id", b"AAPL~012"), *HEADERS[2:]], "key"),
        (b"AAPL", [*HEADERS[:1], ("ce_id", b"AAPL~x"), *HEADERS[2:]], "schema"),
        (b"AAPL", [*HEADERS[:1], ("ce_id", b"AAPL"), *HEADERS[2:]], "schema"),
        (b"AAPL", [*HEADERS[:1], *HEADERS[2:]], "schema"),
    ],
    ids=range(8),
)
def test_a_key_or_an_id_that_is_not_the_symbols_is_poison(
    key: bytes | None, headers: Any, error_class: str
) -> None:
    for found in read(Message(), Message(key=key, headers=headers))[1:]:
        assert isinstance(found, Poison)
        assert found.error_class == error_class


@given(st.data())
def test_no_bytes_raise(data: st.DataObject) -> None:
    body = bytearray(VALUE)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    maybe = st.none() | st.binary(max_size=8)
    headers = data.draw(
        st.sampled_from([HEADERS, None]) | st.lists(st.tuples(st.text(max_size=9), maybe))
    )
    key = data.draw(st.just(b"AAPL") | maybe)
    usual, found = read(Message(), Message(bytes(body), key, headers))
    assert usual == TICK
    if isinstance(found, PriceTick):
        assert found.price.is_finite()
        assert found.price > 0
        assert found.symbol.encode() == key


def past(event_id: bytes) -> Message:
    return Message(headers=[*HEADERS[:1], ("ce_id", event_id), *HEADERS[2:]])


def test_past_prices_have_a_series_of_their_own() -> None:
    reader = RecordReader("price-history", "topic-1", "h")
    for found in reader.read([past(b"AAPL~h12")] * 2):
        assert isinstance(found, PriceTick)
        assert (found.event_id, found.sequence) == ("AAPL~h12", 12)
    for event_id in (b"AAPL~12", b"AAPL~h012", b"AAPL~hh12", b"AAPL~h", b"h12"):
        [found] = reader.read([past(event_id)])
        assert isinstance(found, Poison)
    # What is past must never be taken for now.
    assert isinstance(read(Message(), past(b"AAPL~h12"))[1], Poison)


# Each member's usual texts and unusual ones, of which some are wrong.
_MEMBERS: dict[bytes, list[bytes]] = {
    b'"AAPL"': [b'"MSFT"', b'"A\\u0041PL"', b"null"],
    b"112.1300": [
        *(
            b"112",
            b"1e2",
            b"-1.5",
            b"0.0",
            b"0",
            b"-0",
            b"true",
            b'"1.5"',
            b"NaN",
            b"[]",
            b"1.5e64",
        ),
        *(b"1.0e-64", b"1e65", b"1e-65", b"1e99999999999999999999", b"18446744073709551616"),
        *(b"9" * 64, b"9" * 65, b"1." + b"0" * 126, b"1." + b"0" * 127, b"0." + b"0" * 63 + b"1"),
    ],
    b"2024-03-20T10:30:00Z": [
        *(b"2024-03-20T10:30:00.123456Z", b"2024-03-20T10:30:00.000000Z", b"2024-03-20t10:30:00z"),
        *(b"2024-03-20T11:30:00+01:00", b"2024-03-20T10:30:00+00:00", b"2024-03-20T10:30:00"),
        *(b"0001-01-01T00:00:00+23:59", b"2024-02-30T10:30:00Z", b"2024-03-20 10:30:00Z"),
    ],
    b'"alpha_vantage"': [b'"\\u00e9"', b"5", b'"' + b"x" * 60 + b'"'],
    RAW_ID.encode(): [
        *(RAW_ID.upper().encode(), RAW_ID.replace("-", "").encode(), RAW_ID[:-1].encode(), b""),
        *(b"g" + RAW_ID[1:].encode(), b"{%b}" % RAW_ID.encode(), b"\\u0030" + RAW_ID[1:].encode()),
    ],
    b'"price":': [
        b'"price":5,"price":',
        b'"pri\\u0063e":"5","price":',
        b'"price" : ',
        b'"more":{},"price":',
    ],
    b"}": [b',"price":"7"}', b',"symbol":"MSFT"}', b"} ", b"}}", b"}\n"],
}
_IDS = [
    *(
        b"AAPL~012",
        b"AAPL~-5",
        b"AAPL~+5",
        b"AAPL~ 5",
        b"AAPL~1_0",
        b"AAPL~0",
        b"AAPL~",
        b"MSFT~12",
    ),
    *(b"AAPL~999999999999999999", b"AAPL~1000000000000000000", b"AAPL~h12", b"\xff~1", None),
    "AAPL~\u0665".encode(),
]
_NAMES = ["pw-test", "pw-replay-id", "pw-precision", "ce_id", "x"]
_MORE = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.sampled_from([b"day", b"AAPL~13", b"", None]))
)


def with_id(event_id: bytes | None) -> list[tuple[str, bytes | None]]:
    return [HEADERS[0], ("ce_id", event_id), *HEADERS[2:]]


@st.composite
def nearly_usual(draw: st.DrawFn) -> Message:
    """A record as the relay writes it, but for a few things."""
    value = VALUE
    for usual, others in _MEMBERS.items():
        if draw(st.integers(0, 5)) == 0:
            value = value.replace(usual, draw(st.sampled_from(others)))
    headers: list[tuple[str, bytes | None]] = list(HEADERS)
    if draw(st.integers(0, 3)) == 0:
        headers = with_id(draw(st.sampled_from(_IDS)))
    if draw(st.integers(0, 5)) == 0:
        headers[draw(st.integers(0, 4))] = (draw(st.sampled_from(_NAMES)), b"1")
    if draw(st.integers(0, 3)) == 0:
        headers += draw(_MORE)
    return Message(value, headers=headers)


@settings(max_examples=500)
@given(st.lists(nearly_usual(), min_size=1, max_size=4))
def test_the_quick_way_and_the_careful_one_give_the_same(messages: list[Message]) -> None:
    # What stands before a record, its reader knows: symbol, source, number, further headers.
    known = [Message(), *(Message(headers=[*HEADERS, *one.headers()[5:]]) for one in messages)]
    found = read(*known, *messages)[len(known) :]
    for message, quickly in zip(messages, found, strict=True):
        [carefully] = read(message)
        assert quickly == carefully
        if isinstance(quickly, PriceTick) and isinstance(carefully, PriceTick):
            assert str(quickly.price) == str(carefully.price)
            assert quickly.timestamp.tzinfo is UTC


@pytest.mark.parametrize("numbers", [[1, 2, 3], [0, 1], [7, 9, 10, 10, 3, 4]])
def test_each_number_is_its_own_whatever_stood_before(numbers: list[int]) -> None:
    found = read(*(Message(headers=with_id(b"AAPL~%d" % number)) for number in numbers))
    assert [one.sequence for one in found if isinstance(one, PriceTick)] == numbers


@pytest.mark.parametrize("price", [b"112.1300", b"112", b"1e2"])
@pytest.mark.parametrize("more", [[], [("pw-precision", b"day"), ("pw-currency", b"USD")]])
def test_what_the_relay_writes_is_read_the_quick_way(price: bytes, more: Any) -> None:
    message = Message(changed(b"112.1300", price), headers=[*HEADERS, *more])
    reader = RecordReader("price-events", "topic-1")
    expected = reader.read([message])
    reader._read_carefully = None  # type: ignore[assignment, method-assign]
    assert reader.read([message]) == expected
