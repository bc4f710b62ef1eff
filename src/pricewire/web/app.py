"""The ASGI application over running services; made by the CLI's server and by tests.

FastAPI has every route and documents them all; the hot one is also served before it, by Starlette
alone, at a third of FastAPI's cost (docs/decisions/0007): one function, registered twice. So is the
live stream, which is no FastAPI function at all (docs/decisions/0024).
"""

from __future__ import annotations

from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute

from pricewire import __version__
from pricewire.bootstrap import Services
from pricewire.web import (
    averages,
    backfills,
    candles,
    events,
    imports,
    jobs,
    prices,
    problems,
    processors,
    providers,
    state,
    stored_prices,
    stream,
    stream_request,
)
from pricewire.web.limits import BodyLimit


def create_app(services: Services) -> Starlette:
    """Make the application; the services must outlive it."""
    latest_price = prices.latest_price_endpoint(services)
    # Its page for browsers comes with it: a service may have no internet, and loads no stranger's
    # scripts into the browsers of those who run it.
    api = FastAPIOffline(
        redoc_url=None,
        static_url="/docs-files",
        title="Pricewire",
        version=__version__,
        description="Fetch a price, store its raw answer, publish an exact event to Kafka.",
    )
    api.add_api_route(
        prices.PATH,
        latest_price,
        tags=["prices"],
        responses=problems.documented(404, 422, 502, 503, 504),
        openapi_extra=prices.DOCUMENTATION,
    )
    api.add_api_route(
        stream.PATH,
        stream.document,
        summary="Live Stream",
        tags=["stream"],
        responses=problems.documented(422, 503),
        openapi_extra=stream_request.DOCUMENTATION,
    )
    for room in (
        stored_prices,
        events,
        averages,
        candles,
        imports,
        jobs,
        backfills,
        providers,
        state,
        processors,
    ):
        api.include_router(room.routes(services))
    api.add_middleware(BodyLimit)
    live = stream.StreamApp(services)
    app = Starlette(
        routes=[
            Route(prices.PATH, latest_price),
            Route(stream.PATH, live, methods=["GET"]),
            WebSocketRoute(stream.PATH, live),
            Mount("/", api),
        ]
    )
    for each in (app, api):
        problems.install(each)
    return app
