"""What is said to vendors' feeds, and what is heard in their frames: every shape of all seven."""

from __future__ import annotations

import json

import pytest

from pricewire.domain.feed import Ended, Refused, Reply, Said, Unreadable
from pricewire.providers.anatomy import Answer
from pricewire.providers.catalogue import VENDORS
from pricewire.providers.feed_anatomy import refusal
from pricewire.providers.feed_catalogue import FEEDS
from tests.feed_bodies import crypto, stocks
from tests.feed_bodies.cases import KEYS, FeedCase, conversation, line
from tests.stock_outcomes import NOW, SECRET

CASES = [*crypto.CASES, *stocks.CASES]

FIRST_MESSAGES = {
    "coinbase": {
        "type": "subscribe",
        "product_ids": ["BTC-USD"],
        "channels": ["matches", "heartbeat"],
    },
    "binance": {"method": "SUBSCRIBE", "params": ["btcusd@trade"], "id": 1},
    "kraken": {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True},
    },
    "finnhub": {"type": "subscribe", "symbol": "COINBASE:BTC-USD"},
    "alpaca": {"action": "subscribe", "trades": ["BTC/USD"]},
    "twelve_data": {"action": "subscribe", "params": {"symbols": "BTC/USD"}},
    "massive": {"action": "subscribe", "params": "XT.BTC-USD"},
}

FORMS = {
    "coinbase": ("BTC/USD", "BTC-USD"),
    "binance": ("BTC/USDT", "BTCUSDT"),
    "kraken": ("XBTUSD", "BTC-USD"),
    "finnhub": ("BRK-B", "BRK.B"),
    "alpaca": ("BRK-B", "BRK.B"),
    "twelve_data": ("^GSPC", "I:SPX"),
    "massive": ("^GSPC", "I:SPX"),
}


def heard(case: FeedCase) -> list[Said]:
    protocol = case.protocol()
    return [said for frame in case.frames for said in protocol.read(frame, NOW)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.provider}-{case.name}")
def test_a_frame_is_heard_as_what_it_says(case: FeedCase) -> None:
    assert [line(said) for said in heard(case)] == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.provider}-{case.name}")
def test_no_key_stands_in_what_is_shown(case: FeedCase) -> None:
    for said in heard(case):
        assert SECRET.lower() not in repr(said).lower()
        if isinstance(said, Ended | Refused):
            assert SECRET.lower() not in f"{said.error!r} {said.error.detail}".lower()
            assert said.error.detail.isprintable()
        if isinstance(said, Unreadable):
            assert said.detail.isprintable()


def test_the_feeds_are_those_of_vendors_with_the_same_keys() -> None:
    assert set(FEEDS) == set(FIRST_MESSAGES)
    for name, feed in FEEDS.items():
        assert feed.vendor is VENDORS[name]
        assert feed.name == name
        assert feed.title
        assert feed.url.startswith("wss://")
        assert "?" not in feed.url
        assert set(feed.needs) <= set(KEYS)


@pytest.mark.parametrize("name", FEEDS)
def test_the_first_message_asks_for_the_symbol_in_the_vendors_form(name: str) -> None:
    (message,) = conversation(name).subscribe(["BTC-USD"])
    assert json.loads(message) == FIRST_MESSAGES[name]


@pytest.mark.parametrize("name", FEEDS)
def test_two_forms_of_one_symbol_are_one_subscription_until_both_are_gone(name: str) -> None:
    protocol, (first, second) = conversation(name), FORMS[name]
    assert len(protocol.subscribe([first, second, first])) == 1
    assert protocol.subscribe([second]) == []
    assert protocol.unsubscribe([first, first]) == []
    (message,) = protocol.unsubscribe([second, second])
    assert "unsubscribe" in message.lower()
    assert protocol.unsubscribe([first, second]) == []
    assert len(protocol.subscribe([second])) == 1


@pytest.mark.parametrize("name", FEEDS)
def test_a_message_names_no_more_symbols_than_the_vendor_takes(name: str) -> None:
    most = FEEDS[name].limits.per_message
    symbols = [f"C{number}-USD" for number in range(2 * most + 1)]
    messages = conversation(name).subscribe(symbols)
    assert len(messages) == 3
    for number in range(2 * most + 1):
        named = [f"C{number}{between}USD" for between in ("-", "/", "")]
        said = [
            message
            for message in messages
            if any(f"{one}{end}" in message.upper() for one in named for end in ('"', ",", "@"))
        ]
        assert len(said) == 1


@pytest.mark.parametrize("name", FEEDS)
def test_a_tick_after_its_symbol_was_given_up_is_nothing(name: str) -> None:
    case = next(one for one in CASES if one.provider == name and " last " in one.expected[0])
    protocol = case.protocol()
    protocol.unsubscribe(case.symbols)
    assert [line(said) for said in protocol.read(case.frames[0], NOW)] == ["alive"]


def invalid(product: str) -> bytes:
    reason = f"{product} is not a valid product"
    return json.dumps({"type": "error", "message": "Failed", "reason": reason}).encode()


def test_a_refused_symbol_is_asked_for_again_by_who_wants_it_again() -> None:
    protocol = conversation("coinbase", ("ABC-USD", "XYZ-USD"))
    protocol.read(invalid("XYZ-USD"), NOW)
    assert protocol.unsubscribe(["XYZ-USD"]) == []
    assert len(protocol.subscribe(["ABC-USD", "XYZ-USD"])) == 1


def test_the_others_are_asked_for_until_no_bad_one_is_left() -> None:
    protocol = conversation("coinbase", ("A1-USD", "A2-USD", "A3-USD"))
    asked = []
    for bad in ("A1-USD", "A3-USD"):
        asked += [one.text for one in protocol.read(invalid(bad), NOW) if isinstance(one, Reply)]
    assert [json.loads(text)["product_ids"] for text in asked] == [["A2-USD", "A3-USD"], ["A2-USD"]]


def test_those_that_are_confirmed_are_not_asked_for_again() -> None:
    protocol = conversation("coinbase", ("A1-USD", "A2-USD"))
    channels = [{"name": "matches", "product_ids": ["A1-USD", "A2-USD"]}]
    protocol.read(json.dumps({"type": "subscriptions", "channels": channels}).encode(), NOW)
    protocol.subscribe(["A3-USD"])
    said = [line(one) for one in protocol.read(invalid("A3-USD"), NOW)]
    assert said == ["refused A3-USD unknown_symbol"]


@pytest.mark.parametrize(("name", "parameter"), [("finnhub", "token"), ("twelve_data", "apikey")])
def test_a_key_that_the_url_has_to_hold_is_dialled_and_not_shown(name: str, parameter: str) -> None:
    feed = FEEDS[name]
    dialled = feed.dial(feed.url, {"api_key": "a b&c"})
    assert dialled.url == f"{feed.url}?{parameter}=a%20b%26c"
    assert feed.dial(f"{feed.url}?x=1", {"api_key": "k"}).url.endswith(f"?x=1&{parameter}=k")
    assert "a%20b" not in repr(dialled)


@pytest.mark.parametrize("name", ["coinbase", "binance", "kraken", "alpaca", "massive"])
def test_the_others_dial_the_url_as_it_is(name: str) -> None:
    feed = FEEDS[name]
    assert feed.dial(feed.url, dict.fromkeys(feed.needs, SECRET)).url == feed.url


@pytest.mark.parametrize(
    ("name", "url", "symbol", "is_covered"),
    [
        ("coinbase", "", "BTC-USD", True),
        ("coinbase", "", "ACME", False),
        ("kraken", "", "XBTUSD", True),
        ("kraken", "", "ACME", False),
        ("binance", "", "ABCDEF", True),
        ("finnhub", "", "ACME", True),
        ("alpaca", "", "BRK.B", True),
        ("alpaca", "", "BTC/USD", False),
        ("alpaca", "wss://x/v1beta3/crypto/us", "BTC/USD", True),
        ("alpaca", "wss://x/v1beta3/crypto/us", "ACME", False),
        ("massive", "", "BACpE", True),
        ("massive", "", "BTC-USD", False),
        ("massive", "wss://x/crypto", "BTC-USD", True),
        ("massive", "wss://x/crypto", "EUR/USD", False),
        ("massive", "wss://x/forex", "EURUSD=X", True),
        ("massive", "wss://x/indices", "^GSPC", True),
        ("massive", "wss://x/indices", "ACME", False),
        ("massive", "wss://x/options", "O:ACME251219C00650000", True),
        ("massive", "wss://x/all", "ACME", True),
    ],
)
def test_what_a_socket_can_have_at_all(
    name: str, url: str, symbol: str, *, is_covered: bool
) -> None:
    feed = FEEDS[name]
    assert feed.covers(url or feed.url, symbol) is is_covered


@pytest.mark.parametrize(
    ("symbol", "channel"),
    [
        ("ACME", "T.ACME"),
        ("BRK-B", "T.BRK.B"),
        ("BTC/USDT", "XT.BTC-USDT"),
        ("X:BTCUSD", "XT.BTC-USD"),
        ("EURUSD=X", "C.EUR-USD"),
        ("C:AUDUSD", "C.AUD-USD"),
        ("^GSPC", "V.I:SPX"),
        ("O:ACME251219C00650000", "T.O:ACME251219C00650000"),
    ],
)
def test_massives_channels(symbol: str, channel: str) -> None:
    (message,) = conversation("massive").subscribe([symbol])
    assert json.loads(message)["params"] == channel


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("finnhub", 401, "invalid_key"),
        ("finnhub", 429, "rate_limited"),
        ("twelve_data", 401, "invalid_key"),
        ("binance", 418, "banned"),
        ("binance", 451, "region_refused"),
        ("kraken", 520, "provider_down"),
        ("coinbase", 429, "rate_limited_burst"),
    ],
)
def test_a_handshake_that_fails_is_a_typed_error(name: str, status: int, code: str) -> None:
    answer = Answer(body=b"", status=status, fetched_at=NOW, secrets=(SECRET,))
    assert refusal(FEEDS[name].vendor, answer).code == code
