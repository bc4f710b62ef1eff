"""Frames that feeds really sent, beside what a correct reader makes of them.

They lie beside the checkout, where they are (`../shared/recorded`); without them all is skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pricewire.domain.feed import Tick
from pricewire.domain.quote import price_text
from pricewire.providers.feed_catalogue import FEEDS
from tests.contracts.test_recorded import RECORDED, entries, written
from tests.feed_bodies.cases import KEYS
from tests.stock_outcomes import NOW

COINBASE = "coinbase/ws_feed_10_products.jsonl"
FINNHUB = "finnhub/ws_trade_AAPL.json"


def frames(file: str) -> list[bytes]:
    path: Path = RECORDED / file
    if not path.exists():
        pytest.skip(f"no recorded frames at {path}")
    return path.read_bytes().splitlines()


def expected(file: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in entries() if one["file"] == file)["expect"]
    return found


def ticks(provider: str, symbols: list[str], came: list[bytes]) -> list[Tick]:
    feed = FEEDS[provider]
    protocol = feed.protocol(feed.url, KEYS)
    protocol.subscribe(symbols)
    said = [one for frame in came for one in protocol.read(frame, NOW)]
    return [one for one in said if isinstance(one, Tick)]


def test_every_match_of_ten_products_is_one_tick_with_its_digits() -> None:
    came = frames(COINBASE)
    matches = [one for one in map(json.loads, came) if one["type"] in ("match", "last_match")]
    heard = ticks("coinbase", sorted({one["product_id"] for one in matches}), came)
    assert len(heard) == len(matches) == expected(COINBASE)["distinct_trades"]
    for tick, match in zip(heard, matches, strict=True):
        assert price_text(tick.quote.price) == match["price"]
        assert tick.quote.size is not None
        assert price_text(tick.quote.size) == match["size"]
        assert written(tick.quote)["timestamp_utc"] == match["time"]
        assert (tick.quote.symbol, tick.number) == (match["product_id"], match["trade_id"])
        assert tick.old is (match["type"] == "last_match")
    assert Counter(tick.old for tick in heard) == {True: 10, False: 97}


def test_the_numbers_of_each_product_go_up_one_by_one() -> None:
    came = frames(COINBASE)
    items = expected(COINBASE)["items"]
    heard = ticks("coinbase", [one["symbol"] for one in items], came)
    for item in items:
        numbers = [one.number for one in heard if one.quote.symbol == item["symbol"]]
        assert numbers == list(range(numbers[0] or 0, item["trade_id"] + 1))


def test_the_last_trade_of_each_product_is_what_a_correct_parser_makes_of_it() -> None:
    came = frames(COINBASE)
    items = expected(COINBASE)["items"]
    heard = ticks("coinbase", [one["symbol"] for one in items], came)
    last = {tick.quote.symbol: tick for tick in heard}
    for item in items:
        told = written(last[item["symbol"]].quote)
        for name in ("price", "timestamp_utc", "timestamp_precision"):
            assert told[name] == item[name]
        assert last[item["symbol"]].number == item["trade_id"]


def test_a_frame_of_finnhub_is_what_a_correct_parser_makes_of_it() -> None:
    (tick,) = ticks("finnhub", ["AAPL"], frames(FINNHUB))
    told = written(tick.quote)
    for name in ("symbol", "price", "timestamp_utc", "timestamp_precision", "size"):
        assert told[name] == expected(FINNHUB)[name]
