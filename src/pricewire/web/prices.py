"""`GET /v1/prices/latest`: the main job over HTTP, the one route that is asked all day long.

`app` serves it before FastAPI and documents it there (docs/decisions/0007). Invariant: the answer
is encoded by msgspec from the recorded price; no model of the framework ever holds a price, as it
would lose digits (design promise 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.event import EventState
from pricewire.domain.quote import PriceKind, price_text
from pricewire.domain.session import Session
from pricewire.domain.symbol import MAX_SYMBOL_LENGTH, is_symbol
from pricewire.errors import Attempt, InvalidParameter, PricewireError
from pricewire.services.latest import LatestAnswer
from pricewire.web import problems

PATH = "/v1/prices/latest"
MAX_WAIT_MS = 60_000
MAX_AGE_SECONDS = 604_800
MAX_SYMBOLS = 100
LONG_QUERY_BYTES = 200


def _parameter(name: str, text: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": text,
        "schema": schema,
    }


_KINDS = [kind.value for kind in PriceKind]

DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        _parameter(
            "symbol",
            f"The instrument: AAPL, BRK.B, ^GSPC, EUR/USD; or up to {MAX_SYMBOLS}, with commas",
            required=True,
            type="string",
            maxLength=MAX_SYMBOLS * (MAX_SYMBOL_LENGTH + 1),
        ),
        _parameter(
            "provider", "Only this one; default: DEFAULT_PROVIDER, then the others", type="string"
        ),
        _parameter("kind", "Only a price of this kind", type="string", enum=_KINDS),
        _parameter(
            "max_age",
            "A stored price will do that was fetched at most so long ago (seconds)",
            type="integer",
            minimum=0,
            maximum=MAX_AGE_SECONDS,
            default=0,
        ),
        _parameter(
            "allow_stale",
            "Where no provider has a price, the last stored one will do",
            type="boolean",
            default=False,
        ),
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
    currency: str | None
    kind: PriceKind
    delayed: bool
    adjusted: bool | None
    exchange: str | None
    age_seconds: float
    session: Session
    cached: bool
    stale: bool
    stale_reason: str | None
    attempts: Sequence[Attempt]


class NoPrice(msgspec.Struct):
    """What a symbol of several has instead of a price."""

    symbol: str
    error: dict[str, Any]


class PricesAnswer(msgspec.Struct):
    prices: list[PriceAnswer | NoPrice]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The parameters but for the symbol."""

    provider: str | None
    kind: PriceKind | None
    max_age: int
    allow_stale: bool
    wait_seconds: float


_encode = msgspec.json.Encoder().encode


def latest_price_endpoint(services: Services) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of `PATH`."""

    async def latest_price(request: Request) -> Response:
        """Fetch the latest price, store it with its raw answer, publish its event."""
        query: bytes = request.scope["query_string"]
        # The same questions come all day long; long ones must not fill the memory.
        symbol, asked = (_remembered if len(query) <= LONG_QUERY_BYTES else _read)(query)
        if "," in symbol:
            return _answered(PricesAnswer(await _several(services, request, symbol, asked)))
        return _answered(await _one(services, symbol, asked))

    return latest_price


def _answered(answer: msgspec.Struct) -> Response:
    return Response(_encode(answer), media_type="application/json")


async def _one(services: Services, symbol: str, asked: _Asked) -> PriceAnswer:
    answer = await services.latest(
        symbol,
        provider=asked.provider,
        kind=asked.kind,
        wait_seconds=asked.wait_seconds,
        max_age=asked.max_age,
        allow_stale=asked.allow_stale,
    )
    return _price_answer(answer, services.topic)


async def _several(
    services: Services, request: Request, symbols: str, asked: _Asked
) -> list[PriceAnswer | NoPrice]:
    names = symbols.split(",")
    if len(names) > MAX_SYMBOLS:
        raise InvalidParameter(f"symbol names {len(names)} symbols; {MAX_SYMBOLS} at most")
    good = [name for name in names if is_symbol(name)]
    await services.latest.together(
        good, provider=asked.provider, kind=asked.kind, max_age=asked.max_age
    )

    async def one(name: str) -> PriceAnswer | NoPrice:
        try:
            return await _one(services, name, asked)
        except PricewireError as error:
            return NoPrice(name, problems.body(request, error))

    return list(await asyncio.gather(*map(one, names)))


def _symbol(given: QueryParams) -> str:
    symbol = given.get("symbol")
    if symbol is None:
        raise InvalidParameter(f"symbol is missing: {PATH}?symbol=AAPL")
    return symbol


def _read(query: bytes) -> tuple[str, _Asked]:
    given = QueryParams(query)
    return _symbol(given), _Asked(
        given.get("provider"),
        _kind(given),
        _whole(given, "max_age", MAX_AGE_SECONDS, "seconds"),
        _yes(given, "allow_stale"),
        _whole(given, "wait_ms", MAX_WAIT_MS, "milliseconds") / 1000,
    )


_remembered = lru_cache(4096)(_read)


def _whole(given: QueryParams, name: str, most: int, unit: str) -> int:
    text = given.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= most):
        raise InvalidParameter(
            f"{name}={text[:32]!r} is no whole number of {unit} from 0 to {most}"
        )
    return int(text)


def _yes(given: QueryParams, name: str) -> bool:
    text = given.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidParameter(f"{name}={text[:32]!r} is neither true nor false")
    return text == "true"


def _kind(given: QueryParams) -> PriceKind | None:
    text = given.get("kind")
    if text is not None and text not in _KINDS:
        raise InvalidParameter(f"kind={text[:32]!r} is none of {', '.join(_KINDS)}")
    return None if text is None else PriceKind(text)


def _price_answer(answer: LatestAnswer, topic: str) -> PriceAnswer:
    draft = answer.price.draft
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
            id=str(answer.price.event_id),
            state=answer.state,
            topic=topic,
            partition=draft.shard,
            offset=answer.publication.offset if answer.publication else None,
        ),
        currency=quote.currency,
        kind=quote.kind,
        delayed=quote.delayed,
        adjusted=quote.adjusted,
        exchange=quote.exchange,
        age_seconds=round(answer.age_seconds, 3),
        session=answer.session,
        cached=answer.cached,
        stale=answer.stale_reason is not None,
        stale_reason=answer.stale_reason,
        attempts=answer.attempts,
    )
