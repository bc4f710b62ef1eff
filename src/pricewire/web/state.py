"""`/health/live`, `/health/ready` and `/metrics`: how the service is.

Invariant: `live` asks nothing of any part; `ready` answers 503 only when prices cannot be recorded.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from pricewire.bootstrap import Services


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/health/live")
    async def live() -> Response:
        """Say that the process answers."""
        return Response(b'{"status":"up"}', media_type="application/json")

    @router.get("/health/ready")
    async def ready() -> Response:
        """Say how each part is; 503 if a price asked for now could not be recorded."""
        is_ready, report = await services.health.report()
        body = msgspec.json.encode(report)
        return Response(body, 200 if is_ready else 503, media_type="application/json")

    @router.get("/metrics")
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
