"""What a request for the live stream says; pure.

`stream` reads requests with it. Invariant: what is refused here has not been given a place yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, QueryParams

from pricewire.domain.position import Position, StreamTopic, parse_position
from pricewire.domain.symbol import MAX_SYMBOL_LENGTH, parse_symbol
from pricewire.errors import InvalidParameter
from pricewire.services.live.events import Slow, Subscription

MAX_SYMBOLS = 1_000


def _parameter(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        _parameter(
            "symbols",
            f"Up to {MAX_SYMBOLS}, with commas; without it: all",
            type="string",
            maxLength=MAX_SYMBOLS * (MAX_SYMBOL_LENGTH + 1),
        ),
        _parameter(
            "topics",
            "Of prices, averages and candles, with commas; without it: all three",
            type="string",
        ),
        _parameter(
            "slow",
            "What becomes of a reader that is too slow; default: STREAM_SLOW",
            type="string",
            enum=[one.value for one in Slow],
        ),
        _parameter(
            "last_event_id",
            "Go on behind the event with this id; the header Last-Event-ID comes before it",
            type="string",
        ),
    ],
    "responses": {
        "200": {
            "description": "Server-Sent Events, without end",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Args:
    position: None: from now on; an empty one: it was none that we know.
    """

    wanted: Subscription
    slow: Slow
    position: Position | None


def asked(query: QueryParams, headers: Headers, slow: Slow) -> Asked:
    """Return what a request asks for.

    Raises:
        InvalidRequest: says what is allowed.
    """
    wanted = Subscription(_topics(query), _symbols(query))
    return Asked(wanted, _slow(query, slow), _position(query, headers))


def _topics(query: QueryParams) -> tuple[StreamTopic, ...]:
    text = query.get("topics")
    if text is None:
        return tuple(StreamTopic)
    names = text.split(",")
    unknown = [name for name in names if name not in [*StreamTopic]]
    if unknown:
        raise InvalidParameter(
            f"topics={text[:64]!r}: {unknown[0][:32]!r} is none of {', '.join(StreamTopic)}"
        )
    return tuple(topic for topic in StreamTopic if topic in names)


def _symbols(query: QueryParams) -> frozenset[str] | None:
    text = query.get("symbols")
    if text is None:
        return None
    symbols = frozenset(map(parse_symbol, text.split(",")))
    if len(symbols) > MAX_SYMBOLS:
        raise InvalidParameter(f"symbols names {len(symbols)}; at most {MAX_SYMBOLS}")
    return symbols


def _slow(query: QueryParams, default: Slow) -> Slow:
    text = query.get("slow")
    if text is None:
        return default
    if text not in [*Slow]:
        raise InvalidParameter(f"slow={text[:32]!r} is none of {', '.join(Slow)}")
    return Slow(text)


def _position(query: QueryParams, headers: Headers) -> Position | None:
    """Return the position; a browser that comes again has it in the header."""
    if given := headers.get("last-event-id"):
        try:
            return parse_position(given)
        except InvalidParameter:
            # A browser would never come again after an error.
            return {}
    text = query.get("last_event_id")
    return parse_position(text) if text else None
