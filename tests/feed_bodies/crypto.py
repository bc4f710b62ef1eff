"""Frames of the crypto exchanges' feeds."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.feed_bodies.cases import feed_case

MATCH: dict[str, Any] = {
    "type": "match",
    "trade_id": 990,
    "maker_order_id": "27fff20b",
    "side": "sell",
    "size": "0.04",
    "price": "14.7700",
    "product_id": "ABC-USD",
    "sequence": 333938798,
    "time": "2024-03-20T16:43:30.244075Z",
}
MATCH_LINE = (
    "ABC-USD 14.7700 2024-03-20T16:43:30.244075Z microsecond last USD size=0.04 id=990 #990"
)
_coinbase = partial(feed_case, "coinbase", symbols="ABC-USD,XYZ-USD")
_AGAIN = 'reply {"type": "subscribe", "product_ids": %s, "channels": ["matches", "heartbeat"]}'

COINBASE = [
    _coinbase("match", MATCH, MATCH_LINE),
    _coinbase("last_match", MATCH | {"type": "last_match"}, f"{MATCH_LINE} old"),
    _coinbase("match_twice", (MATCH, MATCH), MATCH_LINE, MATCH_LINE),
    _coinbase("nobodys", MATCH | {"product_id": "OTHER-USD"}, "alive"),
    _coinbase(
        "two_forms",
        MATCH,
        MATCH_LINE.replace("ABC-USD", "ABC/USD"),
        MATCH_LINE,
        symbols="ABC/USD,ABC-USD",
    ),
    _coinbase("ticker", {"type": "ticker", "product_id": "ABC-USD", "price": "14.77"}, "alive"),
    _coinbase(
        "heartbeat",
        {"type": "heartbeat", "sequence": 90, "last_trade_id": 990, "product_id": "ABC-USD"},
        "alive",
    ),
    _coinbase(
        "subscriptions",
        {
            "type": "subscriptions",
            "channels": [
                {"name": "matches", "product_ids": ["XYZ-USD", "ABC-USD"], "account_ids": None},
                {"name": "heartbeat", "product_ids": ["ABC-USD", "XYZ-USD"]},
            ],
        },
        "subscribed XYZ-USD ABC-USD",
    ),
    _coinbase("subscriptions_of_none", {"type": "subscriptions", "channels": []}, "alive"),
    _coinbase(
        "bad_symbol",
        {
            "type": "error",
            "message": "Failed to subscribe",
            "reason": "XYZ-USD is not a valid product",
        },
        "refused XYZ-USD unknown_symbol",
        _AGAIN % '["ABC-USD"]',
    ),
    _coinbase(
        "only_bad_symbol",
        {
            "type": "error",
            "message": "Failed to subscribe",
            "reason": "NOPE-USD is not a valid product",
        },
        "refused NOPE/USD unknown_symbol",
        "refused NOPE-USD unknown_symbol",
        symbols="NOPE/USD,NOPE-USD",
    ),
    _coinbase(
        "too_fast",
        {"type": "error", "message": "Too Many Requests", "reason": "rate limit exceeded"},
        "ended rate_limited_burst again after 1",
    ),
    _coinbase(
        "error_of_all",
        {"type": "error", "message": "Failed to subscribe", "reason": "user not authenticated"},
        "ended provider_down again after 30",
    ),
    _coinbase("no_number", {k: v for k, v in MATCH.items() if k != "trade_id"}, "unreadable"),
    _coinbase("text_number", MATCH | {"trade_id": "990"}, "unreadable"),
    _coinbase("no_price", MATCH | {"price": None}, "unreadable"),
    _coinbase("zero", MATCH | {"price": "0"}, "unreadable"),
    _coinbase("no_time", MATCH | {"time": "yesterday"}, "unreadable"),
    _coinbase("no_product", MATCH | {"product_id": None}, "unreadable"),
    _coinbase("other_kind", {"type": "received"}, "unreadable"),
    _coinbase("no_json", b"Internal Server Error", "unreadable"),
    _coinbase("empty", b"", "unreadable"),
    _coinbase("list", [MATCH], "unreadable"),
]

TRADE: dict[str, Any] = {
    "e": "trade",
    "E": 1710943329799,
    "s": "ABCUSDT",
    "t": 12345,
    "p": "0.00100000",
    "q": "100",
    "T": 1710943329722,
    "m": True,
    "M": True,
}
_TRADE_LINE = "ABCUSDT 0.00100000 2024-03-20T14:02:09.722Z millisecond last USDT size=100 id=12345"
_binance = partial(feed_case, "binance", symbols="ABCUSDT,XYZUSDT")

BINANCE = [
    _binance("trade", {"stream": "abcusdt@trade", "data": TRADE}, f"{_TRADE_LINE} #12345"),
    _binance("raw_trade", TRADE, f"{_TRADE_LINE} #12345"),
    _binance(
        "two_forms",
        {"stream": "abcusdt@trade", "data": TRADE},
        f"{_TRADE_LINE.replace('ABCUSDT', 'ABC-USDT')} #12345",
        f"{_TRADE_LINE} #12345",
        symbols="ABC-USDT,ABCUSDT",
    ),
    _binance("nobodys", {"stream": "x@trade", "data": TRADE | {"s": "NOUSDT"}}, "alive"),
    _binance("subscribed", {"result": None, "id": 1}, "subscribed ABCUSDT XYZUSDT"),
    _binance("unsubscribed", {"result": None, "id": 7}, "alive"),
    _binance(
        "refused",
        {"code": 2, "msg": "Invalid request: unknown variant", "id": 1},
        "ended provider_down again after 30",
    ),
    _binance(
        "refused_inside",
        {"error": {"code": -1003, "msg": "Too many requests"}, "id": 1},
        "ended rate_limited again after 60",
    ),
    _binance(
        "banned",
        {"code": -1003, "msg": "Way too much request weight used; IP banned until 1782923220000."},
        "ended banned again after 400",
    ),
    _binance(
        "shutdown",
        {"stream": "", "data": {"e": "serverShutdown", "E": 1710943329722}},
        "ended provider_down again after 1",
    ),
    _binance("no_number", TRADE | {"t": None}, "unreadable"),
    _binance("no_price", TRADE | {"p": ""}, "unreadable"),
    _binance("seconds", TRADE | {"T": 1710943329}, "unreadable"),
    _binance("other_kind", TRADE | {"e": "aggTrade"}, "unreadable"),
    _binance("number", b"17", "unreadable"),
]

_TRADES: dict[str, Any] = {
    "channel": "trade",
    "type": "update",
    "data": [
        {
            "symbol": "BTC/USD",
            "side": "sell",
            "price": 105899.4,
            "qty": 0.5,
            "ord_type": "market",
            "trade_id": 71,
            "timestamp": "2024-03-20T14:02:09.722539Z",
        },
        {
            "symbol": "ETH/USD",
            "price": 2001,
            "qty": 3,
            "trade_id": 9,
            "timestamp": "2024-03-20T14:02:09.9Z",
        },
    ],
}
_BTC = "105899.4 2024-03-20T14:02:09.722539Z microsecond last USD size=0.5 id=71 #71"
_ETH = "ETH-USD 2001 2024-03-20T14:02:09.9Z millisecond last USD size=3 id=9 #9"
_kraken = partial(feed_case, "kraken", symbols="XBTUSD,ETH-USD")

KRAKEN = [
    _kraken("trades", _TRADES, f"XBTUSD {_BTC}", _ETH),
    _kraken("snapshot", _TRADES | {"type": "snapshot"}, f"{_ETH} old", f"XBTUSD {_BTC} old"),
    _kraken("two_forms", _TRADES, f"XBTUSD {_BTC}", f"BTC/USD {_BTC}", symbols="XBTUSD,BTC/USD"),
    _kraken(
        "exact_digits",
        b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","price":105899.4000,'
        b'"qty":1.0E-8,"trade_id":71,"timestamp":"2024-03-20T14:02:09.722539Z"}]}',
        f"XBTUSD {_BTC}".replace("105899.4", "105899.4000").replace("=0.5", "=0.000000010"),
    ),
    _kraken(
        "snapshot_backwards",
        _TRADES
        | {"type": "snapshot", "data": [{**_TRADES["data"][0], "trade_id": 72}, *_TRADES["data"]]},
        f"{_ETH} old",
        f"XBTUSD {_BTC} old",
        f"XBTUSD {_BTC} old".replace("71", "72"),
    ),
    _kraken("nobodys", _TRADES, "alive", symbols="XRP/USD"),
    _kraken(
        "one_is_bad",
        _TRADES | {"data": [_TRADES["data"][0] | {"price": -1}, _TRADES["data"][1], None]},
        "unreadable",
        _ETH,
        "unreadable",
    ),
    _kraken("heartbeat", {"channel": "heartbeat"}, "alive"),
    _kraken(
        "status",
        {"channel": "status", "type": "update", "data": [{"system": "online"}]},
        "alive",
    ),
    _kraken(
        "subscribed",
        {
            "method": "subscribe",
            "result": {"channel": "trade", "snapshot": True, "symbol": "BTC/USD"},
            "success": True,
        },
        "subscribed XBTUSD",
    ),
    _kraken("unsubscribed", {"method": "unsubscribe", "success": True, "result": {}}, "alive"),
    _kraken("pong", {"method": "pong", "time_in": "2024-03-20T14:02:09.9Z"}, "alive"),
    _kraken(
        "bad_symbol",
        {
            "error": "Currency pair not supported ETH/USD",
            "method": "subscribe",
            "success": False,
            "symbol": "ETH/USD",
        },
        "refused ETH-USD unknown_symbol",
    ),
    _kraken(
        "too_fast",
        {"error": "EGeneral:Too many requests", "method": "subscribe", "success": False},
        "ended rate_limited again after 60",
    ),
    _kraken(
        "error_of_all",
        {"error": "Malformed request", "method": "subscribe", "success": False},
        "ended provider_down again after 30",
    ),
    _kraken("no_data", {"channel": "trade", "type": "update"}, "unreadable"),
    _kraken("other_channel", {"channel": "book", "data": []}, "unreadable"),
    _kraken("version_1", [336, [["5541.2"]], "trade", "XBT/USD"], "unreadable"),
]

CASES = [*COINBASE, *BINANCE, *KRAKEN]
