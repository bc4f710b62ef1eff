"""A price event on the wire: five members, exact digits, and headers that say something."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.event import EventId, Source, WaitingEvent
from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.kafka.codec import decode_price_event, encode_price_event, record_headers
from tests.builders import RECORDED_AT, make_quote

RAW_ID = UUID("018e5b2e-9c1a-7f3b-8a52-0d5f4f1f3c11")
SOURCE = Source(UUID("018e5b2e-0000-7000-8000-000000000001"), 3)
PRICES = st.builds(
    lambda digits, exponent: Decimal(f"{digits}E{exponent}"),
    st.integers(1, 10**30 - 1),
    st.integers(-20, 20),
)


def encode(quote: Quote) -> bytes:
    return encode_price_event(quote, provider="alpha_vantage", raw_response_id=RAW_ID)[0]


def extra_headers(quote: Quote) -> dict[str, str]:
    return dict(encode_price_event(quote, provider="alpha_vantage", raw_response_id=RAW_ID)[1])


def test_the_value_is_exactly_the_contract() -> None:
    assert encode(make_quote("AAPL", "150.25")).decode() == (
        '{"symbol":"AAPL","price":150.25,"timestamp":"2024-03-20T10:30:00Z",'
        '"source":"alpha_vantage","raw_response_id":"018e5b2e-9c1a-7f3b-8a52-0d5f4f1f3c11"}'
    )


def test_nothing_that_is_known_beside_changes_the_five_members() -> None:
    rich = make_quote(precision=Precision.DAY, currency="GBp", kind=PriceKind.CLOSE)
    assert encode(rich) == encode(make_quote())


@given(PRICES)
def test_any_price_is_written_with_its_digits_and_read_back_exactly(price: Decimal) -> None:
    value = encode(make_quote(price=str(price)))
    written = value.split(b'"price":')[1].split(b",")[0].decode()
    assert set(written) <= set("0123456789.")
    assert written == format(price, "f")
    read = decode_price_event(value).price
    assert read == price
    assert format(read, "f") == written
    assert json.loads(value, parse_float=Decimal, parse_int=Decimal)["price"] == price


@pytest.mark.parametrize("digits", ["112.1300", "0.00000001", "109631.43060700", "100", "0.10"])
def test_zeros_of_the_provider_stay(digits: str) -> None:
    assert f'"price":{digits},'.encode() in encode(make_quote(price=digits))


def test_a_time_finer_than_a_second_keeps_its_digits() -> None:
    quote = make_quote(timestamp=datetime(2024, 3, 20, 10, 30, 0, 120_000, tzinfo=UTC))
    value = encode(quote)
    assert b'"timestamp":"2024-03-20T10:30:00.120000Z"' in value
    assert decode_price_event(value).timestamp == quote.timestamp


@given(PRICES, st.sampled_from(["AAPL", "EUR/USD", "^GSPC"]))
def test_the_same_input_gives_the_same_bytes(price: Decimal, symbol: str) -> None:
    assert encode(make_quote(symbol, str(price))) == encode(make_quote(symbol, str(price)))


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b'{"symbol": "AAPL", "price": 1}'])
def test_what_is_no_price_event_is_not_decoded(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_price_event(value)


def test_headers_appear_only_where_they_say_something() -> None:
    assert extra_headers(make_quote()) == {}
    assert extra_headers(make_quote(precision=Precision.MILLISECOND)) == {}
    said = make_quote(precision=Precision.DAY, currency="GBp", kind=PriceKind.CLOSE)
    assert extra_headers(said) == {
        "pw-precision": "day",
        "pw-currency": "GBp",
        "pw-kind": "close",
    }


def test_a_record_has_the_five_headers_and_those_of_its_event() -> None:
    event = WaitingEvent(
        outbox_id=7,
        event_id=EventId("AAPL", 12),
        type="price.recorded",
        raw_response_id=RAW_ID,
        recorded_at=RECORDED_AT,
        value=b"{}",
        headers=(("pw-precision", "day"),),
    )
    assert record_headers(event, SOURCE) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"AAPL~12"),
        ("ce_type", b"price.recorded"),
        ("ce_source", b"/pricewire/018e5b2e-0000-7000-8000-000000000001/3"),
        ("content-type", b"application/json"),
        ("pw-precision", b"day"),
    ]
