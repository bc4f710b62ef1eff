"""`GET /v1/candles`: open, high, low, close and count over an interval of market time.

Invariant: prices are encoded by msgspec with their exact digits (design promise 8).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from pricewire.bootstrap import Services
from pricewire.domain.candle import Part
from pricewire.domain.quote import price_text
from pricewire.errors import InvalidParameter
from pricewire.services.candles import AsOf, CandlesAnswer, MergedCandle
from pricewire.web.problems import documented


class PartBody(msgspec.Struct):
    """What one series has of a candle; `revision` is 0 while it is open."""

    series: str
    count: int
    closed: bool
    revision: int


class CandleBody(msgspec.Struct):
    """`open_at` and `close_at` are the market times of open and close."""

    start: datetime
    end: datetime
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    count: int
    closed: bool
    revision: int
    open_at: datetime
    close_at: datetime
    parts: list[PartBody]


class AsOfBody(msgspec.Struct):
    """How far the checkpoint goes that the candles are read from."""

    series: str
    partition: int
    next_offset: int | None
    logged_at: datetime | None


class CandlesBody(msgspec.Struct):
    """`next` and `previous` are the `from` and the `to` of the pages beside this one."""

    symbol: str
    interval: str
    as_of: list[AsOfBody]
    candles: list[CandleBody]
    next: datetime | None
    previous: datetime | None


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["candles"])

    @router.get("/v1/candles", responses=documented(422, 503))
    async def candles(
        symbol: Annotated[str, Query(description="as it was asked for")],
        interval: Annotated[str, Query(description="1m, 5m, 1h or 1d")],
        since: Annotated[
            str | None, Query(alias="from", description="first start, inclusive; ISO 8601")
        ] = None,
        until: Annotated[
            str | None, Query(alias="to", description="last start, exclusive; ISO 8601")
        ] = None,
        limit: Annotated[int, Query(description="1 to 5000")] = 500,
    ) -> Response:
        """Give candles by time: the first from `from` on; without it, the last before `to`."""
        answers = services.candles
        assert answers is not None, "a process with an API answers for candles"
        found = await answers.of(
            symbol,
            interval,
            since=_moment("from", since),
            until=_moment("to", until),
            limit=limit,
        )
        return Response(msgspec.json.encode(_body(found)), media_type="application/json")

    return router


def _moment(name: str, text: str | None) -> datetime | None:
    """Return the time in a parameter; a date alone is its beginning in UTC."""
    if text is None:
        return None
    # In a URL a plus sign stands for a space.
    given = text.replace(" ", "+") if "T" in text else text
    try:
        at = datetime.fromisoformat(given)
        if len(given) <= len("2024-03-20"):
            at = at.replace(tzinfo=UTC)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidParameter(
        f"{name}={text[:64]!r} is no time with its offset from UTC: give 2024-03-20T10:30:00Z, "
        "or a date, 2024-03-20"
    )


def _body(found: CandlesAnswer) -> CandlesBody:
    as_of = [_as_of(series.value, one) for series, one in sorted(found.as_of.items())]
    return CandlesBody(
        found.symbol,
        found.interval.value,
        as_of,
        [_candle(one) for one in found.candles],
        next=None if found.newest else found.more,
        previous=found.more if found.newest else None,
    )


def _as_of(series: str, one: AsOf) -> AsOfBody:
    at = None if one.logged_at is None else datetime.fromtimestamp(one.logged_at / 1000, UTC)
    return AsOfBody(series, one.partition, one.next_offset, at)


def _candle(merged: MergedCandle) -> CandleBody:
    candle = merged.candle
    return CandleBody(
        start=candle.start,
        end=candle.end,
        open=_exact(candle.open),
        high=_exact(candle.high),
        low=_exact(candle.low),
        close=_exact(candle.close),
        count=candle.count,
        closed=candle.revision > 0,
        revision=candle.revision,
        open_at=candle.first_at,
        close_at=candle.last_at,
        parts=[_part(part) for part in merged.parts],
    )


def _part(part: Part) -> PartBody:
    one = part.candle
    return PartBody(part.series.value, one.count, one.revision > 0, one.revision)


def _exact(price: Decimal) -> msgspec.Raw:
    return msgspec.Raw(price_text(price).encode())
