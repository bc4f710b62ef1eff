"""Bodies of the shapes that Yahoo answers with."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.keyless_bodies.cases import case as any_case

case = partial(any_case, "yahoo", symbols="ACME")

META = {
    "currency": "USD",
    "symbol": "ACME",
    "exchangeName": "NMS",
    "instrumentType": "EQUITY",
    "regularMarketTime": 1710964800,
    "gmtoffset": -14400,
    "timezone": "EDT",
    "exchangeTimezoneName": "America/New_York",
    "regularMarketPrice": 42.12,
    "chartPreviousClose": 41.3,
    "priceHint": 2,
    "dataGranularity": "1d",
}
LINE = "ACME 42.12 2024-03-20T20:00:00Z second last USD NMS"


def chart(
    *, times: list[int] | None = None, columns: dict[str, list[Any]] | None = None, **meta: Any
) -> dict[str, Any]:
    result: dict[str, Any] = {"meta": META | meta, "indicators": {"quote": [columns or {}]}}
    if times is not None:
        result["timestamp"] = times
    return {"chart": {"result": [result], "error": None}}


def refused(code: str, description: str, envelope: str = "chart") -> dict[str, Any]:
    return {envelope: {"result": None, "error": {"code": code, "description": description}}}


COLUMNS: dict[str, list[Any]] = {
    "open": [41.5, None, 42],
    "high": [43.25, None, 43],
    "low": [41.25, None, 41],
    "close": [43.25666809082031, None, 42.5],
    "volume": [91162800, None, 0],
}

CASES = [
    case(
        "chart",
        chart(times=[1710855000, 1710941400, 1711027800], columns=COLUMNS),
        LINE,
        bars=(
            "ACME 2024-03-19T13:30Z 41.5 43.25 41.25 43.25666809082031",
            "ACME 2024-03-21T13:30Z 42 43 41 42.5",
        ),
    ),
    case("unasked", chart(), LINE, symbols=""),
    case("no_series", chart(), LINE),
    case(
        "pence",
        chart(symbol="ACME.L", currency="GBp", exchangeName="LSE", regularMarketPrice=305.3),
        "ACME.L 305.3 2024-03-20T20:00:00Z second last GBp LSE",
        symbols="ACME.L",
    ),
    case(
        "class_share",
        chart(symbol="BRK-B"),
        LINE.replace("ACME", "BRK.B"),
        symbols="BRK.B",
    ),
    case("index", chart(symbol="^GSPC"), LINE.replace("ACME", "I:SPX"), symbols="I:SPX"),
    case("fx", chart(symbol="EURUSD=X"), LINE.replace("ACME", "EUR/USD"), symbols="EUR/USD"),
    case("fx_short", chart(symbol="INR=X"), LINE.replace("ACME", "USD/INR"), symbols="USD/INR"),
    case("coin", chart(symbol="BTC-USD"), LINE.replace("ACME", "BTC/USD"), symbols="BTC/USD"),
    case("other_symbol", chart(symbol="OTHER"), "not_a_price"),
    case("zero", chart(regularMarketPrice=0), "not_a_price"),
    case("no_time", chart(regularMarketTime=0), "not_a_price"),
    case("crazy_time", chart(regularMarketTime=10**18), "not_a_price"),
    case(
        "quotes",
        {
            "quoteResponse": {
                "result": [
                    {
                        "symbol": "ACME",
                        "regularMarketPrice": 42.12,
                        "regularMarketTime": 1710964800,
                        "currency": "USD",
                        "exchange": "NMS",
                        "exchangeDataDelayedBy": 15,
                    },
                ],
                "error": None,
            }
        },
        LINE.replace("last", "delayed"),
    ),
    case("no_quotes", {"quoteResponse": {"result": [], "error": None}}, "unknown_symbol"),
    case(
        "unknown",
        refused("Not Found", "No data found, symbol may be delisted"),
        "unknown_symbol",
        status=404,
    ),
    case(
        "span",
        refused("Unprocessable Entity", "5m data not available for startTime=1 and endTime=2."),
        "not_a_price",
        status=422,
    ),
    case("crumb", refused("Unauthorized", "Invalid Crumb", "finance"), "invalid_key", status=401),
    case("throttled", b"Too Many Requests\r\n", "rate_limited", status=429),
    case("throttled_at_the_edge", b"Edge: Too Many Requests", "rate_limited", status=429),
    case("throttled_with_200", b"Too Many Requests\r\n", "rate_limited"),
    case(
        "no_data",
        b"400 Bad Request: Data doesn't exist for startDate = 1, endDate = 2",
        "not_a_price",
        status=400,
    ),
    case("maintenance", b"<html>Will be right back...</html>", "provider_down"),
    case("html", b"<html>Bad Gateway</html>", "provider_down", status=502),
    case("nothing", {}, "not_a_price"),
    case("no_result", {"chart": {"result": None, "error": None}}, "unknown_symbol"),
]
