"""Every error that HTTP answers, as RFC 9457 problem details; `app` installs the handlers.

Invariant: a body always has type, title, status, detail and code, and never a secret or a trace.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from pricewire.errors import Attempt, PlanExceeded, PricewireError, ProviderError

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger()


class Problem(BaseModel):
    """Problem details (RFC 9457); `code` is the stable word to decide by."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    instance: str
    retry_after: int | None = None
    attempts: list[Attempt] | None = None
    plan: dict[str, Any] | None = None


def install(app: Starlette) -> None:
    """Make `app` answer every error as a problem."""
    app.add_exception_handler(PricewireError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route for the API's documentation."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "Problem details", "content": content} for status in statuses}


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, PricewireError)
    if error.status >= 500 and not error.retryable:
        log.warning("request.failed", path=request.url.path, code=error.code, detail=error.detail)
    members = body(request, error)
    headers = {"Retry-After": str(members["retry_after"])} if "retry_after" in members else {}
    return Response(msgspec.json.encode(members), error.status, headers, MEDIA_TYPE)


def body(request: HTTPConnection, error: PricewireError) -> dict[str, Any]:
    """Return the members of an error's problem."""
    members: dict[str, Any] = {
        "title": error.title,
        "detail": error.detail,
        "retryable": error.retryable,
    }
    if isinstance(error, ProviderError) and error.attempts:
        members["attempts"] = error.attempts
    if isinstance(error, PlanExceeded):
        members["plan"] = error.plan
    if error.retry_after is not None:
        members["retry_after"] = max(1, math.ceil(error.retry_after))
    return _members(request, error.status, error.code) | members


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    complaints = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return _problem(
        request,
        status=422,
        title="Invalid parameter",
        detail="; ".join(complaints),
        code="invalid_parameter",
        retryable=False,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    response = _problem(
        request,
        status=error.status_code,
        title=str(error.detail),
        detail=f"{request.method} {request.url.path[:200]}: {error.detail}; /docs lists the routes",
        code=code,
        retryable=False,
    )
    response.headers.update(error.headers or {})
    return response


async def _unforeseen(request: Request, error: Exception) -> Response:
    log.error("request.crashed", path=request.url.path, exc_info=error)
    return _problem(
        request,
        status=500,
        title="Internal error",
        detail="a bug of ours; the log has it",
        code="internal_error",
        retryable=False,
    )


def _problem(request: Request, *, status: int, code: str, **members: Any) -> Response:
    body = _members(request, status, code) | members
    return Response(msgspec.json.encode(body), status, media_type=MEDIA_TYPE)


def _members(request: HTTPConnection, status: int, code: str) -> dict[str, Any]:
    return {
        "type": f"urn:pricewire:error:{code}",
        "status": status,
        "code": code,
        "instance": request.url.path[:200],
    }
