"""`GET /v1/prices/latest`: the main job over HTTP, the one route that is asked all day long.

`app` serves it before FastAPI and documents it there (docs/decisions/0007). Invariant: the answer
is encoded by msgspec from the recorded price; no model of the framework ever holds a price, as it
would lose digits (design promise 8).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.event import EventState
from pricewire.domain.quote import price_text
from pricewire.domain.symbol import MAX_SYMBOL_LENGTH
from pricewire.errors import InvalidParameter
from pricewire.services.latest import LatestAnswer

PATH = "/v1/prices/latest"
MAX_WAIT_MS = 60_000


def _parameter(name: str, text: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": text,
        "schema": schema,
    }


DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        _parameter(
            "symbol",
            "The instrument: AAPL, BRK.B, ^GSPC, EUR/USD",
            required=True,
            type="string",
            maxLength=MAX_SYMBOL_LENGTH,
        ),
        _parameter("provider", "Default: the setting DEFAULT_PROVIDER", type="string"),
        _parameter(
            "wait_ms",
            "Wait at most so long for the broker's delivery report (milliseconds)",
            type="integer",
            minimum=0,
            maximum=MAX_WAIT_MS,
            default=0,
        ),
    ]
}


class EventAnswer(msgspec.Struct):
    id: str
    state: EventState
    topic: str
    partition: int
    offset: int | None


class PriceAnswer(msgspec.Struct):
    symbol: str
    price: msgspec.Raw
    timestamp: datetime
    timestamp_precision: str
    source: str
    raw_response_id: UUID
    fetched_at: datetime
    event: EventAnswer


_encode = msgspec.json.Encoder().encode


def latest_price_endpoint(services: Services) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of `PATH`."""

    async def latest_price(request: Request) -> Response:
        """Fetch the latest price, store it with its raw answer, publish its event."""
        given = request.query_params
        answer = await services.latest(
            _symbol(given), provider=given.get("provider"), wait_seconds=_wait_ms(given) / 1000
        )
        return Response(
            _encode(_price_answer(answer, services.topic)), media_type="application/json"
        )

    return latest_price


def _symbol(given: QueryParams) -> str:
    symbol = given.get("symbol")
    if symbol is None:
        raise InvalidParameter(f"symbol is missing: {PATH}?symbol=AAPL")
    return symbol


def _wait_ms(given: QueryParams) -> int:
    text = given.get("wait_ms", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_WAIT_MS):
        raise InvalidParameter(
            f"wait_ms={text[:32]!r} is no whole number of milliseconds from 0 to {MAX_WAIT_MS}"
        )
    return int(text)


def _price_answer(answer: LatestAnswer, topic: str) -> PriceAnswer:
    draft, event_id = answer.price.draft, answer.price.event_id
    quote = draft.quote
    return PriceAnswer(
        symbol=quote.symbol,
        price=msgspec.Raw(price_text(quote.price).encode()),
        timestamp=quote.timestamp,
        timestamp_precision=quote.precision.value,
        source=draft.provider,
        raw_response_id=draft.raw_response_id,
        fetched_at=draft.fetched_at,
        event=EventAnswer(
            id=str(event_id),
            state=answer.state,
            topic=topic,
            partition=draft.shard,
            offset=answer.publication.offset if answer.publication else None,
        ),
    )
