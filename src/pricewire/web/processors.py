"""`GET /v1/lag` and `/v1/dead-letters…`: how far processors are, and what they set aside.

Invariant: a redrive or drop does nothing unless `dry_run` is false in so many words.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from pricewire.bootstrap import Processing, Services
from pricewire.errors import InvalidParameter
from pricewire.services.dead_letters import (
    Chosen,
    DeadLetterId,
    DeadLetters,
    Outcome,
    Told,
    parse_dead_letter_id,
)
from pricewire.services.lag import PartitionLag
from pricewire.web.problems import documented


class LagAnswer(msgspec.Struct):
    lag: list[PartitionLag]
    behind: int
    seconds: float


class DeadLetterAnswer(msgspec.Struct, omit_defaults=True):
    """`value` is base64; `text` is there where the value is UTF-8."""

    id: str
    state: str
    processor: str
    error_class: str
    error: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    logged_at: int
    key: str | None
    new_offset: int | None = None
    value: str | None = None
    text: str | None = None
    headers: list[tuple[str, str | None]] | None = None


class DeadLettersAnswer(msgspec.Struct):
    dead_letters: list[DeadLetterAnswer]
    dry_run: bool = False


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a redrive or drop: ids, or all open ones of a class; `origin` as in the list."""

    origin: str | None = None
    ids: list[str] | None = None
    error_class: str | None = None
    all: bool = False
    dry_run: bool = True


_ORIGIN = "the topic that they came from, price-events by default"


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["processors"])

    def processing() -> Processing:
        assert services.processing is not None, "a process with an API answers for processors"
        return services.processing

    def letters(origin: str | None) -> DeadLetters:
        return _of_topic(processing().dead_letters, origin)

    @router.get("/v1/lag", responses=documented(503))
    async def lag() -> Response:
        """Say how far each processor is behind, in events and in seconds."""
        found = await processing().lag.report()
        behind = sum(one.behind for one in found)
        answer = LagAnswer(found, behind, max((one.seconds for one in found), default=0.0))
        return _json(answer)

    @router.get("/v1/dead-letters", responses=documented(422, 503))
    async def dead_letters(
        limit: Annotated[int, Query(description="1 to 1000")] = 50,
        state: Annotated[
            str | None, Query(description="open, redriving, redriven or dropped")
        ] = None,
        error_class: str | None = None,
        origin: Annotated[str | None, Query(description=_ORIGIN)] = None,
    ) -> Response:
        """List what processors set aside, newest first."""
        found = await letters(origin).listed(
            limit=limit, outcome=_outcome(state), error_class=error_class
        )
        return _json(DeadLettersAnswer([_answer(told) for told in found]))

    @router.get("/v1/dead-letters/{partition}/{offset}", responses=documented(404, 422, 503))
    async def dead_letter(
        partition: str,
        offset: str,
        origin: Annotated[str | None, Query(description=_ORIGIN)] = None,
    ) -> Response:
        """Show one, with its bytes and headers as they came."""
        told = await letters(origin).show(parse_dead_letter_id(f"{partition}/{offset}"))
        return _json(_answer(told, whole=True))

    @router.post("/v1/dead-letters/redrive", responses=documented(404, 422, 503))
    async def redrive(choice: Annotated[dict[str, object], Body()]) -> Response:
        """Put dead letters back where they came from, each once; a dry run unless told."""
        origin, chosen, dry_run = _chosen(choice)
        found = await letters(origin).redrive(chosen, dry_run=dry_run)
        return _json(DeadLettersAnswer([_answer(told) for told in found], dry_run))

    @router.post("/v1/dead-letters/drop", responses=documented(404, 422, 503))
    async def drop(choice: Annotated[dict[str, object], Body()]) -> Response:
        """Give dead letters up; a dry run unless told."""
        origin, chosen, dry_run = _chosen(choice)
        found = await letters(origin).drop(chosen, dry_run=dry_run)
        return _json(DeadLettersAnswer([_answer(told) for told in found], dry_run))

    return router


def _of_topic(topics: Mapping[str, DeadLetters], origin: str | None) -> DeadLetters:
    """Return the dead letters of a topic; without a name, of the first."""
    found = topics.get(origin or next(iter(topics)))
    if found is None:
        read = ", ".join(topics)
        raise InvalidParameter(f"origin={(origin or '')[:64]!r} is read by no processor; {read}")
    return found


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _outcome(state: str | None) -> Outcome | None:
    if state is None:
        return None
    try:
        return Outcome(state)
    except ValueError:
        raise InvalidParameter(f"state={state[:32]!r} is none of {', '.join(Outcome)}") from None


def _chosen(body: dict[str, object]) -> tuple[str | None, Chosen, bool]:
    try:
        choice = msgspec.convert(body, Choice)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"the body is not right: {error}") from None
    ways = [choice.ids is not None, choice.error_class is not None, choice.all]
    if sum(ways) != 1:
        raise InvalidParameter('give one of "ids": ["3/12"], "error_class": "schema", "all": true')
    ids: list[DeadLetterId] | None = None
    if choice.ids is not None:
        ids = [parse_dead_letter_id(text) for text in choice.ids]
    return choice.origin, Chosen(ids, choice.error_class), choice.dry_run


def _answer(told: Told, *, whole: bool = False) -> DeadLetterAnswer:
    letter = told.letter
    answer = DeadLetterAnswer(
        id=str(letter.id),
        state=told.outcome.value,
        processor=letter.processor,
        error_class=letter.error_class,
        error=letter.error,
        origin_topic=letter.origin_topic,
        origin_partition=letter.origin_partition,
        origin_offset=letter.origin_offset,
        logged_at=letter.logged_at,
        key=_text(letter.key),
        new_offset=told.new_offset,
    )
    if whole:
        answer.value = base64.b64encode(letter.value or b"").decode()
        answer.text = _text(letter.value)
        answer.headers = [(name, _text(content)) for name, content in letter.headers]
    return answer


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")
