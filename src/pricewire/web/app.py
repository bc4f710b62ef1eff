"""The ASGI application over running services; made by the CLI's server and by tests.

FastAPI has every route and documents them all; the hot one is also served before it, by Starlette
alone, at a third of FastAPI's cost (docs/decisions/0007): one function, registered twice.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

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
)
from pricewire.web.limits import BodyLimit


def create_app(services: Services) -> Starlette:
    """Make the application; the services must outlive it."""
    latest_price = prices.latest_price_endpoint(services)
    api = FastAPI(
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
    app = Starlette(routes=[Route(prices.PATH, latest_price), Mount("/", api)])
    for each in (app, api):
        problems.install(each)
    return app
