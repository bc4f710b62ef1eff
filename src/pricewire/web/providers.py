"""`GET /v1/providers`: which there are, what each needs, which are configured.

Invariant: a key is told to be set or not, and never shown.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.bootstrap_providers import Listed


class ProvidersAnswer(msgspec.Struct):
    providers: tuple[Listed, ...]


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["providers"])

    @router.get("/v1/providers")
    async def providers() -> Response:
        """List the providers: what they need, and which can be asked as things are set."""
        body = msgspec.json.encode(ProvidersAnswer(services.providers))
        return Response(body, media_type="application/json")

    return router
