"""What each topic says, in words; `contract` makes the files of it.

The composition root gives the models of the other rooms. Invariant: each member and each header
that is written is named here, and no other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from pricewire.domain.candle import Interval
from pricewire.domain.event import PRICE_BACKFILLED, PRICE_RECORDED, EventId, Source, WaitingEvent
from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.domain.symbol import MAX_SYMBOL_LENGTH
from pricewire.kafka.codec import (
    CE_SPECVERSION,
    CONTENT_TYPE,
    TEST_HEADER,
    PriceEventValue,
    Record,
    encode_price_event,
    record_headers,
)
from pricewire.kafka.contract import Meaning, TopicContract
from pricewire.kafka.records import REDRIVEN_FOR
from pricewire.kafka.topic import TopicPlan

_SYMBOL = {"minLength": 1, "maxLength": MAX_SYMBOL_LENGTH}
_PRICE = {"type": "number", "exclusiveMinimum": 0}

_PRICE_MEMBERS = {
    "symbol": Meaning("The instrument, as it was asked for; the same text is the key.", _SYMBOL),
    "price": Meaning(
        "The provider's digits, never in exponent notation: read it as a decimal.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "timestamp": Meaning(
        "The market's time, UTC; header pw-precision says how fine it is.",
        {"format": "date-time"},
    ),
    "source": Meaning("The provider's name.", {"minLength": 1}),
    "raw_response_id": Meaning("Id of the provider's answer: /v1/raw-responses/{id}."),
}

_AVERAGE_MEMBERS = {
    "symbol": Meaning("The instrument; the same text is the key.", _SYMBOL),
    "kind": Meaning("Simple, exponential or weighted.", {"enum": ["sma", "ema", "wma"]}),
    "window": Meaning("A count of prices (5) or a span of market time (5m).", {"minLength": 1}),
    "value": Meaning(
        "The average, never in exponent notation: read it as a decimal.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "timestamp": Meaning("Of the price that moved the average.", {"format": "date-time"}),
    "count": Meaning("How many prices the average is made of.", {"minimum": 1}),
    "raw_response_id": Meaning("Of the price that moved the average."),
    "event_id": Meaning("Id of the price event that moved the average.", {"minLength": 1}),
}


_CANDLE_MEMBERS = {
    "symbol": Meaning("The instrument; the same text is the key.", _SYMBOL),
    "interval": Meaning("How long the candle is.", {"enum": [one.value for one in Interval]}),
    "start": Meaning(
        "Where it begins, in market time; a day is one of the symbol's market.",
        {"format": "date-time"},
    ),
    "end": Meaning("Where the next one may begin.", {"format": "date-time"}),
    "open": Meaning("The price with the smallest market time.", _PRICE),
    "high": Meaning("The greatest price.", _PRICE),
    "low": Meaning("The smallest price.", _PRICE),
    "close": Meaning("The price with the greatest market time.", _PRICE),
    "count": Meaning("How many prices the candle is made of.", {"minimum": 1}),
    "open_at": Meaning("Market time of the open.", {"format": "date-time"}),
    "close_at": Meaning("Market time of the close.", {"format": "date-time"}),
    "series": Meaning(
        "Of which prices: of now, or past ones brought in later. Each has candles of its own.",
        {"enum": ["live", "history"]},
    ),
    "revision": Meaning(
        "1 when the candle closed; one more each time that a late price changed it.", {"minimum": 1}
    ),
    "timestamp": Meaning("Of the price that closed or changed it.", {"format": "date-time"}),
    "raw_response_id": Meaning("Of the price that closed or changed it."),
    "event_id": Meaning("Id of the price event that closed or changed it.", {"minLength": 1}),
}


def _five(event_type: str, identity: str, source: str) -> dict[str, Meaning]:
    return {
        "ce_specversion": Meaning("CloudEvents, binary mode.", {"const": CE_SPECVERSION.decode()}),
        "ce_id": Meaning(identity),
        "ce_type": Meaning("What happened.", {"const": event_type}),
        "ce_source": Meaning(source),
        "content-type": Meaning("Of the value.", {"const": CONTENT_TYPE.decode()}),
    }


_SAID_WHERE_NEEDED = {
    "pw-precision": Meaning(
        "How fine the timestamp is, where it is coarser than a second; none: the provider gave "
        "no time, and the timestamp is when we had its answer.",
        {"enum": [one.value for one in Precision if one.coarser_than_second]},
        always=False,
    ),
    "pw-currency": Meaning("The currency, where the provider names one.", always=False),
    "pw-kind": Meaning(
        "What the price is, where it is not a last trade.",
        {"enum": [one.value for one in PriceKind if one is not PriceKind.LAST]},
        always=False,
    ),
}

_PRICE_HEADERS = {
    **_five(
        PRICE_RECORDED,
        "The event's id, <symbol>~<sequence>, unique together with ce_source; a test event has a "
        "UUID.",
        "The store and its generation, /pricewire/<store id>/<generation>; /pricewire/test for "
        "test events.",
    ),
    **_SAID_WHERE_NEEDED,
    TEST_HEADER: Meaning("A test event of `pricewire kafka check`: skip it.", always=False),
    "pw-replay-id": Meaning("A repetition for somebody else: skip it.", always=False),
    "pw-redrive": Meaning("Put back from the dead letters.", always=False),
    REDRIVEN_FOR: Meaning(
        "The processor that had set it aside; others have dealt with it and skip it.", always=False
    ),
}

_HISTORY_HEADERS = {
    **_five(
        PRICE_BACKFILLED,
        "The event's id, <symbol>~h<sequence>, unique together with ce_source; numbered apart from "
        "the events on price-events.",
        "The store and its generation, /pricewire/<store id>/<generation>.",
    ),
    **_SAID_WHERE_NEEDED,
}

_DEAD_LETTER_HEADERS = {
    "pw-origin-topic": Meaning("Where the record was read."),
    "pw-origin-partition": Meaning("The partition there.", {"pattern": "^[0-9]+$"}),
    "pw-origin-offset": Meaning("The offset there.", {"pattern": "^[0-9]+$"}),
    "pw-processor": Meaning("Which processor could not use it."),
    "pw-error-class": Meaning("Why, as one word for machines."),
    "pw-error": Meaning("Why, as a sentence."),
}


def price_events(plan: TopicPlan) -> TopicContract:
    return TopicContract(
        plan=plan,
        title="Price event",
        summary="A price was fetched from a provider and stored.",
        message=PRICE_RECORDED,
        value=PriceEventValue,
        members=_PRICE_MEMBERS,
        key=Meaning(
            "The symbol; its murmur2 hash says the partition, as with Java clients.", _SYMBOL
        ),
        headers=_PRICE_HEADERS,
        example=_example(PRICE_RECORDED, EventId("AAPL", 1234)),
    )


def price_history(plan: TopicPlan) -> TopicContract:
    return TopicContract(
        plan=plan,
        title="Past price",
        summary="A price of the past was imported from a file or fetched from a provider's "
        "history, and stored: it is no news of the market.",
        message=PRICE_BACKFILLED,
        value=PriceEventValue,
        members=_PRICE_MEMBERS,
        key=Meaning("The symbol; the partition is that of price-events.", _SYMBOL),
        headers=_HISTORY_HEADERS,
        example=_example(PRICE_BACKFILLED, EventId("AAPL", 17, backfilled=True)),
    )


def moving_averages(
    plan: TopicPlan, *, event_type: str, value: type[msgspec.Struct], example: Record
) -> TopicContract:
    headers = _five(
        event_type,
        "The id of the price event that moved it, and the average: AAPL~1234~sma:5.",
        "The price event's source, and /averages/<generation of the averages>.",
    )
    return TopicContract(
        plan=plan,
        title="Moving average",
        summary="A price moved an average of its symbol.",
        message=event_type,
        value=value,
        members=_AVERAGE_MEMBERS,
        key=Meaning("The symbol.", _SYMBOL),
        headers=headers,
        example=example,
    )


def candles(
    plan: TopicPlan, *, event_type: str, value: type[msgspec.Struct], example: Record
) -> TopicContract:
    headers = _five(
        event_type,
        "The id of the price event that closed or changed it, and the candle: "
        "AAPL~1234~candle:1m:2024-03-20T10:30:00Z.",
        "The price event's source, and /candles/ or /candles-history/ and the generation of "
        "the candles.",
    )
    return TopicContract(
        plan=plan,
        title="Candle",
        summary="A candle closed, or a late price changed one that was closed.",
        message=event_type,
        value=value,
        members=_CANDLE_MEMBERS,
        key=Meaning("The symbol.", _SYMBOL),
        headers=headers,
        example=example,
    )


def dead_letters(plan: TopicPlan) -> TopicContract:
    return TopicContract(
        plan=plan,
        title="Dead letter",
        summary="A price event that a processor could not use: key, value and headers as they "
        "came, and headers that say why.",
        message="dead-letter",
        value=None,
        members={},
        key=Meaning("As it came; there may be none."),
        headers=_DEAD_LETTER_HEADERS,
        example=None,
    )


def _example(event_type: str, event_id: EventId) -> Record:
    quote = Quote(
        symbol="AAPL",
        price=Decimal("150.25"),
        timestamp=datetime(2024, 3, 20, 10, 30, tzinfo=UTC),
        precision=Precision.SECOND,
        currency="USD",
    )
    raw_response_id = UUID("018e5b2e-9c1a-7f3b-8a52-0d5f4f1f3c11")
    value, extra = encode_price_event(
        quote, provider="alpha_vantage", raw_response_id=raw_response_id
    )
    event = WaitingEvent(
        outbox_id=1,
        event_id=event_id,
        type=event_type,
        raw_response_id=raw_response_id,
        recorded_at=quote.timestamp,
        value=value,
        headers=extra,
    )
    source = Source(UUID("018e5b2e-0000-7000-8000-000000000001"), 1)
    return Record("AAPL", value, record_headers(event, source), quote.timestamp)
