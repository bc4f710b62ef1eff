"""Bodies of the shapes that Coinbase Exchange answers with."""

from __future__ import annotations

from functools import partial

from tests.keyless_bodies.cases import case as any_case

case = partial(any_case, "coinbase", symbols="ABC-USD")

TICKER = {
    "ask": "42.51",
    "bid": "42.49",
    "volume": "1207.50668151",
    "trade_id": 185021,
    "price": "42.5000",
    "size": "0.00730812",
    "time": "2024-03-20T11:10:41.270099Z",
    "rfq_volume": "7.669923",
}
TRADE = {
    "type": "match",
    "trade_id": 990,
    "side": "sell",
    "size": "0.04",
    "price": "14.7775",
    "product_id": "ABC-USD",
    "sequence": 333938798,
    "time": "2024-03-20T16:43:30.244075Z",
}
FEED_TICKER = {
    "type": "ticker",
    "sequence": 333938798,
    "product_id": "ABC-USD",
    "price": "14.7780",
    "best_bid": "14.7550",
    "best_ask": "14.8060",
    "side": "buy",
    "time": "2024-03-20T16:43:30.244075Z",
    "trade_id": 990,
    "last_size": "0.04",
}
MATCH_LINE = "ABC-USD 14.7775 2024-03-20T16:43:30.244075Z microsecond last USD"

CASES = [
    case("ticker", TICKER, "ABC-USD 42.5000 2024-03-20T11:10:41.270099Z microsecond last USD"),
    case(
        "ticker_slash",
        TICKER,
        "ABC/USD 42.5000 2024-03-20T11:10:41.270099Z microsecond last USD",
        symbols="ABC/USD",
    ),
    case(
        "trades",
        [
            {"time": "2024-03-20T11:10:42.1Z", "trade_id": 8, "price": "42.6", "size": "1"},
            {"time": "2024-03-20T11:10:41.2Z", "trade_id": 7, "price": "42.4", "size": "2"},
        ],
        "ABC-USD 42.6 2024-03-20T11:10:42.1Z millisecond last USD",
    ),
    case(
        "candles",
        [[1710943320, 41.5, 43.25, 42, 42.75, 12.5], [1710943260, 40, 42, 41, 41.5, 1e-08]],
        "ABC-USD 42.75 2024-03-20T14:02:00Z second last USD",
        url="https://api.exchange.coinbase.com/products/ABC-USD/candles?granularity=60",
        bars=(
            "ABC-USD 2024-03-20T14:02Z 42 43.25 41.5 42.75",
            "ABC-USD 2024-03-20T14:01Z 41 42 40 41.5",
        ),
    ),
    case("match", TRADE, MATCH_LINE),
    case("match_unasked", TRADE, MATCH_LINE, symbols=""),
    case("last_match", TRADE | {"type": "last_match"}, MATCH_LINE),
    case("feed_ticker", FEED_TICKER, MATCH_LINE.replace("14.7775", "14.7780")),
    case("other_product", TRADE | {"product_id": "XYZ-USD"}, "not_a_price"),
    case("subscriptions", {"type": "subscriptions", "channels": []}, "not_a_price"),
    case("heartbeat", {"type": "heartbeat", "product_id": "ABC-USD"}, "not_a_price"),
    case(
        "feed_error",
        {
            "type": "error",
            "message": "Failed to subscribe",
            "reason": "ABC-USD is not a valid product",
        },
        "unknown_symbol",
    ),
    case("zero", TICKER | {"price": "0"}, "not_a_price"),
    case("not_a_number", TICKER | {"price": "NaN"}, "not_a_price"),
    case("no_time", {"price": "42.5"}, "not_a_price"),
    case("year_one", TICKER | {"time": "0001-01-01T00:00:00+14:00"}, "not_a_price"),
    case("unknown", {"message": "NotFound"}, "unknown_symbol", status=404),
    case("throttled", {"message": "Public rate limit exceeded"}, "rate_limited_burst", status=429),
    case("no_user_agent", {"message": "User-Agent header is required."}, "not_a_price", status=400),
    case("html", b"<html>Bad Gateway</html>", "provider_down", status=502),
    case("empty_list", [], "not_a_price"),
    case("two_lists", [[1710943320], []], "not_a_price"),
]
