"""Bodies of the shapes that Alpaca answers with; `tests.provider_bodies_stocks` gathers them."""

from __future__ import annotations

_TRADE = {"t": "2024-03-20T14:02:09.722539521Z", "x": "V", "p": 42.1298, "s": 100, "i": 22730}
_BAR = {"t": "2024-03-20T04:00:00Z", "o": 41, "h": 43.5, "l": 40.25, "c": 42.5, "v": 900, "n": 7}

CASES: list[tuple[str, object, int, str]] = [
    ("trade", {"trades": {"ACME": _TRADE}}, 200, "ACME"),
    ("trades", {"trades": {"ACME": _TRADE, "BRK.B": _TRADE | {"p": 410}}}, 200, "ACME,BRK-B,NOPE"),
    ("trade_of_another", {"trades": {"OTHER": _TRADE}}, 200, "ACME"),
    ("trade_alone", {"symbol": "ACME", "trade": _TRADE}, 200, "ACME"),
    (
        "trades_of_a_day",
        {
            "trades": {"ACME": [_TRADE, _TRADE | {"p": 42.25, "t": "2024-03-20T14:02:10.183Z"}]},
            "next_page_token": None,
        },
        200,
        "ACME",
    ),
    (
        "pair",
        {
            "trades": {
                "BTC/USD": {"t": "2024-03-20T14:03:31.960672Z", "p": 61000, "s": 0.15, "tks": "B"}
            }
        },
        200,
        "BTC-USD",
    ),
    (
        "quotes",
        {"quotes": {"ACME": {"t": "2024-03-20T14:02:43.651613184Z", "ap": 42.11, "bp": 42.1}}},
        200,
        "ACME",
    ),
    (
        "quotes_crossed",
        {"quotes": {"ACME": {"t": "2024-03-20T14:02:43.651613184Z", "ap": 42.1, "bp": 42.2}}},
        200,
        "ACME",
    ),
    (
        "quotes_one_sided",
        {"quotes": {"ACME": {"t": "2024-03-20T14:02:43.651613184Z", "ap": 0, "bp": 42.2}}},
        200,
        "ACME",
    ),
    (
        "days",
        {
            "bars": {"ACME": [_BAR, _BAR | {"t": "2024-03-21T04:00:00Z", "c": 43}]},
            "next_page_token": "x",
        },
        200,
        "ACME",
    ),
    ("minute", {"bars": {"ACME": _BAR | {"t": "2024-03-20T14:02:00Z"}}}, 200, "ACME"),
    (
        "snapshots",
        {
            "ACME": {"latestTrade": _TRADE, "latestQuote": {"ap": 1, "bp": 1}, "dailyBar": _BAR},
            "NOPE": None,
        },
        200,
        "ACME,NOPE",
    ),
    (
        "snapshots_of_pairs",
        {"snapshots": {"BTC/USD": {"latestTrade": {"t": "2024-03-20T14:03:31.18Z", "p": 61000.5}}}},
        200,
        "BTC/USD",
    ),
    (
        "frame",
        [
            {
                "T": "t",
                "S": "ACME",
                "i": 96921,
                "x": "D",
                "p": 42.55,
                "s": 1,
                "t": "2024-03-20T14:03:31.180926Z",
            },
            {"T": "q", "S": "OTHER", "bp": 1, "ap": 2, "t": "2024-03-20T14:03:31Z"},
        ],
        200,
        "ACME",
    ),
    ("frame_connected", [{"T": "success", "msg": "connected"}], 200, "ACME"),
    ("frame_refused", [{"T": "error", "code": 402, "msg": "auth failed"}], 200, "ACME"),
    ("frame_full", [{"T": "error", "code": 406, "msg": "connection limit exceeded"}], 200, "ACME"),
    ("unknown", {"trades": {}}, 200, "NOPE"),
    ("unknown_bars", {"bars": {}, "next_page_token": None}, 200, "NOPE"),
    ("invalid_symbol", {"message": "invalid symbol: NO:PE"}, 400, "NO:PE"),
    ("invalid_key", {"message": "forbidden."}, 403, "ACME"),
    ("invalid_key_401", {"message": "unauthorized."}, 401, "ACME"),
    ("premium", {"message": "subscription does not permit querying recent SIP data"}, 403, "ACME"),
    ("throttled", {"message": "too many requests."}, 429, "ACME"),
    ("bad_request", {"message": "symbols is required"}, 400, "ACME"),
    ("down", b"<html>Gateway Time-out</html>", 504, "ACME"),
]
