"""Bodies of the shapes that Twelve Data answers with; gathered by `provider_bodies_stocks`."""

from __future__ import annotations

_CREDITS = (
    "You have run out of API credits for the current minute. 9 API credits were used, with the "
    "current limit being 8. Wait for the next minute or switch to a higher tier plan."
)
_CREDITS_DAY = (
    "You have run out of API credits for the day. 801 API credits were used, with the current "
    "limit being 800. Wait for the next day."
)
_NO_SYMBOL = "**symbol** not found: NOPE. Please specify it correctly."
_QUOTE = {
    "symbol": "ACME",
    "name": "Acme Inc",
    "exchange": "NASDAQ",
    "mic_code": "XNGS",
    "currency": "USD",
    "datetime": "2024-03-20",
    "timestamp": 1710941400,
    "last_quote_at": 1710964740,
    "open": "41.10000",
    "close": "42.42000",
    "is_market_open": True,
    "fifty_two_week": {"low": "30.00000", "high": "50.00000"},
}
_SERIES = {
    "meta": {
        "symbol": "ACME",
        "interval": "1min",
        "currency": "USD",
        "exchange_timezone": "America/New_York",
        "exchange": "NASDAQ",
    },
    "values": [
        {
            "datetime": "2024-07-10 15:59:00",
            "open": "2.0",
            "high": "2.5",
            "low": "1.9",
            "close": "2.40",
            "volume": "7",
        },
        {
            "datetime": "2024-07-10 15:58:00",
            "open": "1.9",
            "high": "2.1",
            "low": "1.8",
            "close": "2.00",
            "volume": "0",
        },
    ],
    "status": "ok",
}


def _error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message, "status": "error"}


CASES: list[tuple[str, object, int, str]] = [
    ("price", {"price": "20.86750"}, 200, "ACME"),
    ("quote", _QUOTE, 200, "ACME"),
    (
        "quote_closed",
        {name: value for name, value in _QUOTE.items() if name != "last_quote_at"}
        | {"is_market_open": False},
        200,
        "ACME",
    ),
    (
        "quote_of_a_minute",
        {name: value for name, value in _QUOTE.items() if name != "last_quote_at"}
        | {"datetime": "2024-03-20 09:30:00"},
        200,
        "ACME",
    ),
    ("quote_of_another", _QUOTE | {"symbol": "OTHER"}, 200, "ACME"),
    ("quote_on_an_exchange", _QUOTE | {"exchange": "XETR", "currency": "EUR"}, 200, "ACME:XETR"),
    ("rate", {"symbol": "EUR/USD", "rate": 1.16844, "timestamp": 1710941400}, 200, "EUR-USD"),
    (
        "eod",
        {
            "symbol": "ACME",
            "exchange": "CBOE",
            "mic_code": "BATS",
            "currency": "USD",
            "datetime": "2024-03-20",
            "close": "42.42000",
        },
        200,
        "ACME",
    ),
    ("series", _SERIES, 200, "ACME"),
    (
        "daily",
        _SERIES
        | {
            "values": [
                {"datetime": "2024-07-10", "open": "2", "high": "3", "low": "1", "close": "2.50"}
            ]
        },
        200,
        "ACME",
    ),
    (
        "feed",
        {
            "event": "price",
            "symbol": "ACME",
            "currency": "USD",
            "exchange": "NASDAQ",
            "timestamp": 1710941400,
            "price": 42.25,
        },
        200,
        "ACME",
    ),
    (
        "feed_status",
        {"event": "subscribe-status", "status": "ok", "success": [{"symbol": "ACME"}], "fails": []},
        200,
        "ACME",
    ),
    ("throttled_minute", _error(429, _CREDITS), 200, "ACME"),
    ("throttled_minute_429", _error(429, _CREDITS), 429, "ACME"),
    ("throttled_day", _error(429, _CREDITS_DAY), 200, "ACME"),
    ("throttled", _error(429, "Too many requests."), 429, "ACME"),
    ("unknown", _error(404, _NO_SYMBOL), 200, "NOPE"),
    ("unknown_400", _error(400, _NO_SYMBOL), 400, "NOPE"),
    (
        "unknown_404",
        _error(404, "**symbol** or **figi** parameter is missing or invalid."),
        404,
        "NOPE",
    ),
    (
        "invalid_key",
        _error(401, "**apikey** parameter is incorrect or not specified."),
        200,
        "ACME",
    ),
    (
        "premium",
        _error(403, "/eod is available exclusively with pro or enterprise plans"),
        200,
        "ACME",
    ),
    (
        "premium_symbol",
        _error(
            404,
            "This **symbol** is available starting with Grow. Consider upgrading your plan now.",
        ),
        200,
        "ACME",
    ),
    ("too_long", _error(414, "The parameter array is too long."), 414, "ACME"),
    ("no_dates", _error(400, "No data is available on the specified dates."), 200, "ACME"),
    ("down", _error(500, "Internal error"), 200, "ACME"),
    ("html", b"<html>Bad Gateway</html>", 502, "ACME"),
    (
        "batch",
        {
            "ACME": _QUOTE,
            "BRK.B": _QUOTE | {"symbol": "BRK.B"},
            "NOPE": _error(400, _NO_SYMBOL),
            "GOLD": _error(404, "This symbol is available starting with Grow."),
            "SWAP": _QUOTE,
        },
        200,
        "ACME,BRK-B,NOPE,GOLD,SWAP",
    ),
    (
        "batch_prices",
        {"ACME": {"price": "42.50"}, "BTC/USD": {"price": "61000.10"}},
        200,
        "ACME,BTC-USD",
    ),
]
