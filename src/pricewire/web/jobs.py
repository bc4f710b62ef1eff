"""`POST /v1/prices/poll` and `/v1/jobs…`: jobs over HTTP, polling ones and streaming ones.

What is only of streaming jobs is in `stream_jobs`. Invariant: a body is read by msgspec and by
nothing else: unknown members, other types and numbers that are not whole are refused, and what is
refused leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec
from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.bootstrap_feeds import Live
from pricewire.domain.job import MAX_INTERVAL, MAX_SYMBOLS, Job, JobConfig
from pricewire.domain.stream_job import StreamConfig, StreamJob
from pricewire.errors import InvalidParameter, PlanExceeded
from pricewire.services.jobs import Jobs, Planned
from pricewire.web import stream_jobs
from pricewire.web.problems import documented
from pricewire.web.stream_jobs import StreamAnswer, StreamChange, StreamRequest

POLL_PATH = "/v1/prices/poll"


class PollRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a new job; `domain.job.JobConfig` says what the members mean."""

    symbols: list[str]
    interval: int
    provider: str | None = None
    market_hours: bool = False
    jitter: int = 0
    stretch: bool = False


class PollJobRequest(PollRequest, tag_field="kind", tag="poll"):
    """The same as a body of `/v1/jobs`."""


class ChangeRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a change; what is not named stays as it is."""

    symbols: list[str] | msgspec.UnsetType = msgspec.UNSET
    interval: int | msgspec.UnsetType = msgspec.UNSET
    provider: str | msgspec.UnsetType | None = msgspec.UNSET
    market_hours: bool | msgspec.UnsetType = msgspec.UNSET
    jitter: int | msgspec.UnsetType = msgspec.UNSET
    stretch: bool | msgspec.UnsetType = msgspec.UNSET


class Accepted(msgspec.Struct):
    job_id: UUID
    status: str
    config: JobConfig | StreamConfig


class JobAnswer(msgspec.Struct):
    """`polling`: somebody polls it now."""

    job_id: UUID
    kind: str
    status: str
    config: JobConfig
    created_at: datetime
    next_run: datetime | None
    last_poll: datetime | None
    last_error: str | None
    failures: int
    made: int
    failed: int
    missed: int
    polling: bool


class JobsAnswer(msgspec.Struct):
    jobs: list[JobAnswer | StreamAnswer]


class WindowAnswer(msgspec.Struct):
    """`needed`: calls that come due in a window on average, rounded up."""

    calls: int
    period: str
    needed: int
    lasts: bool
    gone_after_seconds: int | None
    shortest_interval: int | None


class PlanAnswer(msgspec.Struct):
    lasts: bool
    detail: str
    provider: str
    budget: str
    interval: int
    calls_per_poll: int
    other_jobs: int
    shortest_interval: int | None
    windows: list[WindowAnswer]


_read_poll = msgspec.json.Decoder(PollRequest).decode
_read_job = msgspec.json.Decoder(PollJobRequest | StreamRequest).decode
_read_change = msgspec.json.Decoder(ChangeRequest).decode
_read_stream_change = msgspec.json.Decoder(StreamChange).decode
_PLAN_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "symbols",
        "in": "query",
        "required": True,
        "description": f"1 to {MAX_SYMBOLS}, with commas",
        "schema": {"type": "string"},
    },
    {
        "name": "interval",
        "in": "query",
        "required": True,
        "description": "Seconds",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_INTERVAL},
    },
    {
        "name": "provider",
        "in": "query",
        "description": "Only this one; default: DEFAULT_PROVIDER",
        "schema": {"type": "string"},
    },
]


class _Kept:
    """The jobs of a running service, of both kinds."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def polls(self) -> Jobs:
        assert self._services.jobs is not None, "a process with an API has jobs"
        return self._services.jobs

    @property
    def live(self) -> Live:
        assert self._services.live is not None, "a process with an API has feeds"
        return self._services.live

    async def stream(self, job_id: UUID) -> StreamJob | None:
        """Return a streaming job; None where it is a polling one or none."""
        return await self.live.streams.find(job_id)


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["jobs"])
    kept = _Kept(services)
    _add_looks(router, kept)
    _add_makings(router, kept)
    _add_turns(router, kept)
    _add_changes(router, kept)
    return router


def _add_looks(router: APIRouter, kept: _Kept) -> None:
    @router.get("/v1/jobs", responses=documented(503))
    async def list_jobs() -> Response:
        """List all jobs, the oldest first."""
        polls = [_answer(job) for job in await kept.polls.all()]
        statuses = await kept.live.feeding.statuses()
        found = await kept.live.streams.all()
        streams = [stream_jobs.answer(job, statuses) for job in found]
        return _json(JobsAnswer(sorted((*polls, *streams), key=lambda one: one.job_id)))

    @router.get(
        "/v1/jobs/plan",
        responses=documented(422, 503),
        openapi_extra={"parameters": _PLAN_PARAMETERS},
    )
    async def plan(request: Request) -> Response:
        """Say whether the plan can hold a polling job, and with which interval; makes none."""
        return _json(_plan_answer(await kept.polls.plan(_asked_plan(request.query_params))))

    @router.get("/v1/jobs/{job_id}", responses=documented(404, 422, 503))
    async def show(job_id: str) -> Response:
        """Show one job; a streaming one with the state of its feed."""
        if job := await kept.stream(_id(job_id)):
            return _json(await stream_jobs.one(kept.live, job))
        return _json(_answer(await kept.polls.get(_id(job_id))))


def _add_makings(router: APIRouter, kept: _Kept) -> None:
    async def made(asked: PollRequest | StreamRequest) -> Response:
        if isinstance(asked, StreamRequest):
            stream = await kept.live.streams.create(asked.config())
            return _json(Accepted(stream.id, "accepted", stream.config), 202)
        job = await _planned(kept.polls.create(_config(asked)))
        return _json(Accepted(job.id, "accepted", job.config), 202)

    @router.post(
        POLL_PATH,
        status_code=202,
        responses=documented(409, 413, 422, 503),
        openapi_extra=_body(PollRequest),
    )
    async def poll(request: Request) -> Response:
        """Make a job that polls symbols at an interval; 409 where the plan cannot hold it."""
        return await made(_decoded(_read_poll, await request.body()))

    @router.post(
        "/v1/jobs",
        status_code=202,
        responses=documented(409, 413, 422, 503),
        openapi_extra=_body(PollJobRequest, StreamRequest),
    )
    async def make(request: Request) -> Response:
        """Make a job of a kind: `poll`, as above, or `stream`; 409 where the vendor takes no
        more symbols.
        """
        return await made(_decoded(_read_job, await request.body()))


def _add_turns(router: APIRouter, kept: _Kept) -> None:
    @router.post("/v1/jobs/{job_id}/pause", responses=documented(404, 422, 503))
    async def pause(job_id: str) -> Response:
        """Poll or stream it no more until it is resumed."""
        if await kept.stream(_id(job_id)):
            job = await kept.live.streams.pause(_id(job_id))
            return _json(await stream_jobs.one(kept.live, job))
        return _json(_answer(await kept.polls.pause(_id(job_id))))

    @router.post("/v1/jobs/{job_id}/resume", responses=documented(404, 409, 422, 503))
    async def resume(job_id: str) -> Response:
        """Begin a paused job anew; 409 where the plan or the vendor cannot hold it any more."""
        if await kept.stream(_id(job_id)):
            job = await kept.live.streams.resume(_id(job_id))
            return _json(await stream_jobs.one(kept.live, job))
        return _json(_answer(await _planned(kept.polls.resume(_id(job_id)))))


def _add_changes(router: APIRouter, kept: _Kept) -> None:
    @router.patch(
        "/v1/jobs/{job_id}",
        responses=documented(404, 409, 413, 422, 503),
        openapi_extra=_body(ChangeRequest, StreamChange),
    )
    async def change(job_id: str, request: Request) -> Response:
        """Change what is named and begin the job anew; 409 where the plan cannot hold it."""
        body = await request.body()
        if await kept.stream(_id(job_id)):
            wish = _named(stream_jobs.wish(_decoded(_read_stream_change, body)), StreamChange)
            job = await kept.live.streams.change(_id(job_id), wish)
            return _json(await stream_jobs.one(kept.live, job))
        wish = _wish(_decoded(_read_change, body))
        return _json(_answer(await _planned(kept.polls.change(_id(job_id), wish))))

    @router.delete("/v1/jobs/{job_id}", status_code=204, responses=documented(404, 422, 503))
    async def delete(job_id: str) -> Response:
        """Forget a job; its prices stay."""
        if await kept.stream(_id(job_id)):
            await kept.live.streams.delete(_id(job_id))
        else:
            await kept.polls.delete(_id(job_id))
        return Response(status_code=204)


async def _planned(made: Awaitable[Job]) -> Job:
    """Await a job; a plan that cannot hold it is told as HTTP tells plans."""
    try:
        return await made
    except PlanExceeded as error:
        answer = _plan_answer(cast("Planned", error.plan))
        raise PlanExceeded(error.detail, answer) from None


def _json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def _decoded(decode: Any, body: bytes) -> Any:
    """Read a body.

    Raises:
        InvalidParameter: it is not JSON, or not of that form.
    """
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"the body is not right: {str(error)[:200]}") from None


def _config(asked: PollRequest) -> JobConfig:
    members = {name: getattr(asked, name) for name in PollRequest.__struct_fields__}
    return JobConfig(**members | {"symbols": tuple(asked.symbols)})


def _wish(asked: ChangeRequest) -> Mapping[str, Any]:
    given = msgspec.structs.asdict(asked)
    wish = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    if "symbols" in wish:
        wish["symbols"] = tuple(wish["symbols"])
    return _named(wish, ChangeRequest)


def _named(wish: Mapping[str, Any], model: type[msgspec.Struct]) -> Mapping[str, Any]:
    if not wish:
        members = ", ".join(model.__struct_fields__)
        raise InvalidParameter(f"nothing is to be changed: give one of {members}")
    return wish


def _asked_plan(given: QueryParams) -> JobConfig:
    known = [one["name"] for one in _PLAN_PARAMETERS]
    if unknown := sorted(set(given) - set(known)):
        raise InvalidParameter(f"{unknown[0][:32]!r} is no parameter; there are {', '.join(known)}")
    if "symbols" not in given or "interval" not in given:
        raise InvalidParameter("give symbols and interval: /v1/jobs/plan?symbols=AAPL&interval=60")
    text = given["interval"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidParameter(
            f"interval={text[:32]!r} is no whole number of seconds from 1 to {MAX_INTERVAL}"
        )
    symbols = tuple(given["symbols"].split(","))
    return JobConfig(symbols=symbols, interval=int(text), provider=given.get("provider"))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidParameter(f"{text[:64]!r} is no job's id: it is a UUID") from None


def _answer(job: Job) -> JobAnswer:
    active = job.status.value == "active"
    return JobAnswer(
        job_id=job.id,
        kind="poll",
        status=job.status.value,
        config=job.config,
        created_at=job.created_at,
        next_run=job.next_run if active else None,
        last_poll=job.last_poll,
        last_error=job.last_error,
        failures=job.failures,
        made=job.made,
        failed=job.failed,
        missed=job.missed,
        polling=job.leased_until is not None,
    )


def _plan_answer(planned: Planned) -> PlanAnswer:
    plan, provider = planned.plan, planned.provider
    return PlanAnswer(
        lasts=plan.lasts,
        detail=planned.detail,
        provider=provider.name,
        budget=str(provider.budget),
        interval=plan.load.interval,
        calls_per_poll=plan.load.calls,
        other_jobs=plan.others,
        shortest_interval=plan.shortest,
        windows=[
            WindowAnswer(
                calls=window.allowance.calls,
                period=window.allowance.period.value,
                needed=-int(-window.needed // 1),
                lasts=window.lasts,
                gone_after_seconds=window.gone_after,
                shortest_interval=window.shortest,
            )
            for window in plan.windows
        ],
    )


def _body(*models: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the documentation of a body that is one of some."""
    _, schemas = msgspec.json.schema_components(models)
    found = [schemas[model.__name__] for model in models]
    schema = found[0] if len(found) == 1 else {"anyOf": found}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
