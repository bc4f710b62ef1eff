"""Bodies of the shapes that Tiingo answers with; `tests.provider_bodies_stocks` gathers them."""

from __future__ import annotations

_IEX = {
    "ticker": "ACME",
    "timestamp": "2024-06-24T10:28:57.053159184-04:00",
    "lastSaleTimestamp": "2024-06-24T10:28:55.5-04:00",
    "quoteTimestamp": "2024-06-24T10:28:57.053159184-04:00",
    "last": 42.37,
    "lastSize": 100,
    "tngoLast": 42.33,
    "mid": 42.4,
    "bidPrice": 42.3,
    "askPrice": 42.5,
}
_CLOSED = _IEX | {
    "timestamp": "2024-06-24T20:00:00+00:00",
    "lastSaleTimestamp": None,
    "last": None,
    "lastSize": None,
    "mid": None,
    "bidPrice": None,
    "askPrice": None,
}
_DAILY = {
    "date": "2024-03-20T00:00:00.000Z",
    "open": 41,
    "high": 43,
    "low": 40,
    "close": 42.5,
    "volume": 9,
    "adjClose": 21.25,
}
_INTRADAY = {"date": "2024-03-20T13:30:00.000Z", "open": 41, "high": 43, "low": 40, "close": 42.5}

CASES: list[tuple[str, object, int, str]] = [
    ("iex", [_IEX], 200, "acme"),
    ("iex_closed", [_CLOSED], 200, "ACME"),
    ("iex_batch", [_IEX, _CLOSED | {"ticker": "BRK-B"}], 200, "ACME,BRK.B,NOPE"),
    ("iex_of_another", [_IEX | {"ticker": "OTHER"}], 200, "ACME"),
    ("iex_without_price", [_CLOSED | {"tngoLast": None}], 200, "ACME"),
    ("iex_without_time", [_CLOSED | {"timestamp": None, "quoteTimestamp": None}], 200, "ACME"),
    ("iex_unknown", [], 200, "NOPE"),
    ("daily", [_DAILY, _DAILY | {"date": "2024-03-21T00:00:00+00:00", "close": 43}], 200, "ACME"),
    (
        "intraday",
        [_INTRADAY, _INTRADAY | {"date": "2024-03-20T14:00:00.000Z", "close": 42.75}],
        200,
        "ACME",
    ),
    (
        "coins",
        [
            {
                "ticker": "btcusd",
                "baseCurrency": "btc",
                "quoteCurrency": "usd",
                "topOfBookData": [
                    {
                        "bidPrice": 71000.5,
                        "quoteTimestamp": "2024-03-01T23:00:15.363000+00:00",
                        "lastSize": 0.001,
                        "lastExchange": "BINANCE",
                        "lastPrice": 61000.83,
                        "askPrice": 61009.92,
                        "lastSaleTimestamp": "2024-03-20T20:20:03.712000+00:00",
                    }
                ],
            }
        ],
        200,
        "BTC/USD",
    ),
    (
        "coin_days",
        [
            {
                "ticker": "btcusd",
                "quoteCurrency": "usd",
                "priceData": [_INTRADAY | {"date": "2024-03-20T00:00:00+00:00"}],
            }
        ],
        200,
        "BTC-USD",
    ),
    (
        "currencies",
        [
            {
                "ticker": "eurusd",
                "quoteTimestamp": "2024-03-20T21:00:01.289000+00:00",
                "bidPrice": 1.1285,
                "askPrice": 1.1286,
                "midPrice": 1.12855,
            }
        ],
        200,
        "EUR/USD",
    ),
    (
        "frame",
        {
            "messageType": "A",
            "service": "iex",
            "data": [
                "T",
                "2024-01-30T13:33:45.383129126-05:00",
                1706639625383129126,
                "acme",
                None,
                None,
                None,
                None,
                None,
                42.475,
                50,
                0,
                0,
                0,
                0,
            ],
        },
        200,
        "ACME",
    ),
    (
        "frame_reference",
        {
            "messageType": "A",
            "service": "iex",
            "data": ["2024-01-30T13:33:45.383129126-05:00", "acme", 42.48],
        },
        200,
        "ACME",
    ),
    (
        "frame_of_coins",
        {
            "messageType": "A",
            "service": "crypto_data",
            "data": [
                "T",
                "btcusd",
                "2024-01-30T18:03:40.195515+00:00",
                "bitfinex",
                0.0025,
                61000.8,
            ],
        },
        200,
        "BTC/USD",
    ),
    (
        "frame_of_currencies",
        {
            "messageType": "A",
            "service": "fx",
            "data": [
                "Q",
                "eurusd",
                "2024-01-30T18:03:40.195000+00:00",
                5000000.0,
                1.0764,
                1.0765,
                5000000.0,
                1.0766,
            ],
        },
        200,
        "EUR/USD",
    ),
    (
        "frame_heartbeat",
        {"messageType": "H", "response": {"code": 200, "message": "HeartBeat"}},
        200,
        "ACME",
    ),
    (
        "frame_refused",
        {"messageType": "E", "response": {"code": 401, "message": "Invalid token"}},
        200,
        "ACME",
    ),
    ("unknown", {"detail": "Not found."}, 404, "NOPE"),
    ("unknown_ticker", {"detail": "Error: Ticker 'NOPE' not found"}, 404, "NOPE"),
    ("not_found_page", b"<html>Not Found</html>", 404, "ACME"),
    (
        "throttled_hour",
        {"detail": "Error: You have run over your hourly request allocation. Please upgrade."},
        429,
        "ACME",
    ),
    (
        "throttled_hour_text",
        b"Error: You have run over your hourly request allocation. Contact us.",
        200,
        "ACME",
    ),
    (
        "throttled_day",
        {"detail": "Error: You have run over your daily request allocation."},
        429,
        "ACME",
    ),
    (
        "throttled_month_text",
        b"You have run over your 500 symbol look up for this month. Please upgrade.",
        200,
        "ACME",
    ),
    ("throttled_somehow", {"detail": "You have run over your 50 requests"}, 200, "ACME"),
    ("invalid_key", {"detail": "Invalid token."}, 401, "ACME"),
    ("no_key", {"detail": "Authentication credentials were not provided."}, 403, "ACME"),
    ("premium", {"detail": "You do not have permission to access this API"}, 403, "ACME"),
    ("csv", b"date,close\n2024-03-20,42.5\n", 200, "ACME"),
    ("down", b"<html>token</html>", 503, "ACME"),
]
