"""Bodies of the shapes that Finnhub answers with; `tests.provider_bodies_stocks` gathers them."""

from __future__ import annotations

CASES: list[tuple[str, object, int, str]] = [
    (
        "quote",
        {"c": 42.5, "d": 0.5, "dp": 1.19, "h": 43, "l": 41.5, "o": 42, "pc": 42, "t": 1710964800},
        200,
        "ACME",
    ),
    (
        "unknown",
        {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0},
        200,
        "NOPE",
    ),
    ("no_time", {"c": 42.5, "h": 43, "l": 41.5, "o": 42, "pc": 42, "t": 0}, 200, "ACME"),
    (
        "trades",
        {
            "type": "trade",
            "data": [
                {"p": 42.7, "s": "ACME", "t": 1710943329722, "v": 10},
                {"p": 9.5, "s": "OTHER", "t": 1710943329723, "v": 1, "c": ["1"]},
                {"p": 42.71, "s": "ACME", "t": 1710943329724, "v": 3},
            ],
        },
        200,
        "ACME",
    ),
    ("ping", {"type": "ping"}, 200, "ACME"),
    ("feed_error", {"type": "error", "msg": "Invalid symbol FX:NOPE"}, 200, "FX:NOPE"),
    (
        "candles",
        {
            "s": "ok",
            "t": [1710892800, 1710979200],
            "o": [41, 42],
            "h": [43, 44],
            "l": [40, 41],
            "c": [42.5, 43.25],
            "v": [7, 8],
        },
        200,
        "ACME",
    ),
    ("no_candles", {"s": "no_data"}, 200, "NOPE"),
    ("premium", {"error": "You don't have access to this resource."}, 403, "ACME"),
    ("premium_401", {"error": "You don't have access to this resource."}, 401, "ACME"),
    ("invalid_key", {"error": "Invalid API key"}, 401, "ACME"),
    (
        "throttled",
        {"error": "API limit reached. Please try again later. Remaining Limit: 0"},
        429,
        "ACME",
    ),
    ("no_key", {"error": "API limit reached. Please sign up for a free account."}, 429, "ACME"),
    (
        "no_key_text",
        b"API limit reached. Please sign up for a free account to get a free API key",
        429,
        "ACME",
    ),
    ("html", b"<html><head><title>502 Bad Gateway, token</title></html>", 502, "ACME"),
]
