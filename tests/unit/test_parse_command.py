"""`pricewire parse` and `pricewire providers`: what is printed, and the exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner, Result

from pricewire.cli.main import app
from tests.kafka_tools import free_port
from tests.keyless_bodies.coinbase import FEED_TICKER, TICKER, TRADE
from tests.provider_bodies import BODIES
from tests.provider_bodies_stocks import Body

BY_NAME = {(one.provider, one.name): one for one in BODIES}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def parse(tmp_path: Path, provider: str, content: object, *options: str) -> tuple[int, Any]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    file = tmp_path / "body"
    file.write_bytes(body)
    result = run("parse", provider, str(file), *options)
    return result.exit_code, json.loads(result.stdout)


def test_a_quote_is_printed_with_its_digits_and_what_else_is_known(tmp_path: Path) -> None:
    code, printed = parse(tmp_path, "coinbase", TICKER, "--symbol", "ABC/USD")
    assert code == 0
    assert printed == {
        "kind": "quote",
        "symbol": "ABC/USD",
        "price": "42.5000",
        "timestamp_utc": "2024-03-20T11:10:41.270099Z",
        "timestamp_precision": "microsecond",
        "price_kind": "last",
        "delayed": False,
        "currency": "USD",
        "size": "0.00730812",
        "bid": "42.49",
        "ask": "42.51",
        "trade_id": 185021,
    }


@pytest.mark.parametrize(
    ("provider", "name", "time", "precision"),
    [
        ("massive", "trade", "2022-04-28T20:55:19.310617301Z", "nanosecond"),
        ("binance", "day", "2024-03-20T14:02:09.722Z", "millisecond"),
        ("yahoo", "chart", "2024-03-20T20:00:00Z", "second"),
        ("alpha_vantage", "intraday", "2024-01-10T20:55:00Z", "minute"),
        ("alpha_vantage", "quote", "2024-03-20", "day"),
        ("kraken", "ticker", None, "none"),
    ],
)
def test_a_time_has_all_its_digits_and_no_more(
    tmp_path: Path, provider: str, name: str, time: str | None, precision: str
) -> None:
    _, printed = parse(tmp_path, provider, BY_NAME[provider, name].body)
    assert (printed["timestamp_utc"], printed["timestamp_precision"]) == (time, precision)


def test_the_symbol_is_the_callers_or_the_urls_or_the_bodys_or_none(tmp_path: Path) -> None:
    url = "https://api.exchange.coinbase.com/products/ABC-USD/ticker"
    assert parse(tmp_path, "coinbase", TICKER)[1]["symbol"] is None
    assert parse(tmp_path, "coinbase", TICKER, "--url", url)[1]["symbol"] == "ABC-USD"
    options = ("--url", url, "--symbol", "ABC/USD")
    assert parse(tmp_path, "coinbase", TICKER, *options)[1]["symbol"] == "ABC/USD"
    assert parse(tmp_path, "coinbase", TRADE)[1]["symbol"] == "ABC-USD"


def test_another_symbol_than_was_asked_for_is_no_price(tmp_path: Path) -> None:
    code, printed = parse(tmp_path, "coinbase", TRADE, "--symbol", "XYZ-USD")
    assert (code, printed["error_class"]) == (1, "not_a_price")


def test_an_error_is_printed_and_told_by_the_exit_code(tmp_path: Path) -> None:
    body = {"code": -1003, "msg": "Too much request weight used; 6000 per 1 MINUTE."}
    code, printed = parse(tmp_path, "binance", body, "--status", "429")
    detail = printed.pop("detail")
    assert code == 1
    assert "request weight" in detail
    assert printed == {
        "kind": "error",
        "error_class": "rate_limited_minute",
        "retryable": True,
        "retry_after": 60,
    }


def test_a_batch_has_its_quotes_and_its_errors(tmp_path: Path) -> None:
    body = [{"symbol": "ABCUSDT", "price": "42.5"}, {"symbol": "XYZBTC", "price": "0"}]
    _, printed = parse(tmp_path, "binance", body, "--symbol", "ABCUSDT,XYZBTC")
    assert printed["kind"] == "batch"
    told = [(one["kind"], one["symbol"]) for one in printed["items"]]
    assert told == [("quote", "ABCUSDT"), ("error", "XYZBTC")]
    assert printed["items"][1]["error_class"] == "not_a_price"


def test_a_series_has_its_bars(tmp_path: Path) -> None:
    _, printed = parse(tmp_path, "kraken", BY_NAME["kraken", "bars"].body)
    assert (printed["kind"], printed["price"], printed["symbol"]) == ("quote", "42.3", "XXBTZUSD")
    assert printed["bars"][0] == {
        "symbol": "XXBTZUSD",
        "time": "2024-03-20T14:01:00Z",
        "timestamp_precision": "second",
        "open": "42.1",
        "high": "42.3",
        "low": "42.0",
        "close": "42.2",
        "volume": "9.2",
        "currency": "USD",
    }


def test_bars_without_a_price_are_bars(tmp_path: Path) -> None:
    chart = json.loads(BY_NAME["yahoo", "chart"].body)
    del chart["chart"]["result"][0]["meta"]["regularMarketPrice"]
    _, printed = parse(tmp_path, "yahoo", chart)
    assert (printed["kind"], printed["symbol"], len(printed["items"])) == ("bars", "ACME", 2)


def test_the_frames_of_a_feed_are_read_line_by_line(tmp_path: Path) -> None:
    later = FEED_TICKER | {"trade_id": 991, "price": "15.00"}
    frames = [
        {"type": "subscriptions", "channels": []},
        TRADE,
        FEED_TICKER,
        later,
        TRADE | {"product_id": "AAA-EUR", "trade_id": 3},
        {"type": "error", "message": "Failed", "reason": "NOPE is not a valid product"},
    ]
    body = b"\n".join(json.dumps(frame).encode() for frame in frames)
    code, printed = parse(tmp_path, "coinbase", body + b"\n")
    items = printed.pop("items")
    assert code == 0
    assert [(one["symbol"], one["price"]) for one in items] == [
        ("AAA-EUR", "14.7775"),
        ("ABC-USD", "15.00"),
    ]
    assert printed == {
        "kind": "stream",
        "messages": 6,
        "quotes": 4,
        "distinct_trades": 3,
        "trades_seen_more_than_once": 1,
        "errors": {"unknown_symbol": 1},
    }


def test_polygon_is_massive(tmp_path: Path) -> None:
    body = BY_NAME["massive", "trade"].body
    assert parse(tmp_path, "polygon", body) == parse(tmp_path, "massive", body)


def test_a_body_may_come_from_standard_input() -> None:
    result = CliRunner().invoke(app, ["parse", "coinbase", "-"], input=json.dumps(TICKER))
    assert json.loads(result.stdout)["price"] == "42.5000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nosuch", "FILE"), "no parser of 'nosuch'"),
        (("ccxt:kraken", "FILE"), "no parser of 'ccxt:kraken'"),
        (("yahoo", "/no/such/file"), "cannot be read"),
        (("yahoo", "FOLDER"), "cannot be read"),
        (("yahoo", "FILE", "--symbol", "a b"), "is no symbol"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"{}")
    places = {"FILE": str(file), "FOLDER": str(tmp_path)}
    result = run("parse", *(places.get(one, one) for one in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("pricewire: ")
    assert told in line


@pytest.mark.parametrize("arguments", [("yahoo",), (), ("yahoo", "x", "--status", "abc")])
def test_a_call_without_what_it_needs_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert run("parse", *arguments).exit_code == 2


@pytest.mark.parametrize("body", BODIES, ids=lambda one: f"{one.provider}-{one.name}")
def test_every_body_is_printed_as_something(tmp_path: Path, body: Body) -> None:
    code, printed = parse(tmp_path, body.provider, body.body, "--status", str(body.status))
    assert (code, printed["kind"] == "error") in ((0, False), (1, True))


def test_the_providers_are_listed_without_their_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_KEY_ID", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FINNHUB_API_KEY", "S3CRET")
    monkeypatch.setenv("ALPACA_API_KEY_ID", "S3CRET")
    monkeypatch.setenv("DEFAULT_PROVIDER", "kraken")
    monkeypatch.setenv("CCXT_EXCHANGES", "bitstamp")
    monkeypatch.setenv("API_PORT", str(free_port()))
    result = run("providers")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert "no Pricewire answers" in result.stderr
    assert "S3CRET" not in result.stdout
    assert "ready" in rows["finnhub"]
    assert "default" in rows["kraken"]
    assert "not configured" in rows["alpaca"]
    assert "ALPACA_API_KEY_ID, ALPACA_API_SECRET_KEY" in rows["alpaca"]
    assert "ccxt:bitstamp" in rows
    assert len(rows) == 1 + 11 + 1


def test_the_running_service_says_how_providers_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, httpserver: HTTPServer
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_HOST", httpserver.host)
    monkeypatch.setenv("API_PORT", str(httpserver.port))
    budget = [
        {"period": "second", "calls": 1, "left": 1, "until": "2024-03-20T00:00:01Z"},
        {"period": "day", "calls": 25, "left": 24, "until": "2024-03-21T00:00:00Z"},
    ]
    guards = {
        "alpha_vantage": {"health": "ready", "budget": budget},
        "yahoo": {"health": "cooling", "budget": []},
        "history": None,
    }
    found = [{"name": name, "guard": guard} for name, guard in guards.items()]
    httpserver.expect_request("/v1/providers").respond_with_json({"providers": found})
    result = run("providers")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert (result.exit_code, result.stderr) == (0, "")
    assert "ready" in rows["alpha_vantage"]
    assert "1 of 1 a second, 24 of 25 a day" in rows["alpha_vantage"]
    assert "cooling" in rows["yahoo"]
    assert "no budget" in rows["yahoo"]
