"""Frames of the stock vendors' feeds."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.feed_bodies.cases import feed_case
from tests.stock_outcomes import SECRET

_finnhub = partial(feed_case, "finnhub", symbols="ACME,BRK-B,BTC-USD,EUR/USD,BTC/USDT,^SPX")
_TRADES: dict[str, Any] = {
    "type": "trade",
    "data": [
        {"p": 42.7, "s": "ACME", "t": 1710943329722, "v": 10},
        {"p": 410.25, "s": "BRK.B", "t": 1710943329723, "v": 1, "c": ["1"]},
        {"p": 42.7, "s": "ACME", "t": 1710943329722, "v": 10},
    ],
}
_ACME = "ACME 42.7 2024-03-20T14:02:09.722Z millisecond last size=10"
_PAIRS = ("COINBASE:BTC-USD", "OANDA:EUR_USD", "BINANCE:BTCUSDT")

FINNHUB = [
    _finnhub(
        "trades",
        _TRADES,
        _ACME,
        "BRK-B 410.25 2024-03-20T14:02:09.723Z millisecond last size=1",
        _ACME,
    ),
    _finnhub(
        "pairs",
        {
            "type": "trade",
            "data": [{"p": 1.25, "s": one, "t": 1710943329722, "v": 0} for one in _PAIRS],
        },
        "BTC-USD 1.25 2024-03-20T14:02:09.722Z millisecond last USD size=0",
        "EUR/USD 1.25 2024-03-20T14:02:09.722Z millisecond last USD size=0",
        "BTC/USDT 1.25 2024-03-20T14:02:09.722Z millisecond last USDT size=0",
    ),
    _finnhub(
        "two_forms",
        {"type": "trade", "data": [_TRADES["data"][1]]},
        "BRK-B 410.25 2024-03-20T14:02:09.723Z millisecond last size=1",
        "BRK.B 410.25 2024-03-20T14:02:09.723Z millisecond last size=1",
        symbols="BRK-B,BRK.B",
    ),
    _finnhub(
        "one_is_bad",
        _TRADES | {"data": [{"p": 0, "s": "ACME", "t": 1710943329722}, 7, _TRADES["data"][0]]},
        "unreadable",
        "unreadable",
        _ACME,
    ),
    _finnhub("ping", {"type": "ping"}, "alive"),
    _finnhub(
        "bad_symbol",
        {"type": "error", "msg": "Invalid symbol OANDA:EUR_USD"},
        "refused EUR/USD unknown_symbol",
    ),
    _finnhub(
        "too_many_symbols",
        {"type": "error", "msg": "Subscribing to too many symbols"},
        "ended premium_required for good",
    ),
    _finnhub(
        "bad_key",
        {"type": "error", "msg": f"Invalid API key {SECRET}"},
        "ended invalid_key for good",
    ),
    _finnhub("no_data", {"type": "trade", "data": None}, "unreadable"),
    _finnhub("other_kind", {"type": "news", "data": []}, "unreadable"),
]

_alpaca = partial(feed_case, "alpaca", symbols="ACME,BRK-B")
_SHARE: dict[str, Any] = {
    "T": "t",
    "S": "ACME",
    "i": 52983525029461,
    "x": "V",
    "p": 42.25,
    "s": 100,
    "c": ["@"],
    "z": "C",
    "t": "2024-03-20T14:02:09.722539521Z",
}
_AT = "2024-03-20T14:02:09.722539521Z nanosecond"
_AUTH = f'reply {{"action": "auth", "key": "{SECRET}", "secret": "secret-of-{SECRET}"}}'

ALPACA = [
    _alpaca(
        "trades",
        [_SHARE, _SHARE | {"S": "BRK.B", "i": 7, "x": "D"}],
        f"ACME 42.25 {_AT} last V size=100 id=52983525029461",
        f"BRK-B 42.25 {_AT} last D size=100 id=7",
    ),
    _alpaca(
        "delayed",
        [_SHARE],
        f"ACME 42.25 {_AT} delayed V size=100 id=52983525029461",
        url="wss://stream.data.alpaca.markets/v2/delayed_sip",
    ),
    _alpaca(
        "coins",
        [_SHARE | {"S": "BTC/USD", "i": 3, "tks": "B", "x": None}],
        f"BTC-USD 42.25 {_AT} last USD size=100 id=3",
        f"BTC/USD 42.25 {_AT} last USD size=100 id=3",
        symbols="BTC-USD,BTC/USD",
        url="wss://stream.data.alpaca.markets/v1beta3/crypto/us",
    ),
    _alpaca(
        "one_is_bad",
        [_SHARE | {"p": "x"}, _SHARE | {"t": None}, _SHARE],
        "unreadable",
        "unreadable",
        f"ACME 42.25 {_AT} last V size=100 id=52983525029461",
    ),
    _alpaca("nobodys", [_SHARE | {"S": "OTHER"}], "alive"),
    _alpaca("correction", [{"T": "c", "S": "ACME", "cp": 42.3}, {"T": "x", "S": "ACME"}], "alive"),
    _alpaca("connected", [{"T": "success", "msg": "connected"}], _AUTH),
    _alpaca("authenticated", [{"T": "success", "msg": "authenticated"}], "ready"),
    _alpaca(
        "subscription",
        [{"T": "subscription", "trades": ["ACME", "BRK.B"], "quotes": [], "bars": []}],
        "subscribed ACME BRK-B",
    ),
    _alpaca(
        "bad_key",
        [{"T": "error", "code": 402, "msg": f"auth failed for {SECRET}"}],
        "ended invalid_key for good",
    ),
    _alpaca(
        "not_authenticated",
        [{"T": "error", "code": 401, "msg": "not authenticated"}],
        "ended invalid_key for good",
    ),
    _alpaca("twice", [{"T": "error", "code": 403, "msg": "already authenticated"}], "alive"),
    _alpaca(
        "too_late",
        [{"T": "error", "code": 404, "msg": "auth timeout"}],
        "ended provider_down again after 30",
    ),
    _alpaca(
        "symbol_limit",
        [{"T": "error", "code": 405, "msg": "symbol limit exceeded"}],
        "refused ACME premium_required",
        "refused BRK-B premium_required",
    ),
    _alpaca(
        "symbol_limit_after_the_answer",
        (
            [{"T": "subscription", "trades": ["ACME", "BRK.B"]}],
            [{"T": "error", "code": 405, "msg": "symbol limit exceeded"}],
        ),
        "subscribed ACME BRK-B",
        "ended premium_required for good",
    ),
    _alpaca(
        "connection_limit",
        [{"T": "error", "code": 406, "msg": "connection limit exceeded"}],
        "ended rate_limited again after 10",
    ),
    _alpaca(
        "slow_client",
        [{"T": "error", "code": 407, "msg": "slow client"}],
        "ended provider_down again after 30",
    ),
    _alpaca(
        "plan",
        [{"T": "error", "code": 409, "msg": "insufficient subscription"}],
        "ended premium_required for good",
    ),
    _alpaca(
        "internal",
        [{"T": "error", "code": 500, "msg": "internal error"}],
        "ended provider_down again after 30",
    ),
    _alpaca("no_list", {"T": "t"}, "unreadable"),
    _alpaca("other_kind", [{"T": "zz"}], "unreadable"),
    _alpaca("empty", [], "alive"),
]

_twelve = partial(feed_case, "twelve_data", symbols="ACME,BRK-B,EUR/USD,^SPX,VOD:LSE")
_PRICE: dict[str, Any] = {
    "event": "price",
    "symbol": "ACME",
    "currency": "USD",
    "exchange": "NASDAQ",
    "mic_code": "XNGS",
    "type": "Common Stock",
    "timestamp": 1710943329,
    "price": 42.25,
}
_FX = {"event": "price", "symbol": "EUR/USD", "timestamp": 1710943329, "price": 1.0801}
_SECOND = "2024-03-20T14:02:09Z second last"

TWELVE_DATA = [
    _twelve("price", _PRICE, f"ACME 42.25 {_SECOND} USD NASDAQ"),
    _twelve("class_share", _PRICE | {"symbol": "BRK.B"}, f"BRK-B 42.25 {_SECOND} USD NASDAQ"),
    _twelve("index", _PRICE | {"symbol": "SPX"}, f"^SPX 42.25 {_SECOND} USD NASDAQ"),
    _twelve("pair", _FX | {"bid": 1.08, "ask": 1.0802}, f"EUR/USD 1.0801 {_SECOND} USD"),
    _twelve(
        "two_exchanges",
        (
            _PRICE | {"symbol": "VOD", "exchange": "LSE", "mic_code": "XLON", "currency": "GBp"},
            _PRICE | {"symbol": "VOD"},
        ),
        f"VOD:LSE 42.25 {_SECOND} GBp LSE",
        f"VOD 42.25 {_SECOND} USD NASDAQ",
        symbols="VOD,VOD:LSE",
    ),
    _twelve("other_exchange", _PRICE | {"symbol": "VOD"}, "alive"),
    _twelve("heartbeat", {"event": "heartbeat", "status": "ok"}, "alive"),
    _twelve(
        "subscribed",
        {
            "event": "subscribe-status",
            "status": "ok",
            "success": [
                {"symbol": "ACME", "exchange": "NASDAQ", "type": "Common Stock"},
                {"symbol": "VOD", "exchange": "LSE"},
                {"symbol": "EUR/USD", "exchange": "FOREX", "type": "Physical Currency"},
            ],
            "fails": [],
        },
        "subscribed ACME VOD:LSE EUR/USD",
    ),
    _twelve(
        "bad_symbols",
        {
            "event": "subscribe-status",
            "status": "warning",
            "success": [{"symbol": "ACME", "exchange": "NASDAQ"}],
            "fails": [
                {"symbol": "VOD", "exchange": "LSE", "message": "You are not authorized for LSE."},
                {"symbol": "BRK.B"},
                {"symbol": "OTHER", "message": "not found"},
            ],
        },
        "subscribed ACME",
        "refused VOD:LSE premium_required",
        "refused BRK-B unknown_symbol",
        "unreadable",
    ),
    _twelve(
        "all_bad",
        {
            "event": "subscribe-status",
            "status": "error",
            "success": None,
            "fails": [{"symbol": "ACME"}],
        },
        "refused ACME unknown_symbol",
    ),
    _twelve(
        "not_understood",
        {"event": "subscribe-status", "status": "error", "messages": [f"Cant parse {SECRET}"]},
        "ended provider_down again after 30",
    ),
    _twelve(
        "bad_key",
        {"code": 401, "status": "error", "message": f"**apikey** {SECRET} is incorrect"},
        "ended invalid_key for good",
    ),
    _twelve(
        "no_plan",
        {"code": 403, "status": "error", "message": "available starting with Pro. Upgrade now"},
        "ended premium_required for good",
    ),
    _twelve("unsubscribed", {"event": "unsubscribe-status", "status": "ok"}, "alive"),
    _twelve("no_price", _PRICE | {"price": None}, "unreadable"),
    _twelve("no_symbol", _PRICE | {"symbol": None}, "unreadable"),
    _twelve("milliseconds", _PRICE | {"timestamp": 1710943329722 * 1000}, "unreadable"),
    _twelve("other_kind", {"event": "news"}, "unreadable"),
]

_massive = partial(feed_case, "massive", symbols="ACME,BRK-B")
_EVENT: dict[str, Any] = {
    "ev": "T",
    "sym": "ACME",
    "p": 42.25,
    "s": 300,
    "t": 1710943329722,
    "x": 10,
    "i": "5096",
    "c": [14, 41],
    "q": 3681,
    "z": 3,
}
_MILLI = "2024-03-20T14:02:09.722Z millisecond"
_TOO_MANY = "Maximum number of websocket connections exceeded."


def _status(status: str, message: str = "") -> list[dict[str, str]]:
    return [{"ev": "status", "status": status, "message": message}]


MASSIVE = [
    _massive(
        "trades",
        [_EVENT, _EVENT | {"sym": "BRK.B", "i": "7", "c": None}],
        f"ACME 42.25 {_MILLI} last 10 size=300 id=5096",
        f"BRK-B 42.25 {_MILLI} last 10 size=300 id=7",
    ),
    _massive(
        "delayed",
        [_EVENT],
        f"ACME 42.25 {_MILLI} delayed 10 size=300 id=5096",
        url="wss://delayed.massive.com/stocks",
    ),
    _massive(
        "coins",
        [
            {
                "ev": "XT",
                "pair": "BTC-USD",
                "p": 33021.9,
                "s": 0.01,
                "t": 1710943329722,
                "x": 1,
                "i": "90",
            }
        ],
        f"BTC/USD 33021.9 {_MILLI} last USD 1 size=0.01 id=90",
        f"X:BTCUSD 33021.9 {_MILLI} last 1 size=0.01 id=90",
        symbols="BTC/USD,X:BTCUSD",
        url="wss://socket.massive.com/crypto",
    ),
    _massive(
        "money",
        [{"ev": "C", "p": "EUR/USD", "x": 44, "a": 1.0802, "b": 1.08, "t": 1710943329722}],
        f"EURUSD=X 1.0801 {_MILLI} mid USD",
        symbols="EURUSD=X",
        url="wss://socket.massive.com/forex",
    ),
    _massive(
        "index",
        [{"ev": "V", "T": "I:SPX", "val": 3988.5, "t": 1710943329722}],
        f"^GSPC 3988.5 {_MILLI} last",
        symbols="^GSPC",
        url="wss://socket.massive.com/indices",
    ),
    _massive(
        "one_is_bad",
        [_EVENT | {"p": None}, _EVENT | {"t": 1710943329}, _EVENT],
        "unreadable",
        "unreadable",
        f"ACME 42.25 {_MILLI} last 10 size=300 id=5096",
    ),
    _massive("nobodys", [_EVENT | {"sym": "acme"}], "alive"),
    _massive(
        "connected",
        _status("connected", "Connected Successfully"),
        f'reply {{"action": "auth", "params": "{SECRET}"}}',
    ),
    _massive("authenticated", _status("auth_success", "authenticated"), "ready"),
    _massive(
        "subscribed",
        [*_status("success", "subscribed to: T.ACME"), *_status("success", "subscribed to: T.NO")],
        "subscribed ACME",
    ),
    _massive("unsubscribed", _status("success", "unsubscribed to: T.ACME"), "alive"),
    _massive(
        "bad_key",
        _status("auth_failed", f"authentication failed for {SECRET}"),
        "ended invalid_key for good",
    ),
    _massive(
        "no_plan",
        _status("auth_failed", "Your plan doesn't include websocket access."),
        "ended premium_required for good",
    ),
    _massive(
        "too_late", _status("auth_timeout", "No request"), "ended provider_down again after 30"
    ),
    _massive(
        "bad_symbol",
        _status("error", "not authorized for T.BRK.B"),
        "refused BRK-B premium_required",
    ),
    _massive(
        "connection_limit",
        _status("max_connections", _TOO_MANY),
        "ended rate_limited again after 60",
    ),
    _massive(
        "slow_client",
        _status("disconnected", "slow consumer"),
        "ended provider_down again after 30",
    ),
    _massive("no_list", {"ev": "T"}, "unreadable"),
    _massive("other_kind", [{"ev": "LULD"}], "unreadable"),
]

CASES = [*FINNHUB, *ALPACA, *TWELVE_DATA, *MASSIVE]
