"""Trades that a feed did not bring, asked for over REST: by number, page after page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricewire.domain.feed import Tick
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer
from pricewire.providers.feed_anatomy import Fill, Gap
from pricewire.providers.feed_catalogue import FEEDS
from tests.feed_bodies.cases import line
from tests.stock_outcomes import NOW

FILLED = ("coinbase", "binance", "kraken")
SYMBOLS = {"coinbase": "ABC/USD", "binance": "ABC-USDT", "kraken": "BTC-USD"}
PAGE = 1000


def fill_of(name: str) -> Fill:
    fill = FEEDS[name].fill
    assert fill is not None
    return fill


def gap(name: str, first: int, last: int, since: datetime | None = None) -> Gap:
    return Gap(symbol=SYMBOLS[name], first=first, last=last, since=since)


def trade(name: str, number: int) -> Any:
    """Return a trade as the vendor's REST writes it; one a second, at a price of its number."""
    second = 1710943200 + number
    if name == "coinbase":
        at = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.270099Z"
        return {"time": at, "trade_id": number, "price": f"{number}.50", "size": "1", "side": "buy"}
    if name == "binance":
        return {
            "id": number,
            "price": f"{number}.50",
            "qty": "1",
            "time": second * 1000,
            "isBuyerMaker": True,
        }
    return [f"{number}.50", "1", second + 0.25, "s", "m", "", number]


def body(name: str, numbers: list[int]) -> bytes:
    trades = [trade(name, number) for number in numbers]
    if name == "kraken":
        return json.dumps({"error": [], "result": {"XXBTZUSD": trades, "last": "171"}}).encode()
    return json.dumps(trades).encode()


def read(name: str, wanted: Gap, content: bytes, status: int = 200) -> list[Tick]:
    return fill_of(name).read(Answer(body=content, status=status, fetched_at=NOW), wanted)


def answered(name: str, wanted: Gap, newest: int) -> bytes:
    """Return what the vendor would answer that has the trades up to `newest`."""
    params = fill_of(name).request(wanted).params
    if name == "coinbase":
        last = int(params["after"]) - 1
        return body(name, list(range(last, max(0, last - int(params["limit"])), -1)))
    first = int(params["fromId"]) if name == "binance" else max(1, newest - PAGE + 1)
    if "since" in params:
        first = int(params["since"]) // 10**9 - 1710943200
    count = int(params.get("limit", PAGE))
    return body(name, list(range(first, min(newest, first + count - 1) + 1)))


def test_only_those_that_count_trades_and_keep_them_fill_gaps() -> None:
    assert {name for name, feed in FEEDS.items() if feed.fill} == set(FILLED)


def test_coinbase_is_asked_for_the_newest_that_are_missing() -> None:
    request = fill_of("coinbase").request(gap("coinbase", 11, 15))
    assert request.path == "/products/ABC-USD/trades"
    assert request.params == {"after": "16", "limit": "5"}
    assert fill_of("coinbase").request(gap("coinbase", 1, 5000)).params["limit"] == "1000"


def test_binance_is_asked_for_the_oldest_that_are_missing() -> None:
    request = fill_of("binance").request(gap("binance", 11, 15))
    assert request.path == "/api/v3/historicalTrades"
    assert request.params == {"symbol": "ABCUSDT", "fromId": "11", "limit": "5"}
    assert fill_of("binance").request(gap("binance", 1, 5000)).params["limit"] == "1000"


def test_kraken_is_asked_by_the_time_of_the_last_trade_that_is_known() -> None:
    since = datetime(2024, 3, 20, 14, 2, 9, 722539, UTC)
    request = fill_of("kraken").request(gap("kraken", 11, 15, since))
    assert request.path == "/0/public/Trades"
    assert request.params == {"pair": "XBTUSD", "since": "1710943329721539000"}
    assert fill_of("kraken").request(gap("kraken", 11, 15)).params == {"pair": "XBTUSD"}


LINES = {
    "coinbase": "ABC/USD 12.50 2024-03-20T14:00:12.270099Z microsecond last USD size=1 id=12 #12",
    "binance": "ABC-USDT 12.50 2024-03-20T14:00:12Z millisecond last USDT size=1 id=12 #12",
    "kraken": "BTC-USD 12.50 2024-03-20T14:00:12.25Z millisecond last USD size=1 id=12 #12",
}


@pytest.mark.parametrize("name", FILLED)
def test_a_trade_is_what_the_feed_would_have_said(name: str) -> None:
    (tick,) = read(name, gap(name, 12, 12), body(name, [11, 12, 13]))
    assert line(tick) == LINES[name]


@pytest.mark.parametrize("name", FILLED)
def test_trades_of_the_gap_come_in_their_order_each_once(name: str) -> None:
    ticks = read(name, gap(name, 11, 15), body(name, [17, 13, 11, 15, 13, 9, 16, 12]))
    assert [tick.number for tick in ticks] == [11, 12, 13, 15]


@pytest.mark.parametrize("name", FILLED)
def test_one_that_cannot_be_read_stays_missing(name: str) -> None:
    content = body(name, [11, 12, 13]).replace(b'"12.50"', b'"-12"')
    assert [tick.number for tick in read(name, gap(name, 11, 13), content)] == [11, 13]


@pytest.mark.parametrize("name", FILLED)
def test_an_answer_without_any_of_them_is_the_end_of_it(name: str) -> None:
    assert read(name, gap(name, 11, 13), body(name, [])) == []
    assert read(name, gap(name, 11, 13), body(name, [1, 2, 3])) == []


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [
        ("coinbase", b'{"message":"NotFound"}', 404, "unknown_symbol"),
        ("coinbase", b'{"message":"Public rate limit exceeded"}', 429, "rate_limited_burst"),
        ("coinbase", b"[]", 500, "provider_down"),
        ("binance", b'{"code":-1121,"msg":"Invalid symbol."}', 400, "unknown_symbol"),
        ("binance", b'{"code":-2014,"msg":"API-key format invalid."}', 401, "invalid_key"),
        ("binance", b"<html>", 403, "banned"),
        ("kraken", b'{"error":["EQuery:Unknown asset pair"]}', 200, "unknown_symbol"),
        ("kraken", b'{"error":["EGeneral:Too many requests"]}', 200, "rate_limited"),
        ("kraken", b'{"error":[],"result":{"XETHZUSD":[],"last":"1"}}', 200, "not_a_price"),
        ("kraken", b"[]", 200, "not_a_price"),
    ],
)
def test_a_refusal_is_a_typed_error(name: str, content: bytes, status: int, code: str) -> None:
    with pytest.raises(ProviderError) as raised:
        read(name, gap(name, 11, 13), content, status)
    assert raised.value.code == code


@pytest.mark.parametrize("name", FILLED)
@settings(max_examples=12)
@given(first=st.integers(1500, 4000), count=st.integers(1, 3500))
def test_page_after_page_a_gap_is_filled(name: str, first: int, count: int) -> None:
    missing = set(range(first, first + count))
    newest, calls, known = first + count + 10, 0, first - 1
    while missing:
        since = datetime.fromtimestamp(1710943200 + known, UTC)
        wanted = gap(name, min(missing), max(missing), since)
        came = {tick.number or 0 for tick in read(name, wanted, answered(name, wanted, newest))}
        assert came & missing
        missing -= came
        known, calls = max(known, min(missing, default=first) - 1), calls + 1
    assert calls <= count // (PAGE - 5) + 1
