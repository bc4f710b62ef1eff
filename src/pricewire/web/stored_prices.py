"""`GET /v1/prices`: the stored prices of a symbol by market time, as JSON, CSV or Parquet.

Invariant: digits are the stored ones in every format (in Parquet as text: a decimal column has one
scale for all of them), and a large answer is read and sent page by page.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pricewire.bootstrap import Services
from pricewire.domain.event import parse_event_id
from pricewire.domain.past import read_market_time
from pricewire.domain.quote import price_text
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter
from pricewire.services.prices import PriceQuery, PriceRow
from pricewire.web.problems import documented

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
_COLUMNS = (
    "id",
    "symbol",
    "price",
    "timestamp",
    "timestamp_precision",
    "source",
    "kind",
    "currency",
    "size",
    "trade_id",
    "raw_response_id",
)

Pages = AsyncIterator[Sequence[PriceRow]]


def routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["prices"])

    @router.get("/v1/prices", responses=documented(422, 503), response_class=Response)
    async def prices(  # noqa: PLR0913, PLR0917
        request: Request,
        symbol: Annotated[str, Query(description="The instrument")],
        begin: Annotated[
            str | None, Query(alias="from", description="Market time, inclusive")
        ] = None,
        end: Annotated[str | None, Query(alias="to", description="Market time, exclusive")] = None,
        provider: Annotated[str | None, Query(description="Only of this one")] = None,
        order: Annotated[str, Query(description="asc or desc, by market time")] = "asc",
        limit: Annotated[
            str | None,
            Query(description=f"JSON: 1 to {MAX_LIMIT}, {DEFAULT_LIMIT} by default; else all"),
        ] = None,
        cursor: Annotated[
            str | None, Query(description="next_cursor of the page before: an event's id")
        ] = None,
        format: Annotated[str | None, Query(description="json, csv or parquet")] = None,  # noqa: A002
    ) -> Response:
        """List stored prices, live and past ones, by market time."""
        form = _format(format, request.headers.get("accept", ""))
        query = PriceQuery(
            symbol=parse_symbol(symbol),
            start=_time("from", begin),
            end=_time("to", end),
            provider=_provider(provider),
            descending=_descending(order),
        )
        after = None if cursor is None else parse_event_id(cursor)
        count = _limit(limit, form)
        # One more than wanted tells whether there is a next page.
        more = count + 1 if form == "json" and count is not None else count
        writer = _parquet_writer() if form == "parquet" else None
        pages = await services.prices.pages(query, cursor=after, limit=more)
        if form == "json":
            assert count is not None
            return await _json(pages, count)
        body = _csv(pages) if writer is None else _parquet(pages, writer)
        name = "".join(char if char.isalnum() else "_" for char in query.symbol)
        headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
        return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)

    return router


async def _json(pages: Pages, limit: int) -> Response:
    rows = [row async for page in pages for row in page]
    shown = rows[:limit]
    following = str(shown[-1].place.event_id) if len(rows) > limit else None
    answer = {"prices": [_members(row) for row in shown], "next_cursor": following}
    return Response(msgspec.json.encode(answer), media_type=MEDIA_TYPES["json"])


def _members(row: PriceRow) -> dict[str, Any]:
    members: dict[str, Any] = dict(zip(_COLUMNS, _texts(row), strict=True))
    members["price"] = msgspec.Raw(price_text(row.price).encode())
    if row.size is not None:
        members["size"] = msgspec.Raw(price_text(row.size).encode())
    return members


def _texts(row: PriceRow) -> tuple[str | None, ...]:
    place = row.place
    return (
        str(place.event_id),
        place.event_id.symbol,
        price_text(row.price),
        _time_text(place.timestamp, place.nanosecond),
        row.precision,
        row.provider,
        row.kind,
        row.currency,
        None if row.size is None else price_text(row.size),
        row.trade_id,
        str(row.raw_response_id),
    )


def _time_text(moment: datetime, nanosecond: int) -> str:
    text = moment.isoformat().removesuffix("+00:00")
    return f"{text[:19]}.{moment.microsecond:06}{nanosecond:03}Z" if nanosecond else f"{text}Z"


async def _csv(pages: Pages) -> AsyncIterator[bytes]:
    yield (",".join(_COLUMNS) + "\n").encode()
    async for page in pages:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(_texts, page))
        yield text.getvalue().encode()


async def _parquet(pages: Pages, writer: _ParquetWriter) -> AsyncIterator[bytes]:
    async for page in pages:
        await asyncio.to_thread(writer.write, page)
        if part := writer.taken():
            yield part
    await asyncio.to_thread(writer.close)
    yield writer.taken()


class _ParquetWriter:
    """Writes a file that is sent while it is written."""

    def __init__(self, pa: Any, parquet: Any) -> None:
        text = pa.string()
        self._pa = pa
        self._schema = pa.schema(
            [
                (name, pa.timestamp("us", tz="UTC") if name == "timestamp" else text)
                for name in _COLUMNS
            ]
            # A timestamp of nanoseconds would end in 2262 and begin in 1677.
            + [("nanosecond", pa.int16())]
        )
        self._out = _Pipe()
        self._writer = parquet.ParquetWriter(
            pa.PythonFile(self._out, mode="w"), self._schema, compression="snappy"
        )

    def write(self, page: Sequence[PriceRow]) -> None:
        columns: list[list[Any]] = [list(column) for column in zip(*map(_texts, page), strict=True)]
        columns[_COLUMNS.index("timestamp")] = [row.place.timestamp for row in page]
        columns.append([row.place.nanosecond for row in page])
        arrays = [
            self._pa.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()

    def taken(self) -> bytes:
        return self._out.taken()


class _Pipe(io.RawIOBase):
    """A file that forgets what was taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, part: Any) -> int:
        content = bytes(part)
        self._parts.append(content)
        self._written += len(content)
        return len(content)

    def taken(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def _parquet_writer() -> _ParquetWriter:
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise InvalidParameter(
            "format=parquet needs an extra where the service runs: pip install 'pricewire[parquet]'"
        ) from None
    return _ParquetWriter(pa, parquet)


def _format(named: str | None, accepted: str) -> str:
    if named is None:
        kinds = [part.partition(";")[0].strip() for part in accepted.split(",")]
        chosen = [form for form, media_type in MEDIA_TYPES.items() if media_type in kinds]
        return chosen[0] if chosen else "json"
    if named not in MEDIA_TYPES:
        raise InvalidParameter(f"format={named[:32]!r} is none of {', '.join(MEDIA_TYPES)}")
    return named


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    # A plus sign that nobody encoded arrives as a space.
    time = read_market_time(text) or read_market_time(text.replace(" ", "+"))
    if time is None or time.moment.tzinfo is None:
        raise InvalidParameter(
            f"{name}={text[:40]!r} is no time: 2024-03-20, or 2024-03-20T10:30:00Z"
        )
    return time.moment


def _provider(name: str | None) -> str | None:
    if name is not None and not (name.isprintable() and 0 < len(name) <= 64):
        raise InvalidParameter("provider has 1 to 64 printable characters")
    return name


def _descending(order: str) -> bool:
    if order not in ("asc", "desc"):
        raise InvalidParameter(f"order={order[:32]!r} is neither asc nor desc")
    return order == "desc"


def _limit(text: str | None, form: str) -> int | None:
    if text is None:
        return DEFAULT_LIMIT if form == "json" else None
    most = MAX_LIMIT if form == "json" else 10**9
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise InvalidParameter(f"limit={text[:32]!r} is no whole number from 1 to {most}")
    return int(text)
