"""What stands on `price-events`, record by record: a price, something skipped, or poison; pure.

The group reader gives processors what this makes of a record. Invariant: no record raises, whoever
wrote it; a record without our headers is another producer's and counts under its place in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from pricewire.domain.event import MAX_VALUE_BYTES, parse_source
from pricewire.domain.quote import MAX_PRICE_DIGITS, Precision
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidSymbol
from pricewire.kafka.codec import (
    PriceEventIn,
    decode_raw_price_event,
    decode_usual_price_event,
)
from pricewire.services.processing import Poison, PriceTick, Record, Skipped

NOT_TO_COUNT = frozenset({"pw-test", "pw-replay-id"})
"""Headers of records that no processor counts (promise 2); a redriven one counts."""
REDRIVEN_FOR = "pw-redrive-for"
"""Names the processor that had set the record aside; the others have dealt with it."""
MAX_CACHED = 1_000_000
MAX_SEQUENCE_DIGITS = 18
MAX_SEQUENCE = 10**MAX_SEQUENCE_DIGITS - 1
MAX_CACHED_EXTRAS = 1_000
USUAL_HEADERS = ("ce_specversion", "ce_id", "ce_type", "ce_source", "content-type")
_FIVE = len(USUAL_HEADERS)
MAX_USUAL_BYTES = 250
"""The other members take over half of it: a price of too many digits does not fit in."""

Headers = list[tuple[str, bytes | None]]
# What else a header may say is a second or finer, or none of our words.
_PRECISIONS: dict[bytes | None, Precision] = {
    one.value.encode(): one for one in Precision if one.coarser_than_second
}


_LOWEST = Decimal(1).scaleb(-MAX_PRICE_DIGITS)
_HIGHEST = Decimal(1).scaleb(MAX_PRICE_DIGITS + 1)
_A, _B, _C, _D, _E = USUAL_HEADERS
# What reading a record that is not as usual may raise: other headers, none, or none that we know; a
# tombstone; no price event; digits that are none.
_UNUSUAL = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, msgspec.DecodeError)
_SHAPE = bytes.maketrans(b"123456789abcdef", b"000000000000000")
_SHAPE_OF_AN_ID = b"00000000-0000-0000-0000-000000000000"


class _Unreadable(Exception):
    def __init__(self, error_class: str, error: str) -> None:
        super().__init__(error)
        self.error_class = error_class


class RecordReader:
    """Reads the records of one topic.

    Args:
        topic_id: part of the identity of records that have none of their own.
        mark: begins the number in an id of ours: none on `price-events`, `h` on `price-history`,
            whose sequences are a series of their own.
        processor: who reads; what was redriven for another is not to be counted.
    """

    def __init__(
        self, topic: str, topic_id: str, mark: str = "", processor: str | None = None
    ) -> None:
        self.topic_id = topic_id
        self._mark = f"~{mark}"
        self._redriven_for = {None, processor.encode()} if processor else {None}
        self._topic = topic
        self._others = f"/kafka/{topic_id}"
        # What a symbol, a source or further headers must look like is looked at once for each.
        self._symbols: dict[bytes, str] = {}
        # The last sequence of each symbol: to compare with what comes next is quicker than to read.
        self._numbers: dict[bytes, int] = {}
        self._sources: dict[bytes, str] = {}
        self._extras: dict[tuple[tuple[str, bytes | None], ...], Precision] = {}

    def read(self, messages: Iterable[Any]) -> list[Record]:
        """Return what messages of confluent-kafka hold, each in its place.

        A record as the relay writes it is read in this one loop, which makes no call that it can do
        without; anything unusual, wrong or new sends it the careful way, which says why. Both ways
        give the same.
        """
        symbols, sources, extras, mark = self._symbols, self._sources, self._extras, self._mark
        numbers, second = self._numbers, Precision.SECOND
        records: list[Record] = []
        for message in messages:
            try:
                headers, precision = message.headers(), second
                if len(headers) != _FIVE:
                    precision, headers = extras[tuple(headers[_FIVE:])], headers[:_FIVE]
                (a, _), (b, event_id), (c, _), (d, ce_source), (e, _) = headers
                key = message.key()
                symbol, source = symbols[key], sources[ce_source]
                value, event_id = message.value(), event_id.decode()
                event = decode_usual_price_event(value)
                price, timestamp = Decimal(str(event.price, "ascii")), event.timestamp
                sequence = numbers[key] + 1
                if event_id != f"{symbol}{mark}{sequence}":
                    sequence = _jumped(event_id, f"{symbol}{mark}")
                numbers[key] = sequence
                is_usual = (
                    a == _A
                    and b == _B
                    and c == _C
                    and d == _D
                    and e == _E
                    and len(value) <= MAX_USUAL_BYTES
                    and 0 <= sequence <= MAX_SEQUENCE
                    and event.symbol == symbol
                    and _LOWEST <= price < _HIGHEST
                    and timestamp.tzinfo is UTC
                    and event.raw_response_id.encode().translate(_SHAPE) == _SHAPE_OF_AN_ID
                )
            except _UNUSUAL:
                is_usual = False
            if not is_usual:
                records.append(self._read_carefully(message))
                continue
            records.append(
                PriceTick(
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    event_id,
                    sequence,
                    source,
                    symbol,
                    price,
                    timestamp,
                    event.source,
                    event.raw_response_id,
                    precision,
                )
            )
        return records

    def _read_carefully(self, message: Any) -> Record:
        try:
            return self._read(message)
        except _Unreadable as problem:
            return poison(message, problem.error_class, str(problem))

    def _read(self, message: Any) -> Record:
        partition, offset = message.partition(), message.offset()
        logged_at = message.timestamp()[1]
        headers = dict(message.headers() or ())
        is_mine = headers.get(REDRIVEN_FOR) in self._redriven_for
        if not is_mine or not NOT_TO_COUNT.isdisjoint(headers):
            return Skipped(partition, offset, logged_at)
        event_id, sequence, source = self._identity(headers)
        event = _decoded(message.value())
        symbol = self._symbol(message.key(), event.symbol)
        if sequence is None:
            event_id = f"{self._topic}/{partition}/{offset}"
        elif event_id != f"{symbol}{self._mark}{sequence}":
            raise _Unreadable("key", f"the id {event_id} is not one of {symbol}")
        price, timestamp = _price(event.price), _utc(event)
        return PriceTick(
            partition,
            offset,
            logged_at,
            event_id,
            sequence,
            source,
            symbol,
            price,
            timestamp,
            event.source,
            str(event.raw_response_id),
            self._precision(message.headers() or (), headers),
        )

    def _precision(self, in_order: Any, headers: dict[str, bytes | None]) -> Precision:
        precision = _PRECISIONS.get(headers.get("pw-precision"), Precision.SECOND)
        more = tuple(in_order[_FIVE:])
        if len(headers) == len(in_order) and len(self._extras) < MAX_CACHED_EXTRAS:
            self._extras[more] = precision
        return precision

    def _identity(self, headers: dict[str, bytes | None]) -> tuple[str, int | None, str]:
        """Return id, sequence and source; another producer's record has a source only."""
        source = self._source(headers.get("ce_source"))
        if source is None:
            return "", None, self._others
        event_id = (headers.get("ce_id") or b"").decode("utf-8", "replace")
        return event_id, _sequence(event_id, self._mark), source

    def _source(self, header: bytes | None) -> str | None:
        """Return the source if it is a store of ours."""
        if header is None:
            return None
        text = header.decode("utf-8", "replace")
        if parse_source(text) is None:
            return None
        if len(self._sources) < MAX_CACHED:
            self._sources[header] = text
        return text

    def _symbol(self, key: bytes | None, named: str) -> str:
        """Return the symbol, which is the key as well."""
        if key is None:
            raise _Unreadable("key", f"a record of {named[:64]!r} has no key")
        symbol = _checked_symbol(key)
        if symbol != named:
            raise _Unreadable("key", f"the key is {symbol}, the symbol {named[:64]!r}")
        if len(self._symbols) < MAX_CACHED:
            self._symbols[key] = symbol
            self._numbers[key] = 0
        return symbol


def poison(message: Any, error_class: str, error: str) -> Poison:
    """Return a message as it came, with what is wrong with it."""
    return Poison(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        error_class,
        error[:500],
    )


def _sequence(event_id: str, mark: str) -> int:
    number = event_id.rpartition(mark)[2]
    if number.isascii() and number.isdigit() and len(number) <= MAX_SEQUENCE_DIGITS:
        return int(number)
    raise _Unreadable(
        "schema", f"{event_id[:64]!r} is no event id here: it is <symbol>{mark}<sequence>"
    )


def _jumped(event_id: str, before: str) -> int:
    """Return the sequence of an id as we write them.

    Raises:
        ValueError: it is none.
    """
    sequence = int(event_id[len(before) :])
    if event_id != f"{before}{sequence}":
        raise ValueError(event_id)
    return sequence


def _checked_symbol(key: bytes) -> str:
    try:
        return parse_symbol(key.decode("utf-8", "replace"))
    except InvalidSymbol as error:
        raise _Unreadable("key", error.detail) from None


def _decoded(value: bytes | None) -> PriceEventIn:
    if value is None:
        raise _Unreadable("tombstone", "a price event has a value")
    if len(value) > MAX_VALUE_BYTES:
        raise _Unreadable(
            "size", f"{len(value)} bytes; a price event has at most {MAX_VALUE_BYTES}"
        )
    try:
        return decode_raw_price_event(value)
    except msgspec.ValidationError as error:
        raise _Unreadable("schema", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Unreadable("not_json", str(error)) from None


def _price(raw: msgspec.Raw) -> Decimal:
    text = bytes(raw).decode("ascii", "replace")
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise _Unreadable("schema", f"the price is {text[:64]}, which is no number") from None
    if price <= 0:
        raise _Unreadable("schema", f"the price is {text[:64]}; it must be above zero")
    if len(text) > 2 * MAX_PRICE_DIGITS or abs(price.adjusted()) > MAX_PRICE_DIGITS:
        raise _Unreadable("schema", f"the price has over {MAX_PRICE_DIGITS} digits")
    return price


def _utc(event: PriceEventIn) -> Any:
    at = event.timestamp
    if at.tzinfo is UTC:
        return at
    if at.tzinfo is None:
        raise _Unreadable("schema", "the timestamp has no offset from UTC")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise _Unreadable("schema", "the timestamp is out of range") from None
