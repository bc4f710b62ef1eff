"""`POST /v1/backfills`: one step of past prices from a provider; `pricewire backfill` goes on.

Invariant: each call is bounded, whatever span it names, and may be made again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.past import read_market_time
from pricewire.domain.quote import Span
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter
from pricewire.web.problems import documented


class BackfillRequest(msgspec.Struct, forbid_unknown_fields=True, rename={"begin": "from"}):
    """A span of market time: `from`, and up to but not at `to`."""

    symbol: str
    begin: str
    to: str
    provider: str | None = None
    interval: str = "1d"


class BackfillAnswer(msgspec.Struct):
    """`next`: from where to go on, null when all is done; `note`: why there were no bars."""

    provider: str
    bars: int
    recorded: int
    repeated: int
    next: datetime | None
    note: str | None


_decode = msgspec.json.Decoder(BackfillRequest).decode


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["history"])

    async def backfill(request: Request) -> Response:
        """Fetch and record the first bars of a span from a provider's history."""
        try:
            asked = _decode(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"the body is not right: {error}") from None
        span = Span(
            parse_symbol(asked.symbol),
            asked.interval,
            _time("from", asked.begin),
            _time("to", asked.to),
        )
        step = await services.backfilling.step(span, asked.provider)
        answer = BackfillAnswer(
            step.provider, step.bars, step.recorded, step.repeated, step.next, step.note
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")

    schema = msgspec.json.schema(BackfillRequest, ref_template="#/{name}")
    body = schema["$defs"]["BackfillRequest"]
    router.add_api_route(
        "/v1/backfills",
        backfill,
        methods=["POST"],
        responses=documented(413, 422, 502, 503, 504),
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}
        },
    )
    return router


def _time(name: str, text: str) -> datetime:
    time = read_market_time(text)
    if time is None or time.moment.tzinfo is None or time.moment.year < 1600:
        raise InvalidParameter(
            f"{name}={text[:40]!r} is no time: 2024-03-20, or 2024-03-20T10:30:00Z, from 1600 on"
        )
    return time.moment
