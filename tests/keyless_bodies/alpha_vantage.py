"""Bodies of the shapes that Alpha Vantage answers with, beside those of its own tests."""

from __future__ import annotations

from functools import partial

from tests.keyless_bodies.cases import case as any_case

case = partial(any_case, "alpha_vantage", symbols="ACME")


def bar(close: str, **more: object) -> dict[str, object]:
    prices = {"1. open": "41.0000", "2. high": "43.0000", "3. low": "40.5000", "4. close": close}
    return prices | {"5. volume": "1234"} | more


def bulk(*rows: object, message: str = "") -> dict[str, object]:
    return {"endpoint": "Realtime Bulk Quotes", "message": message, "data": list(rows)}


BULK = {"symbol": "ACME", "timestamp": "2024-10-18 19:59:55.291", "close": "418.16"}

CASES = [
    case(
        "quote",
        {
            "Global Quote": {
                "01. symbol": "ACME",
                "05. price": "42.4200",
                "07. latest trading day": "2024-03-20",
            }
        },
        "ACME 42.4200 2024-03-20T00:00:00Z day last",
    ),
    case(
        "delayed",
        {
            "Global Quote - DATA DELAYED BY 15 MINUTES": {
                "01. symbol": "ACME",
                "05. price": "42.4200",
                "07. latest trading day": "2024-03-20",
            }
        },
        "ACME 42.4200 2024-03-20T00:00:00Z day delayed",
    ),
    case(
        "csv",
        b"symbol,open,high,low,price,volume,latestDay,previousClose,change,changePercent\r\n"
        b"ACME,41.1,43.0,40.5,42.4200,1234,2024-03-20,42.0,0.42,0.7100%\r\n",
        "ACME 42.4200 2024-03-20T00:00:00Z day last",
    ),
    case(
        "csv_intraday",
        b"time,open,high,low,close,volume\r\n"
        b"2020-12-18 20:00:00,218.79,218.79,218.75,218.75,1102\r\n"
        b"2020-12-18 19:58:00,218.63,218.75,218.63,218.75,1491\r\n",
        "ACME 218.75 2020-12-19T01:00:00Z minute last",
        bars=(
            "ACME 2020-12-19T01:00Z 218.79 218.79 218.75 218.75",
            "ACME 2020-12-19T00:58Z 218.63 218.75 218.63 218.75",
        ),
    ),
    case("csv_of_something", b"ipo,name\r\n2020-12-18,Acme\r\n", "not_a_price"),
    case("csv_cut_off", b"timestamp,open,high,low,close\r\n2020-12-18,1,2", "not_a_price"),
    case(
        "crypto_intraday_of_old",
        {
            "Meta Data": {
                "2. Digital Currency Code": "ABC",
                "4. Market Code": "CNY",
                "8. Time Zone": "UTC",
            },
            "Time Series (Digital Currency Intraday)": {
                "2017-12-20 19:30:00": {"1a. price (CNY)": "42.50", "1b. price (USD)": "6.4"},
                "2017-12-20 19:25:00": {"1a. price (CNY)": "42.40", "1b. price (USD)": "6.3"},
            },
        },
        "ABC/CNY 42.50 2017-12-20T19:30:00Z minute last CNY",
        symbols="ABC/CNY",
    ),
    case(
        "rate",
        {
            "Realtime Currency Exchange Rate": {
                "1. From_Currency Code": "EUR",
                "3. To_Currency Code": "USD",
                "5. Exchange Rate": "1.08210000",
                "6. Last Refreshed": "2024-07-05 21:59:01",
                "7. Time Zone": "UTC",
                "8. Bid Price": "-",
                "9. Ask Price": "1.08220000",
            }
        },
        "EURUSD=X 1.08210000 2024-07-05T21:59:01Z second last USD",
        symbols="EURUSD=X",
    ),
    case(
        "intraday",
        {
            "Meta Data": {"2. Symbol": "ACME", "4. Interval": "5min", "6. Time Zone": "US/Eastern"},
            "Time Series (5min)": {
                "2024-01-10 15:55:00": bar("42.5000"),
                "2024-01-10 15:50:00": bar("42.4000"),
            },
        },
        "ACME 42.5000 2024-01-10T20:55:00Z minute last",
        bars=(
            "ACME 2024-01-10T20:55Z 41.0000 43.0000 40.5000 42.5000",
            "ACME 2024-01-10T20:50Z 41.0000 43.0000 40.5000 42.4000",
        ),
    ),
    case(
        "daily",
        {
            "Meta Data": {"2. Symbol": "ACME", "5. Time Zone": "US/Eastern"},
            "Time Series (Daily)": {
                "2024-01-09": bar("42.4000"),
                "2024-01-10": bar("42.5000"),
            },
        },
        "ACME 42.5000 2024-01-10T00:00:00Z day close",
        bars=(
            "ACME 2024-01-09 41.0000 43.0000 40.5000 42.4000",
            "ACME 2024-01-10 41.0000 43.0000 40.5000 42.5000",
        ),
    ),
    case(
        "crypto_intraday",
        {
            "Meta Data": {
                "2. Digital Currency Code": "ABC",
                "4. Market Code": "USD",
                "7. Interval": "5min",
                "9. Time Zone": "UTC",
            },
            "Time Series Crypto (5min)": {"2024-03-20 14:05:00": bar("42.5", **{"5. volume": 36})},
        },
        "ABC/USD 42.5 2024-03-20T14:05:00Z minute last USD",
        symbols="ABC/USD",
        bars=("ABC/USD 2024-03-20T14:05Z 41.0000 43.0000 40.5000 42.5",),
    ),
    case(
        "crypto_daily_of_old",
        {
            "Meta Data": {
                "2. Digital Currency Code": "ABC",
                "4. Market Code": "CNY",
                "7. Time Zone": "UTC",
            },
            "Time Series (Digital Currency Daily)": {
                "2018-07-07": {
                    "1a. open (CNY)": "41.0",
                    "1b. open (USD)": "6.1",
                    "2a. high (CNY)": "43.0",
                    "3a. low (CNY)": "40.0",
                    "4a. close (CNY)": "42.5",
                    "4b. close (USD)": "6.4",
                    "5. volume": "12.5",
                }
            },
        },
        "ABC/CNY 42.5 2018-07-07T00:00:00Z day close CNY",
        symbols="ABC/CNY",
        bars=("ABC/CNY 2018-07-07 41.0 43.0 40.0 42.5",),
    ),
    case(
        "fx_daily",
        {
            "Meta Data": {"2. From Symbol": "EUR", "3. To Symbol": "USD", "6. Time Zone": "UTC"},
            "Time Series FX (Daily)": {"2024-03-20": bar("42.5")},
        },
        "EUR-USD 42.5 2024-03-20T00:00:00Z day close USD",
        symbols="EUR-USD",
        bars=("EUR-USD 2024-03-20 41.0000 43.0000 40.5000 42.5",),
    ),
    case(
        "bulk",
        bulk(BULK, BULK | {"symbol": "XYZ", "close": "7.5"}, message="ok"),
        "ACME 418.16 2024-10-18T23:59:55.291Z millisecond last",
        "XYZ 7.5 2024-10-18T23:59:55.291Z millisecond last",
        "NOPE unknown_symbol",
        symbols="XYZ,ACME,NOPE",
    ),
    case(
        "bulk_sample",
        bulk(BULK, message="This is a premium endpoint. ***THE SAMPLE DATA IS ARTIFICIAL***"),
        "premium_required",
    ),
    case("unknown", {"Global Quote": {}}, "unknown_symbol"),
    case(
        "daily_quota",
        {"Information": "our rate limit is 25 requests per day."},
        "rate_limited_daily",
    ),
    case("html", b"<html>Service Unavailable</html>", "provider_down", status=503),
]
