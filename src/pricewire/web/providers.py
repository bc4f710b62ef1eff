"""`GET /v1/providers`: which there are, what each needs, and how those in use are.

Invariant: a key is told to be set or not, and never shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.bootstrap_providers import Listed
from pricewire.services.breaker import BreakerState
from pricewire.services.guard import GuardState
from pricewire.web.problems import documented


class BudgetAnswer(msgspec.Struct):
    """What is left of one window; `until` it is over."""

    period: str
    calls: int
    left: int
    until: datetime


class GuardAnswer(msgspec.Struct):
    """A provider in use: `ready`, `cooling` after a refusal, `out_of_budget`, or `down`."""

    health: str
    breaker: str
    cooling_seconds: float
    last_error: str | None
    budget: Sequence[BudgetAnswer]


class ProviderAnswer(msgspec.Struct):
    name: str
    title: str
    needs: tuple[str, ...]
    configured: bool
    default: bool
    base_url: str | None
    batch: int
    history: bool
    feed: bool
    guard: GuardAnswer | None


class ProvidersAnswer(msgspec.Struct):
    providers: list[ProviderAnswer]


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["providers"])

    @router.get("/v1/providers", responses=documented(503))
    async def providers() -> Response:
        """List the providers: what they need, which can be asked, and how those are."""
        states = await services.guards.states()
        rows = [_answer(one, states.get(one.name)) for one in services.providers]
        body = msgspec.json.encode(ProvidersAnswer(rows))
        return Response(body, media_type="application/json")

    return router


def _answer(listed: Listed, state: GuardState | None) -> ProviderAnswer:
    return ProviderAnswer(
        name=listed.name,
        title=listed.title,
        needs=listed.needs,
        configured=listed.configured,
        default=listed.default,
        base_url=listed.base_url,
        batch=listed.batch,
        history=listed.history,
        feed=listed.feed,
        guard=None if state is None else _guard(state),
    )


def _guard(state: GuardState) -> GuardAnswer:
    return GuardAnswer(
        health=_health(state),
        breaker=state.breaker,
        cooling_seconds=round(state.cooling_seconds, 1),
        last_error=state.last_error,
        budget=[
            BudgetAnswer(one.allowance.period, one.allowance.calls, one.calls, one.until)
            for one in state.remaining
        ],
    )


def _health(state: GuardState) -> str:
    if state.breaker is not BreakerState.CLOSED:
        return "down"
    if state.cooling_seconds > 0:
        return "cooling"
    return "ready" if all(one.calls > 0 for one in state.remaining) else "out_of_budget"
