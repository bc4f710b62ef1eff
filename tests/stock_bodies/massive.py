"""Bodies of the shapes that Massive answers with; `tests.provider_bodies_stocks` gathers them."""

from __future__ import annotations

_SNAPSHOT = {
    "ticker": "ACME",
    "day": {"c": 42.6, "h": 43, "l": 41, "o": 41.5, "v": 1.12117471e8},
    "lastQuote": {"P": 42.7, "S": 5, "p": 42.5, "s": 3, "t": 1710943329722539521},
    "lastTrade": {"c": None, "i": "121", "p": 42.61, "s": 200, "t": 1710943329722539521, "x": 12},
    "min": {"av": 9, "c": 42.55, "h": 43, "l": 42, "o": 42.1, "t": 1710943260000},
    "prevDay": {"c": 41.2},
    "updated": 1710943329722539521,
}
_UNTRADED = {name: _SNAPSHOT[name] for name in ("ticker", "day", "min", "prevDay", "updated")}
_AGGREGATE = {"v": 1.12117471e8, "vw": 42.1, "o": 41.5, "c": 42.6, "h": 43, "l": 41, "n": 3}


def _ok(results: object, **more: object) -> dict[str, object]:
    return {"status": "OK", "request_id": "0123", "results": results} | more


CASES: list[tuple[str, object, int, str]] = [
    (
        "trade",
        _ok(
            {
                "T": "ACME",
                "p": 42.25,
                "s": 2,
                "t": 1651179319310617301,
                "y": 1651179319308000000,
                "c": [12, 37],
                "i": "237",
            }
        ),
        200,
        "ACME",
    ),
    ("trade_of_another", _ok({"T": "OTHER", "p": 42.25, "t": 1651179319310617301}), 200, "ACME"),
    ("trade_in_ms", _ok({"T": "ACME", "p": 42.25, "t": 1e30}), 200, "ACME"),
    (
        "nbbo",
        _ok({"T": "ACME", "p": 42.65, "s": 1, "P": 42.66, "S": 14, "t": 1652192754171838500}),
        200,
        "ACME",
    ),
    (
        "prev",
        _ok(
            [_AGGREGATE | {"T": "ACME", "t": 1710964800000}],
            ticker="ACME",
            resultsCount=1,
            adjusted=True,
        ),
        200,
        "ACME",
    ),
    (
        "prev_delayed",
        _ok(
            [_AGGREGATE | {"T": "ACME", "t": 1710907200000}],
            ticker="ACME",
            status="DELAYED",
            adjusted=False,
        ),
        200,
        "ACME",
    ),
    (
        "days",
        _ok(
            [_AGGREGATE | {"t": 1710907200000}, _AGGREGATE | {"t": 1710993600000, "c": 42.75}],
            ticker="ACME",
            resultsCount=2,
            adjusted=True,
        ),
        200,
        "ACME",
    ),
    (
        "minutes",
        _ok([_AGGREGATE | {"t": 1710941400000}], ticker="X:BTCUSD", resultsCount=1),
        200,
        "BTC/USD",
    ),
    (
        "grouped",
        _ok(
            [
                _AGGREGATE | {"T": "ACME", "t": 1710964800000},
                _AGGREGATE | {"T": "OTHER", "t": 1710964800000},
            ],
            resultsCount=2,
            adjusted=True,
        ),
        200,
        "ACME",
    ),
    (
        "no_results",
        {"ticker": "NOPE", "queryCount": 0, "resultsCount": 0, "adjusted": True, "status": "OK"},
        200,
        "NOPE",
    ),
    (
        "open_close",
        {
            "status": "OK",
            "from": "2024-03-20",
            "symbol": "ACME",
            "open": 41,
            "high": 43,
            "low": 40,
            "close": 42.5,
            "afterHours": 42.6,
        },
        200,
        "ACME",
    ),
    ("snapshot", {"status": "OK", "ticker": _SNAPSHOT}, 200, "ACME"),
    ("snapshot_without_trades", {"status": "DELAYED", "ticker": _UNTRADED}, 200, "ACME"),
    (
        "snapshot_cleared",
        {
            "status": "OK",
            "ticker": {
                "ticker": "ACME",
                "day": {"c": 0},
                "min": {"c": 0, "t": 0},
                "prevDay": {"c": 41.2},
                "updated": 0,
            },
        },
        200,
        "ACME",
    ),
    (
        "snapshots",
        {"status": "OK", "tickers": [_SNAPSHOT, _SNAPSHOT | {"ticker": "BRK.B"}]},
        200,
        "BRK-B,ACME",
    ),
    (
        "snapshot_of_a_pair",
        {
            "status": "OK",
            "ticker": {
                "ticker": "X:BTCUSD",
                "lastTrade": {"p": 61000.5, "s": 0.1, "t": 1710943329722},
                "updated": 1710943329722,
            },
        },
        200,
        "BTC-USD",
    ),
    (
        "snapshot_of_currencies",
        {
            "status": "OK",
            "ticker": {
                "ticker": "C:EURUSD",
                "lastQuote": {"a": 1.0862, "b": 1.086, "t": 1710943329722},
            },
        },
        200,
        "EUR/USD",
    ),
    (
        "unified",
        _ok(
            [
                {
                    "ticker": "ACME",
                    "type": "stocks",
                    "last_trade": {
                        "price": 42.5,
                        "sip_timestamp": 1710943329722539521,
                        "timeframe": "DELAYED",
                    },
                },
                {
                    "ticker": "I:SPX",
                    "value": 5224.62,
                    "last_updated": 1710943329722539521,
                    "timeframe": "REAL-TIME",
                },
                {"ticker": "NOPE", "error": "NOT_FOUND", "message": "Ticker not found."},
                {
                    "ticker": "GOLD",
                    "error": "NOT_ENTITLED",
                    "message": "Not entitled to this ticker.",
                },
            ]
        ),
        200,
        "ACME,^GSPC,NOPE,GOLD",
    ),
    (
        "trades",
        _ok(
            [
                {"price": 42.25, "sip_timestamp": 1651181822461979400, "size": 10},
                {"price": 42.5, "sip_timestamp": 1651181822461979401, "size": 1},
            ]
        ),
        200,
        "ACME",
    ),
    (
        "quotes",
        _ok([{"ask_price": 42.66, "bid_price": 42.64, "sip_timestamp": 1651181822461979400}]),
        200,
        "ACME",
    ),
    (
        "last_of_a_pair",
        {
            "status": "success",
            "symbol": "BTC-USD",
            "last": {"price": 61000.12, "size": 0.005, "timestamp": 1710943329722},
        },
        200,
        "BTC/USD",
    ),
    (
        "last_of_currencies",
        {
            "status": "success",
            "symbol": "EUR/USD",
            "last": {"ask": 1.0862, "bid": 1.086, "timestamp": 1710943329000},
        },
        200,
        "EURUSD=X",
    ),
    (
        "frame",
        [
            {"ev": "T", "sym": "ACME", "p": 42.87, "s": 300, "t": 1710943329722, "i": "5096"},
            {"ev": "T", "sym": "OTHER", "p": 1, "t": 1710943329722},
            {
                "ev": "AM",
                "sym": "ACME",
                "o": 42,
                "h": 43,
                "l": 41,
                "c": 42.5,
                "v": 9,
                "s": 1710943260000,
                "e": 1710943320000,
            },
        ],
        200,
        "ACME",
    ),
    (
        "frame_of_a_pair",
        [{"ev": "XT", "pair": "BTC-USD", "p": 61000.25, "t": 1710943329722, "s": 0.1}],
        200,
        "BTC/USD",
    ),
    (
        "frame_of_currencies",
        [{"ev": "C", "p": "EUR/USD", "a": 1.0862, "b": 1.086, "t": 1710943329722}],
        200,
        "EUR/USD",
    ),
    (
        "frame_connected",
        [{"ev": "status", "status": "connected", "message": "Connected Successfully"}],
        200,
        "ACME",
    ),
    (
        "frame_refused",
        [{"ev": "status", "status": "auth_failed", "message": "authentication failed"}],
        200,
        "ACME",
    ),
    (
        "invalid_key",
        {"status": "ERROR", "request_id": "1", "error": "Unknown API Key"},
        401,
        "ACME",
    ),
    (
        "invalid_key_message",
        {"status": "ERROR", "request_id": "1", "message": "Unknown API Key"},
        401,
        "ACME",
    ),
    (
        "premium",
        {
            "status": "NOT_AUTHORIZED",
            "message": "You are not entitled to this data. Please upgrade your plan.",
        },
        403,
        "ACME",
    ),
    (
        "unknown",
        {"status": "NOT_FOUND", "request_id": "1", "message": "Ticker not found."},
        404,
        "NOPE",
    ),
    (
        "throttled",
        {
            "status": "ERROR",
            "error": "You've exceeded the maximum requests per minute, please wait or upgrade.",
        },
        429,
        "ACME",
    ),
    ("throttled_empty", b"", 429, "ACME"),
    ("no_route", b"404 page not found", 404, "ACME"),
]
