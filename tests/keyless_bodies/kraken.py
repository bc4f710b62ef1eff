"""Bodies of the shapes that Kraken answers with."""

from __future__ import annotations

from functools import partial

from tests.keyless_bodies.cases import case as any_case

case = partial(any_case, "kraken", symbols="XBTUSD")

TICKER = {
    "a": ["42510.10000", "1", "1.000"],
    "b": ["42510.00000", "1", "1.000"],
    "c": ["42499.40000", "0.00009443"],
    "v": ["0.78648221", "163.28908096"],
    "p": ["42500.64756", "42504.39279"],
    "t": [35, 3276],
    "l": ["42453.50000", "42411.00000"],
    "h": ["42612.00000", "42613.10000"],
    "o": "42521.60000",
}
LINE = "XBTUSD 42499.40000 none last USD"
OLD_TRADE = ["42499.40000", "0.00009443", 1710943335.9822, "s", "m", ""]
TRADE_LINE = "XBTUSD 42499.40000 2024-03-20T14:02:15.9822779Z nanosecond last USD"


def answered(result: object, *warnings: str) -> dict[str, object]:
    return {"error": list(warnings), "result": result}


def refused(*errors: str) -> dict[str, object]:
    return {"error": list(errors)}


def frame(channel: str, *data: object) -> dict[str, object]:
    return {"channel": channel, "type": "update", "data": list(data)}


CASES = [
    case("ticker", answered({"XXBTZUSD": TICKER}), LINE),
    case(
        "ticker_unasked",
        answered({"XBTUSDT": TICKER}),
        "XBTUSDT 42499.40000 none last USDT",
        symbols="",
    ),
    case(
        "ticker_slash",
        answered({"XXBTZUSD": TICKER}),
        "BTC/USD 42499.40000 none last USD",
        symbols="BTC/USD",
    ),
    case(
        "tickers",
        answered({"XXBTZUSD": TICKER, "XETHZEUR": TICKER, "XDGUSD": TICKER}),
        "BTC-USD 42499.40000 none last USD",
        "ETH/EUR 42499.40000 none last EUR",
        "DOGE/USD 42499.40000 none last USD",
        symbols="BTC-USD,ETH/EUR,DOGE/USD",
    ),
    case("warned", answered({"XXBTZUSD": TICKER}, "WGeneral:Danger"), LINE),
    case("other_pair", answered({"XETHZUSD": TICKER}), "not_a_price"),
    case(
        "trades",
        answered({"XXBTZUSD": [OLD_TRADE, ["1", "2", 3]], "last": "1710943335982277900"}),
        "not_a_price",
    ),
    case(
        "trades_old",
        answered({"XXBTZUSD": [["1.0", "1", 1710943330.1, "b", "l", ""], OLD_TRADE], "last": "17"}),
        "XBTUSD 42499.40000 2024-03-20T14:02:15.9822Z microsecond last USD",
    ),
    case(
        "trades_new",
        b'{"error":[],"result":{"XXBTZUSD":[["42499.40000","0.00009443",1710943335.9822779,"s","m",'
        b'"",10219207]],"last":"1710943335982277900"}}',
        TRADE_LINE,
    ),
    case(
        "bars",
        answered(
            {
                "XXBTZUSD": [
                    [1710943260, "42.1", "42.3", "42.0", "42.2", "42.15", "9.2", 7],
                    [1710943320, "42.2", "42.4", "42.1", "42.3", "42.25", "1.5", 3],
                ],
                "last": 1710943260,
            }
        ),
        "XBTUSD 42.3 2024-03-20T14:02:00Z second last USD",
        url="https://api.kraken.com/0/public/OHLC?pair=XBTUSD&interval=1",
        bars=(
            "XBTUSD 2024-03-20T14:01Z 42.1 42.3 42.0 42.2",
            "XBTUSD 2024-03-20T14:02Z 42.2 42.4 42.1 42.3",
        ),
    ),
    case(
        "feed_ticker",
        frame("ticker", {"symbol": "BTC/USD", "bid": 42.1, "ask": 42.3, "last": 42.25}),
        "XBTUSD 42.25 none last USD",
    ),
    case(
        "feed_ticker_with_time",
        frame(
            "ticker", {"symbol": "BTC/USD", "last": 42.25, "timestamp": "2024-03-20T14:02:15.98Z"}
        ),
        "XBTUSD 42.25 2024-03-20T14:02:15.98Z millisecond last USD",
    ),
    case(
        "feed_trades",
        frame(
            "trade",
            {
                "symbol": "BTC/USD",
                "side": "sell",
                "price": 42.5,
                "qty": 0.1,
                "ord_type": "market",
                "trade_id": 4665846,
                "timestamp": "2024-03-20T07:48:36.925533Z",
            },
        ),
        "XBTUSD 42.5 2024-03-20T07:48:36.925533Z microsecond last USD",
    ),
    case(
        "feed_bar",
        frame(
            "ohlc",
            {
                "symbol": "BTC/USD",
                "open": 42.1,
                "high": 42.4,
                "low": 42,
                "close": 42.2,
                "volume": 3.5,
                "interval_begin": "2024-03-20T14:02:00.000000000Z",
                "interval": 1,
            },
        ),
        "XBTUSD 42.2 2024-03-20T14:02:00Z nanosecond last USD",
        bars=("XBTUSD 2024-03-20T14:02Z 42.1 42.4 42 42.2",),
    ),
    case("feed_heartbeat", {"channel": "heartbeat"}, "not_a_price"),
    case("feed_status", {"channel": "status", "data": [{"system": "online"}]}, "not_a_price"),
    case(
        "feed_refused",
        {"method": "subscribe", "success": False, "error": "Currency pair not supported X/Y"},
        "unknown_symbol",
    ),
    case(
        "feed_subscribed",
        {"method": "subscribe", "success": True, "result": {"channel": "ticker"}},
        "not_a_price",
    ),
    case(
        "old_feed_ticker",
        [340, {"c": ["42.5", "1"], "b": ["42", 1]}, "ticker", "XBT/USD"],
        "XBTUSD 42.5 none last USD",
    ),
    case(
        "old_feed_trades",
        [337, [["42.5", "0.1", "1710943335.982277", "s", "l", ""]], "trade", "XBT/USD"],
        "XBTUSD 42.5 2024-03-20T14:02:15.982277Z microsecond last USD",
    ),
    case(
        "old_feed_bar",
        [
            42,
            ["1710943335.98", "1710943380.000000", "42", "43", "41", "42.5", "42.1", "7", 2],
            "ohlc-1",
            "XBT/USD",
        ],
        "XBTUSD 42.5 2024-03-20T14:02:00Z microsecond last USD",
        bars=("XBTUSD 2024-03-20T14:02Z 42 43 41 42.5",),
    ),
    case("old_feed_spread", [341, ["42", "43", "1710943335"], "spread", "XBT/USD"], "not_a_price"),
    case(
        "old_feed_refused",
        {"errorMessage": "Currency pair not in ISO 4217-A3 format X/Y", "status": "error"},
        "unknown_symbol",
    ),
    case("unknown", refused("EQuery:Unknown asset pair"), "unknown_symbol"),
    case("arguments", refused("EGeneral:Invalid arguments"), "not_a_price"),
    case("throttled", refused("EGeneral:Too many requests"), "rate_limited"),
    case("throttled_429", refused("EGeneral:Too many requests"), "rate_limited", status=429),
    case("throttled_api", refused("EAPI:Rate limit exceeded"), "rate_limited"),
    case("locked_out", refused("EGeneral:Temporary lockout"), "banned"),
    case("unavailable", refused("EService:Unavailable"), "provider_down"),
    case("busy", refused("EService:Busy"), "provider_down"),
    case("edge", b"<html>520</html>", "provider_down", status=520),
    case("zero", answered({"XXBTZUSD": {"c": ["0.0", "1"]}}), "not_a_price"),
    case("empty", answered({}), "unknown_symbol"),
    case("nothing", {}, "not_a_price"),
]
