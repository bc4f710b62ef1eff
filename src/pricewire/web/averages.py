"""`GET /v1/averages`: the latest averages, and what they are made of.

Invariant: values and prices are encoded by msgspec with their exact digits (design promise 8).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.quote import price_text
from pricewire.services.averages import AverageAnswer, Explanation
from pricewire.web.problems import documented


class EntryAnswer(msgspec.Struct):
    event_id: str
    offset: int | None
    price: msgspec.Raw
    timestamp: datetime
    source: str


class ExplanationAnswer(msgspec.Struct):
    """`event_id` is the event up to which the window is told; the latest one's, as a rule."""

    event_id: str | None
    entries: list[EntryAnswer]
    missing: list[tuple[int, int]]
    mixed_sources: bool


class AverageBody(msgspec.Struct):
    """`computed` is `by processor` or `on request`; `warm` is false while there is no value."""

    symbol: str
    kind: str
    window: str
    value: msgspec.Raw
    warm: bool
    computed: str
    id: str | None
    event_id: str | None
    timestamp: datetime | None
    count: int | None
    raw_response_id: UUID | None
    topic: str | None
    partition: int | None
    offset: int | None
    explanation: ExplanationAnswer | None


class AveragesBody(msgspec.Struct):
    averages: list[AverageBody]


_NULL = msgspec.Raw(b"null")


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["averages"])

    @router.get("/v1/averages", responses=documented(422, 503))
    async def averages(
        symbol: Annotated[str | None, Query(description="without it: all, unexplained")] = None,
        kind: Annotated[str | None, Query(description="sma, ema or wma")] = None,
        window: Annotated[str | None, Query(description="5 prices, or a span: 5m")] = None,
        explain: Annotated[bool, Query(description="with the prices in the window")] = True,
    ) -> Response:
        """Give the latest averages, with the events, prices and times that they are made of."""
        answers = services.averages
        assert answers is not None, "a process with an API answers for averages"
        if symbol is None:
            found = await answers.all()
        else:
            found = await answers.of(symbol, kind=kind, window=window, explain=explain)
        body = AveragesBody([_body(answer) for answer in found])
        return Response(msgspec.json.encode(body), media_type="application/json")

    return router


def _body(answer: AverageAnswer) -> AverageBody:
    published, explanation = answer.published, answer.explanation
    entries = explanation.entries if explanation else ()
    moved_by = entries[-1] if entries else published
    event_id = moved_by.event_id if moved_by else None
    return AverageBody(
        symbol=answer.symbol,
        kind=answer.spec.kind.value,
        window=answer.spec.window,
        value=_NULL if answer.value is None else msgspec.Raw(price_text(answer.value).encode()),
        warm=answer.value is not None,
        computed="on request" if answer.on_request else "by processor",
        id=_average_id(answer, event_id),
        event_id=event_id,
        timestamp=moved_by.timestamp if moved_by else None,
        count=published.count if published else len(entries) if explanation else None,
        raw_response_id=published.raw_response_id if published else None,
        topic=published.topic if published else None,
        partition=published.partition if published else None,
        offset=published.offset if published else None,
        explanation=_explanation(explanation) if explanation else None,
    )


def _average_id(answer: AverageAnswer, event_id: str | None) -> str | None:
    """Return the id on the topic; what was computed on request is not there."""
    if event_id is None or answer.value is None or answer.on_request:
        return None
    return f"{event_id}~{answer.spec}"


def _explanation(explanation: Explanation) -> ExplanationAnswer:
    entries = [
        EntryAnswer(
            one.event_id,
            one.offset,
            msgspec.Raw(price_text(one.price).encode()),
            one.timestamp,
            one.provider,
        )
        for one in explanation.entries
    ]
    return ExplanationAnswer(
        explanation.event_id,
        entries,
        list(explanation.missing),
        mixed_sources=len({entry.source for entry in entries}) > 1,
    )
