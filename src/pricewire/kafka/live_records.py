"""Records of the topics as live readers are given them, encoded once; pure.

`live` and `log_reader` use it. Invariant: the value is the record's, byte for byte but for line
ends between members, which would end a line of the stream; what is no event of its topic, a test's
or a replay's is left out, as processors leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pricewire.domain.position import StreamTopic
from pricewire.kafka.records import NOT_TO_COUNT, RecordReader
from pricewire.services.live.events import LiveEvent
from pricewire.services.processing import PriceTick

_encode = msgspec.json.Encoder().encode
_EXTRAS = ("pw-precision", "pw-currency", "pw-kind")
_USUAL_HEADERS = 5


class _AverageSeries(msgspec.Struct, gc=False):
    """An average's value as far as it says which series it is of."""

    symbol: str
    kind: str
    window: str
    event_id: str

    @property
    def series(self) -> str:
        return f"{self.kind}:{self.window}"


class _CandleSeries(msgspec.Struct, gc=False):
    symbol: str
    interval: str
    series_: str = msgspec.field(name="series")
    event_id: str

    @property
    def series(self) -> str:
        return f"{self.interval}:{self.series_}"


ReadMessages = Callable[[Iterable[Any]], list[LiveEvent]]


def readers_of(
    names: dict[StreamTopic, str], ids: dict[StreamTopic, str]
) -> dict[str, ReadMessages]:
    """Return what reads the messages of each topic, by its name."""
    found: dict[str, ReadMessages] = {}
    for topic, topic_id in ids.items():
        name = names[topic]
        if topic is StreamTopic.PRICES:
            found[name] = _Prices(name, topic_id).read
        else:
            decoder = _DECODERS[topic]
            found[name] = _Derived(topic, name, decoder).read
    return found


class _Prices:
    def __init__(self, name: str, topic_id: str) -> None:
        self._name = _encode(name)
        self._reader = RecordReader(name, topic_id)

    def read(self, messages: Iterable[Any]) -> list[LiveEvent]:
        messages = list(messages)
        found = []
        for message, record in zip(messages, self._reader.read(messages), strict=True):
            if isinstance(record, PriceTick):
                data = _data(record.event_id, record.source, self._name, message)
                place = (record.partition, record.offset)
                found.append(LiveEvent(StreamTopic.PRICES, *place, record.symbol, "", data))
        return found


class _Derived:
    """Averages or candles: what a processor put out is not looked at as closely."""

    def __init__(
        self,
        topic: StreamTopic,
        name: str,
        decode: Callable[[bytes], _AverageSeries | _CandleSeries],
    ) -> None:
        self._topic = topic
        self._plain_name = name
        self._name = _encode(name)
        self._decode = decode

    def read(self, messages: Iterable[Any]) -> list[LiveEvent]:
        return [event for one in messages if (event := self._event(one)) is not None]

    def _event(self, message: Any) -> LiveEvent | None:
        value, headers = message.value(), dict(message.headers() or ())
        if not NOT_TO_COUNT.isdisjoint(headers):
            return None
        try:
            said = self._decode(value or b"")
            value.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        partition, offset = message.partition(), message.offset()
        own = f"{self._plain_name}/{partition}/{offset}"
        event_id = (headers.get("ce_id") or own.encode()).decode("utf-8", "replace")
        source = (headers.get("ce_source") or b"").decode("utf-8", "replace")
        data = _data(event_id, source, self._name, message)
        return LiveEvent(self._topic, partition, offset, said.symbol, said.series, data)


_DECODERS: dict[StreamTopic, Callable[[bytes], _AverageSeries | _CandleSeries]] = {
    StreamTopic.AVERAGES: msgspec.json.Decoder(_AverageSeries).decode,
    StreamTopic.CANDLES: msgspec.json.Decoder(_CandleSeries).decode,
}


def _data(event_id: str, source: str, topic: bytes, message: Any) -> bytes:
    """Return the JSON object of an event."""
    value = message.value()
    if b"\n" in value or b"\r" in value:
        # Between members only: in a JSON string they are escaped.
        value = value.replace(b"\r", b" ").replace(b"\n", b" ")
    return b'{"id":%b,"source":%b,"topic":%b,"partition":%d,"offset":%d,%b"value":%b}' % (
        _encode(event_id),
        _encode(source),
        topic,
        message.partition(),
        message.offset(),
        _extras(message.headers() or ()),
        value,
    )


def _extras(headers: Any) -> bytes:
    """Return the member of the headers that say something about the value, if there are any."""
    if len(headers) <= _USUAL_HEADERS:
        return b""
    named = dict(headers)
    said = {name: named[name].decode("utf-8", "replace") for name in _EXTRAS if named.get(name)}
    return b'"headers":%b,' % _encode(said) if said else b""
