"""`GET /v1/events/{id}` and `GET /v1/raw-responses/{id}`: what became of it, where it came from.

Invariant: a raw response, also a frame of a feed, comes back byte for byte; a browser is never told
to run what a provider sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.event import EventState, Receipt, Source, parse_event_id
from pricewire.domain.quote import RawResponse
from pricewire.web.problems import documented

_SAFE_TYPES = ("application/json", "text/csv", "text/plain")


class ReceiptAnswer(msgspec.Struct):
    """`source` is the event's `ce_source`, known once it is published."""

    id: str
    type: str
    state: EventState
    attempts: int
    last_error: str | None
    raw_response_id: UUID
    recorded_at: datetime
    published_at: datetime | None
    source: str | None
    topic: str | None
    partition: int | None
    offset: int | None


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get("/v1/events/{event_id:path}", responses=documented(404, 422, 503))
    async def event_receipt(
        event_id: Annotated[str, Path(description="<symbol>~<sequence>: AAPL~12")],
    ) -> Response:
        """Say what became of an event: queued, published, or stuck and why."""
        receipt = await services.receipts.receipt(parse_event_id(event_id))
        body = msgspec.json.encode(_receipt_answer(receipt, services.source))
        return Response(body, media_type="application/json")

    @router.get("/v1/raw-responses/{raw_response_id}", responses=documented(404, 422, 503))
    async def raw_response(raw_response_id: UUID) -> Response:
        """Give back a provider's answer, or a frame of its feed, byte for byte.

        What else is known is in headers.
        """
        raw = await services.receipts.raw_response(raw_response_id)
        return Response(raw.body, headers=_raw_headers(raw), media_type=_media_type(raw))

    return router


def _receipt_answer(receipt: Receipt, store: Source) -> ReceiptAnswer:
    publication = receipt.publication
    return ReceiptAnswer(
        id=str(receipt.event_id),
        type=receipt.type,
        state=receipt.state,
        attempts=receipt.attempts,
        last_error=receipt.last_error,
        raw_response_id=receipt.raw_response_id,
        recorded_at=receipt.recorded_at,
        published_at=publication.published_at if publication else None,
        source=str(Source(store.store_id, publication.generation)) if publication else None,
        topic=publication.topic if publication else None,
        partition=publication.partition if publication else None,
        offset=publication.offset if publication else None,
    )


def _raw_headers(raw: RawResponse) -> dict[str, str]:
    return {
        "pw-provider": raw.provider,
        "pw-url": raw.url,
        "pw-status": str(raw.status),
        "pw-fetched-at": raw.fetched_at.isoformat().replace("+00:00", "Z"),
        "X-Content-Type-Options": "nosniff",
    }


def _media_type(raw: RawResponse) -> str:
    given = dict(raw.headers).get("content-type", "").partition(";")[0].strip().lower()
    return given if given in _SAFE_TYPES else "application/octet-stream"
