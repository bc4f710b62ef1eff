"""What a price event looks like on the wire: value, key, headers; pure.

The door encodes with it, the producer adds the headers, the tail reader decodes. Invariant: the
value has exactly the five members of the contract (design section 4), the price with the
provider's digits; everything else travels in headers, CloudEvents 1.0 in binary mode.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec

from pricewire.domain.event import (
    PRICE_RECORDED,
    EventId,
    Source,
    WaitingEvent,
    parse_event_id,
    parse_source,
)
from pricewire.domain.quote import PriceKind, Quote, price_text
from pricewire.errors import InvalidParameter

Headers = list[tuple[str, str | bytes | None]]

CE_SPECVERSION = b"1.0"
CONTENT_TYPE = b"application/json"
TEST_SOURCE = "/pricewire/test"
TEST_HEADER = "pw-test"
NOT_OURS_TO_COUNT = (TEST_HEADER, "pw-replay-id", "pw-redrive")
"""Headers of records that did not come from the relay (promise 2)."""


class Record(NamedTuple):
    """What a producer is given: an event as it goes to the topic."""

    key: str
    value: bytes
    headers: Headers
    recorded_at: datetime


class PriceEventValue(msgspec.Struct, frozen=True, gc=False):
    """The five members of a price event."""

    symbol: str
    price: Decimal
    timestamp: datetime
    source: str
    raw_response_id: UUID


class _PriceEventOut(msgspec.Struct):
    symbol: str
    price: msgspec.Raw
    timestamp: datetime
    source: str
    raw_response_id: UUID


class PriceEventIn(msgspec.Struct, gc=False):
    """A price event as somebody wrote it; the price may yet turn out to be no number."""

    symbol: str
    price: msgspec.Raw
    timestamp: datetime
    source: str
    raw_response_id: UUID


class UsualPriceEvent(msgspec.Struct, gc=False):
    """A price event for those who look at the price and at the text of the id themselves."""

    symbol: str
    price: msgspec.Raw
    timestamp: datetime
    source: str
    raw_response_id: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PriceEventValue)


def encode_price_event(
    quote: Quote, *, provider: str, raw_response_id: UUID
) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Return a record's value and the headers that it needs beyond the five."""
    value = _PriceEventOut(
        symbol=quote.symbol,
        price=exact_number(quote.price),
        timestamp=quote.timestamp,
        source=provider,
        raw_response_id=raw_response_id,
    )
    return _encoder.encode(value), _extra_headers(quote)


def exact_number(price: Decimal) -> msgspec.Raw:
    """Return `price` as a JSON number with its exact digits, never in exponent notation."""
    return msgspec.Raw(price_text(price).encode())


def _extra_headers(quote: Quote) -> tuple[tuple[str, str], ...]:
    headers = []
    if quote.precision.coarser_than_second:
        headers.append(("pw-precision", quote.precision.value))
    if quote.currency is not None:
        headers.append(("pw-currency", quote.currency))
    if quote.kind is not PriceKind.LAST:
        headers.append(("pw-kind", quote.kind.value))
    return tuple(headers)


decode_price_event = _decoder.decode
"""Returns the five members; raises msgspec.DecodeError where it is no price event."""

decode_raw_price_event = msgspec.json.Decoder(PriceEventIn).decode
"""Takes the price as it stands: decoded as a Decimal, a string of digits would pass as well."""

decode_usual_price_event = msgspec.json.Decoder(UsualPriceEvent).decode
"""The quickest; what it lets pass, its caller must look at."""


def record_headers(event: WaitingEvent, source: Source) -> Headers:
    """Return the five headers of every event and those of this one."""
    headers = cloud_event_headers(str(event.event_id), event.type, str(source))
    headers.extend((name, text.encode()) for name, text in event.headers)
    return headers


def headers_of_a_test(event_id: UUID, extra: tuple[tuple[str, str], ...]) -> Headers:
    """Return the headers of an event that no relay published and that nobody may count."""
    headers = cloud_event_headers(str(event_id), PRICE_RECORDED, TEST_SOURCE)
    headers.extend((name, text.encode()) for name, text in extra)
    headers.append((TEST_HEADER, b"true"))
    return headers


def cloud_event_headers(event_id: str, type_: str, source: str) -> Headers:
    """Return the five that every event of ours has."""
    return [
        ("ce_specversion", CE_SPECVERSION),
        ("ce_id", event_id.encode()),
        ("ce_type", type_.encode()),
        ("ce_source", source.encode()),
        ("content-type", CONTENT_TYPE),
    ]


def relayed(
    headers: Headers | dict[str, str | bytes | None] | None,
) -> tuple[EventId, Source] | None:
    """Return what a record is that a relay published, None for somebody else's."""
    named = dict(headers or [])
    source = parse_source(_text(named.get("ce_source")))
    if source is None or any(name in named for name in NOT_OURS_TO_COUNT):
        return None
    try:
        return parse_event_id(_text(named.get("ce_id"))), source
    except InvalidParameter:
        return None


def _text(header: bytes | str | None) -> str:
    return header.decode("utf-8", "replace") if isinstance(header, bytes) else header or ""
