"""What a price event looks like on the wire: value, key, headers; pure.

The door encodes with it, the producer adds the headers, the tail reader decodes. Invariant: the
value has exactly the five members of the contract (design section 4), the price with the
provider's digits; everything else travels in headers, CloudEvents 1.0 in binary mode.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from pricewire.domain.event import Source, WaitingEvent
from pricewire.domain.quote import PriceKind, Quote, price_text

Headers = list[tuple[str, str | bytes | None]]

CE_SPECVERSION = b"1.0"
CONTENT_TYPE = b"application/json"
NOT_OURS_TO_COUNT = ("pw-test", "pw-replay-id", "pw-redrive")
"""Headers of records that did not come from the relay (promise 2)."""


class PriceEventValue(msgspec.Struct, frozen=True):
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


def decode_price_event(value: bytes) -> PriceEventValue:
    """Return the five members.

    Raises:
        msgspec.DecodeError: not JSON, or not a price event.
    """
    return _decoder.decode(value)


def record_headers(event: WaitingEvent, source: Source) -> Headers:
    """Return the five headers of every event and those of this one."""
    headers: Headers = [
        ("ce_specversion", CE_SPECVERSION),
        ("ce_id", str(event.event_id).encode()),
        ("ce_type", event.type.encode()),
        ("ce_source", str(source).encode()),
        ("content-type", CONTENT_TYPE),
    ]
    headers.extend((name, text.encode()) for name, text in event.headers)
    return headers
