"""The moving average of five in Quix Streams, with state; run by `bench.streams`.

`python quix_streams.py SERVERS INPUT OUTPUT GROUP STATE_FOLDER [at-least-once|exactly-once]`. Its
own JSON codec makes floats of prices, so msgspec stands in for it: exact, and faster.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from quixstreams import Application  # type: ignore[import-not-found,unused-ignore]
from quixstreams.models import (  # type: ignore[import-not-found,unused-ignore]
    JSONDeserializer,
    JSONSerializer,
)

WINDOW = 5
Headers = Sequence[tuple[str, bytes]]


class PriceEvent(msgspec.Struct):
    symbol: str
    price: Decimal
    timestamp: str
    raw_response_id: str


class Average(msgspec.Struct):
    symbol: str
    value: Decimal
    timestamp: str
    raw_response_id: str
    event_id: str
    kind: str = "sma"
    window: str = "5"
    count: int = WINDOW


def average(
    event: PriceEvent, _key: bytes, _timestamp: int, headers: Headers, state: Any
) -> Average | None:
    window = [*state.get("window", ()), str(event.price)][-WINDOW:]
    state.set("window", window)
    if len(window) < WINDOW:
        return None
    value = sum(map(Decimal, window)) / Decimal(WINDOW)
    event_id = dict(headers)["ce_id"].decode()
    return Average(event.symbol, value, event.timestamp, event.raw_response_id, event_id)


def output_headers(value: Average, _key: bytes, _timestamp: int, headers: Headers) -> Headers:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{value.event_id}~sma:5".encode()),
        ("ce_type", b"average.moved"),
        ("ce_source", dict(headers)["ce_source"] + b"/averages/1"),
        ("content-type", b"application/json"),
    ]


def main(servers: str, source: str, target: str, group: str, state: str, guarantee: str) -> None:
    app = Application(
        broker_address=servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        processing_guarantee=guarantee,
        producer_extra_config={"compression.type": "snappy"},
        loglevel="WARNING",
    )
    decoder = msgspec.json.Decoder(PriceEvent)
    encoder = msgspec.json.Encoder(decimal_format="number")
    inputs = app.topic(
        source, value_deserializer=JSONDeserializer(loads=decoder.decode), key_deserializer="bytes"
    )
    outputs = app.topic(
        target, value_serializer=JSONSerializer(dumps=encoder.encode), key_serializer="bytes"
    )
    frame = app.dataframe(inputs).apply(average, stateful=True, metadata=True)
    frame = frame.filter(lambda value: value is not None)
    frame.set_headers(output_headers).to_topic(outputs)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:6], *(sys.argv[6:] or ["at-least-once"]))
