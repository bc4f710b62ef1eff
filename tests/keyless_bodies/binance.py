"""Bodies of the shapes that Binance answers with."""

from __future__ import annotations

from functools import partial

from tests.keyless_bodies.cases import case as any_case

case = partial(any_case, "binance", symbols="ABCUSDT")

KLINE = [1710943320000, "42.00", "43.25", "41.50", "42.75", "12.5", 1710943379999, "9", 3, "1", "1"]
DAY = {
    "symbol": "ABCUSDT",
    "lastPrice": "42.50000000",
    "lastQty": "3.00000000",
    "bidPrice": "42.49000000",
    "askPrice": "42.51000000",
    "openPrice": "41.00000000",
    "openTime": 1710856929722,
    "closeTime": 1710943329722,
}
TRADE = {
    "e": "trade",
    "E": 1710943329725,
    "s": "ABCUSDT",
    "t": 12345,
    "p": "42.50000000",
    "q": "100.00000000",
    "T": 1710943329722,
    "m": True,
}
LINE = "ABCUSDT 42.50000000 2024-03-20T14:02:09.722Z millisecond last USDT"

CASES = [
    case(
        "price", {"symbol": "ABCUSDT", "price": "42.50000000"}, "ABCUSDT 42.50000000 none last USDT"
    ),
    case(
        "price_slash",
        {"symbol": "ABCUSDT", "price": "42.50000000"},
        "ABC/USDT 42.50000000 none last USDT",
        symbols="ABC/USDT",
    ),
    case(
        "prices",
        [{"symbol": "ABCUSDT", "price": "42.5"}, {"symbol": "XYZBTC", "price": "0.00010000"}],
        "ABCUSDT 42.5 none last USDT",
        "XYZ-BTC 0.00010000 none last BTC",
        symbols="ABCUSDT,XYZ-BTC",
    ),
    case(
        "prices_with_a_hole",
        [{"symbol": "ABCUSDT", "price": "42.5"}, {"symbol": "OTHERBTC", "price": "1"}],
        "ABCUSDT 42.5 none last USDT",
        "XYZ-BTC unknown_symbol",
        symbols="ABCUSDT,XYZ-BTC",
    ),
    case("day", DAY, LINE),
    case(
        "book",
        {"symbol": "ABCUSDT", "bidPrice": "42.49000000", "bidQty": "1", "askPrice": "42.51000000"},
        "ABCUSDT 42.50000000 none mid USDT",
    ),
    case(
        "trades",
        [
            {"id": 1, "price": "41.1", "qty": "1", "time": 1710943329700, "isBuyerMaker": True},
            {"id": 2, "price": "42.5", "qty": "2", "time": 1710943329722, "isBuyerMaker": False},
        ],
        LINE.replace("42.50000000", "42.5"),
    ),
    case(
        "aggregates",
        [{"a": 26129, "p": "42.5", "q": "4.7", "f": 2, "l": 2, "T": 1710943329722, "m": True}],
        LINE.replace("42.50000000", "42.5"),
    ),
    case(
        "klines",
        [KLINE, [1710943380000, *KLINE[1:]]],
        "ABCUSDT 42.75 2024-03-20T14:03:00Z millisecond last USDT",
        bars=(
            "ABCUSDT 2024-03-20T14:02Z 42.00 43.25 41.50 42.75",
            "ABCUSDT 2024-03-20T14:03Z 42.00 43.25 41.50 42.75",
        ),
    ),
    case("frame_trade", TRADE, LINE),
    case("frame_trade_unasked", TRADE, LINE, symbols=""),
    case("frame_aggregate", TRADE | {"e": "aggTrade", "a": 5}, LINE),
    case("frame_combined", {"stream": "abcusdt@trade", "data": TRADE}, LINE),
    case(
        "frame_day",
        {"e": "24hrTicker", "E": 1710943329722, "s": "ABCUSDT", "c": "42.50000000", "b": "1"},
        LINE,
    ),
    case(
        "frame_kline",
        {
            "e": "kline",
            "E": 1710943329722,
            "s": "ABCUSDT",
            "k": {
                "t": 1710943320000,
                "T": 1710943379999,
                "s": "ABCUSDT",
                "i": "1m",
                "o": "42",
                "c": "42.75",
                "h": "43",
                "l": "41",
                "v": "10",
                "x": False,
            },
        },
        "ABCUSDT 42.75 2024-03-20T14:02:00Z millisecond last USDT",
        bars=("ABCUSDT 2024-03-20T14:02Z 42 43 41 42.75",),
    ),
    case(
        "frame_book",
        {"u": 400900217, "s": "ABCUSDT", "b": "42.49", "B": "31", "a": "42.51", "A": "40"},
        "ABCUSDT 42.50 none mid USDT",
    ),
    case("crossed", {"u": 1, "s": "ABCUSDT", "b": "43", "B": "31", "a": "42"}, "not_a_price"),
    case("subscribed", {"result": None, "id": 1}, "not_a_price"),
    case("shutdown", {"e": "serverShutdown", "E": 1710943329722}, "not_a_price"),
    case(
        "true_dollars",
        {"symbol": "BTCTUSD", "price": "42.5"},
        "BTC-TUSD 42.5 none last TUSD",
        symbols="BTC-TUSD",
    ),
    case("other", {"symbol": "XYZUSDT", "price": "42.5"}, "not_a_price"),
    case("average", {"mins": 5, "price": "42.5", "closeTime": 1710943329722}, "not_a_price"),
    case("zero", {"symbol": "ABCUSDT", "price": "0.00000000"}, "not_a_price"),
    case("no_trades", [], "not_a_price"),
    case("unknown", {"code": -1121, "msg": "Invalid symbol."}, "unknown_symbol", status=400),
    case("unknown_with_200", {"code": -1121, "msg": "Invalid symbol."}, "unknown_symbol"),
    case(
        "illegal",
        {"code": -1100, "msg": "Illegal characters found in parameter 'symbol'; legal range is X"},
        "unknown_symbol",
        status=400,
    ),
    case(
        "throttled",
        {"code": -1003, "msg": "Too much request weight used; current limit is 6000 per 1 MINUTE."},
        "rate_limited_minute",
        status=429,
    ),
    case("throttled_empty", b"", "rate_limited", status=429),
    case(
        "banned",
        {"code": -1003, "msg": "Way too much request weight used; IP banned until 1782923420000."},
        "banned",
        status=418,
    ),
    case("banned_without_words", b"", "banned", status=418),
    case("firewall", b"<html>403 Forbidden</html>", "banned", status=403),
    case(
        "region",
        {"code": 0, "msg": "Service unavailable from a restricted location according to 'b.'"},
        "region_refused",
        status=451,
    ),
    case(
        "overloaded", {"code": -1008, "msg": "Server is overloaded."}, "provider_down", status=503
    ),
    case("bad_key", {"code": -2014, "msg": "API-key format invalid."}, "invalid_key", status=401),
]
