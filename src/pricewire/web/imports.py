"""`POST /v1/imports`: a chunk of past prices.

Invariant: a body is read by msgspec alone, digits and all; where one row is wrong, nothing of the
chunk is recorded and the answer says which row.
"""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from pricewire.bootstrap import Services, now
from pricewire.domain.past import PastPrice, read_market_time
from pricewire.domain.quote import PriceKind, Quote, RawResponse
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter, InvalidSymbol, NotAPrice
from pricewire.services.history import MAX_ROWS, SLICE, Recorded
from pricewire.web.problems import documented

PATH = "/v1/imports"
MAX_ORIGIN = 200
MAX_OCCURRENCE = 2**31 - 1
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_CURRENCY = re.compile(r"[A-Za-z][A-Za-z0-9]{1,9}")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,64}")


class ImportRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A past price. `timestamp` is known as finely as it is written; a bare day is a trading day.

    `occurrence` counts otherwise equal rows of one market time, from 0.
    """

    symbol: str
    price: Decimal
    timestamp: str
    size: Decimal | None = None
    trade_id: str | None = None
    currency: str | None = None
    kind: PriceKind = PriceKind.LAST
    occurrence: int = 0


class ImportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`raw` is kept as the raw response: what the rows were made from, in their order."""

    source: str
    origin: str
    raw: str
    rows: list[ImportRow]


class ImportAnswer(msgspec.Struct):
    """`raw_response_id` and the events are null where every row was there already."""

    recorded: int
    repeated: int
    raw_response_id: UUID | None
    first_event: str | None
    last_event: str | None


_decode = msgspec.json.Decoder(ImportRequest).decode


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["history"])

    async def import_prices(request: Request) -> Response:
        """Record past prices, at most 1,000, each once; they are published on price-history."""
        asked = _read(await request.body())
        raw = RawResponse(
            id=uuid7(),
            provider=asked.source,
            url=f"import:{asked.origin}",
            status=200,
            headers=(("content-type", "text/csv"),),
            body=asked.raw.encode(),
            fetched_at=now(),
        )
        prices: list[PastPrice] = []
        for place, row in enumerate(asked.rows):
            prices.append(_price(place, row))
            if place % SLICE == SLICE - 1:
                # Requests for live prices have their turn.
                await asyncio.sleep(0)
        recorded = await services.history.record(raw, prices)
        return Response(msgspec.json.encode(_answer(recorded)), media_type="application/json")

    router.add_api_route(
        PATH,
        import_prices,
        methods=["POST"],
        responses=documented(413, 422, 503),
        openapi_extra={"requestBody": _documentation()},
    )
    return router


def _documentation() -> dict[str, Any]:
    schema = msgspec.json.schema(ImportRequest, ref_template="#/{name}")
    parts = schema.pop("$defs")
    request = parts.pop("ImportRequest")
    row = parts.pop("ImportRow")
    row["properties"]["kind"] = parts.pop("PriceKind")
    request["properties"]["rows"] = {"type": "array", "items": row, "maxItems": MAX_ROWS}
    return {"required": True, "content": {"application/json": {"schema": request}}}


def _read(body: bytes) -> ImportRequest:
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"the body is not right: {error}") from None
    if not _SOURCE.fullmatch(asked.source):
        raise InvalidParameter(
            f"source={asked.source[:64]!r} is no name: 1 to 64 letters, digits or _ . : -"
        )
    if not (asked.origin.isprintable() and 0 < len(asked.origin) <= MAX_ORIGIN):
        raise InvalidParameter(f"origin has 1 to {MAX_ORIGIN} printable characters")
    if not 1 <= len(asked.rows) <= MAX_ROWS:
        raise InvalidParameter(f"there are {len(asked.rows)} rows; give 1 to {MAX_ROWS}")
    return asked


def _price(place: int, row: ImportRow) -> PastPrice:
    try:
        return PastPrice(_quote(row), row.occurrence)
    except (InvalidParameter, InvalidSymbol, NotAPrice) as error:
        raise InvalidParameter(f"rows[{place}]: {error.detail}; nothing was recorded") from None


def _quote(row: ImportRow) -> Quote:
    time = read_market_time(row.timestamp)
    if time is None or time.moment.tzinfo is None:
        raise InvalidParameter(
            f"{row.timestamp[:40]!r} is no time: 2024-03-20, or 2024-03-20T10:30:00.123Z with Z or "
            "an offset"
        )
    if not 0 <= row.occurrence <= MAX_OCCURRENCE:
        raise InvalidParameter(f"occurrence {row.occurrence} is not from 0 to {MAX_OCCURRENCE}")
    if row.trade_id is not None and not _PRINTABLE.fullmatch(row.trade_id):
        raise InvalidParameter("a trade_id has 1 to 64 printable ASCII characters")
    if row.currency is not None and not _CURRENCY.fullmatch(row.currency):
        raise InvalidParameter(f"{row.currency[:32]!r} is no currency: USD, GBp, USDT")
    if row.size is not None and not (
        row.size.is_finite() and row.size >= 0 and abs(row.size.adjusted()) <= 100
    ):
        raise InvalidParameter("a size is a number from 0")
    return Quote(
        symbol=parse_symbol(row.symbol),
        price=row.price,
        timestamp=time.moment,
        nanosecond=time.nanosecond,
        precision=time.precision,
        kind=row.kind,
        currency=row.currency,
        size=row.size,
        trade_id=row.trade_id,
    )


def _answer(recorded: Recorded) -> ImportAnswer:
    return ImportAnswer(
        recorded.recorded,
        recorded.repeated,
        recorded.raw_response_id,
        None if recorded.first is None else str(recorded.first),
        None if recorded.last is None else str(recorded.last),
    )
