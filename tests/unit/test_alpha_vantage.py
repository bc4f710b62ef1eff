"""Alpha Vantage's answers: digits and times kept, every refusal told by its wording."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.quote import Precision, PriceKind, Quote, price_text
from pricewire.errors import (
    NotAPrice,
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers import anatomy
from pricewire.providers.alpha_vantage import ALPHA_VANTAGE
from pricewire.providers.alpha_vantage_answers import split_pair
from pricewire.providers.anatomy import Answer, Parsed
from pricewire.providers.refusals import MAX_SAID

NOW = datetime(2026, 7, 1, 16, 0, tzinfo=UTC)
RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded"


def quote_body(title: str = "Global Quote", **changes: object) -> bytes:
    members: dict[str, object] = {
        "01. symbol": "ACME",
        "02. open": "41.1000",
        "05. price": "42.4200",
        "06. volume": "1234567",
        "07. latest trading day": "2024-03-20",
        "10. change percent": "0.7100%",
    }
    numbered = {"symbol": "01. symbol", "price": "05. price", "day": "07. latest trading day"}
    members.update({numbered[name]: value for name, value in changes.items()})
    return json.dumps({title: members}).encode()


def rate_body(**changes: str) -> bytes:
    members = {
        "1. From_Currency Code": "EUR",
        "2. From_Currency Name": "Euro",
        "3. To_Currency Code": "USD",
        "5. Exchange Rate": "1.08210000",
        "6. Last Refreshed": "2024-07-05 21:59:01",
        "7. Time Zone": "UTC",
        "8. Bid Price": "-",
    }
    members.update({name.replace("_at_", ". "): value for name, value in changes.items()})
    return json.dumps({"Realtime Currency Exchange Rate": members}).encode()


def series_body(bars: dict[str, str], zone: str = "US/Eastern", symbol: str = "ACME") -> bytes:
    return json.dumps(
        {
            "Meta Data": {"2. Symbol": symbol, "4. Interval": "5min", "6. Time Zone": zone},
            "Time Series (5min)": {
                stamp: {"1. open": "1.0", "4. close": close, "5. volume": "7"}
                for stamp, close in bars.items()
            },
        }
    ).encode()


def parsed(
    body: bytes,
    status: int = 200,
    *,
    symbol: str = "ACME",
    secret: str = "",
    fetched_at: datetime = NOW,
) -> Parsed:
    answer = Answer(
        body=body, status=status, symbols=(symbol,), fetched_at=fetched_at, secrets=(secret,)
    )
    return anatomy.read(ALPHA_VANTAGE, answer)


def read(body: bytes, status: int = 200, **given: Any) -> Quote:
    [quote] = parsed(body, status, **given).quotes
    return quote


def told(text: str, member: str = "Information") -> bytes:
    return json.dumps({member: text}).encode()


def test_a_quote_keeps_its_digits_and_knows_only_the_day() -> None:
    quote = read(quote_body())
    assert price_text(quote.price) == "42.4200"
    assert quote.timestamp == datetime(2024, 3, 20, tzinfo=UTC)
    assert quote.precision is Precision.DAY
    assert (quote.kind, quote.currency) == (PriceKind.LAST, None)


def test_a_delayed_quote_says_so() -> None:
    quote = read(quote_body("Global Quote - DATA DELAYED BY 15 MINUTES"))
    assert quote.kind is PriceKind.DELAYED


def test_the_callers_form_of_the_symbol_is_kept() -> None:
    assert read(quote_body(symbol="ACME"), symbol="acme").symbol == "acme"
    assert read(rate_body(), symbol="EUR-USD").symbol == "EUR-USD"


def test_an_exchange_rate_has_a_currency_and_a_second() -> None:
    quote = read(rate_body(), symbol="EUR/USD")
    assert price_text(quote.price) == "1.08210000"
    assert quote.currency == "USD"
    assert quote.timestamp == datetime(2024, 7, 5, 21, 59, 1, tzinfo=UTC)
    assert quote.precision is Precision.SECOND


@pytest.mark.parametrize(
    ("stamp", "zone", "expected"),
    [
        ("2024-01-10 15:55:00", "US/Eastern", datetime(2024, 1, 10, 20, 55, tzinfo=UTC)),
        ("2024-07-10 15:55:00", "US/Eastern", datetime(2024, 7, 10, 19, 55, tzinfo=UTC)),
        ("2024-07-10 15:55:00", "America/New_York", datetime(2024, 7, 10, 19, 55, tzinfo=UTC)),
        ("2024-07-10 15:55:00", "UTC", datetime(2024, 7, 10, 15, 55, tzinfo=UTC)),
    ],
)
def test_the_newest_bar_counts_in_the_time_zone_of_the_body(
    stamp: str, zone: str, expected: datetime
) -> None:
    quote = read(series_body({"2023-01-01 10:00:00": "1.1", stamp: "2.20"}, zone))
    assert (price_text(quote.price), quote.timestamp) == ("2.20", expected)
    assert quote.precision is Precision.MINUTE


@pytest.mark.parametrize("stamp", ["2024-11-03 01:30:00", "2024-03-10 02:30:00"])
def test_a_local_time_that_is_no_single_instant_is_refused(stamp: str) -> None:
    with pytest.raises(NotAPrice, match="time of its price"):
        read(series_body({stamp: "2.20"}))


REFUSALS: list[tuple[str, str, str, float]] = [
    ("Note", "Our call frequency is 5 calls per minute and 500 calls per day.", "minute", 60),
    ("Information", "Our call frequency is 5 calls per minute.", "minute", 60),
    ("Information", "Minute-level rate limit exceed. Please stay under it.", "minute", 60),
    ("Information", "Our standard rate limit is 25 requests per day. See premium.", "daily", 43200),
    ("Information", "Burst pattern detected. No more than 5 requests per second.", "burst", 1),
    (
        "Information",
        (
            "Please consider spreading out your requests. Any of the premium plans lifts the rate "
            "limit (25 requests per day) and instantly unlocks all premium endpoints"
        ),
        "burst",
        1,
    ),
]


@pytest.mark.parametrize(("member", "text", "code", "wait"), REFUSALS)
def test_throttles_tell_their_class_and_the_wait(
    member: str, text: str, code: str, wait: float
) -> None:
    with pytest.raises(Throttled) as raised:
        read(told(text, member))
    assert (raised.value.code, raised.value.retry_after) == (f"rate_limited_{code}", wait)


def test_a_rate_wording_without_a_span_is_unspecified() -> None:
    with pytest.raises(Throttled) as raised:
        read(told("You hit a rate limit."))
    assert raised.value.code == "rate_limited"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("the parameter apikey is invalid or missing. Please claim your key.", "invalid_key"),
        ("The **demo** API key is for demo purposes only.", "invalid_key"),
        ("Thank you! This is a premium endpoint. Subscribe to a premium plan.", "premium_required"),
        ("This is a premium endpoint. THE SAMPLE DATA IS ARTIFICIAL", "premium_required"),
    ],
)
@pytest.mark.parametrize("member", ["Information", "Note", "Error Message", "message"])
def test_refusals_of_key_and_plan(member: str, text: str, code: str) -> None:
    with pytest.raises(ProviderRefused) as raised:
        read(told(text, member))
    assert raised.value.code == code
    assert not raised.value.retryable


def test_artificial_data_is_no_price_even_beside_a_quote() -> None:
    body = json.loads(quote_body()) | {"message": "THE DATA BELOW IS ARTIFICIAL"}
    with pytest.raises(NotAPrice):
        read(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"Global Quote": {}}', UnknownSymbol),
        (b"{}", UnknownSymbol),
        (told("Invalid API call. Please retry or visit it.", "Error Message"), UnknownSymbol),
        (told("Could not satisfy the request Accept header.", "detail"), NotAPrice),
        (told("Something never seen before."), NotAPrice),
        (quote_body(symbol="OTHER"), NotAPrice),
        (quote_body(symbol=""), NotAPrice),
        (quote_body(price="0.0000"), NotAPrice),
        (quote_body(price="-1.0"), NotAPrice),
        (quote_body(price="NaN"), NotAPrice),
        (quote_body(price="1_000"), NotAPrice),
        (quote_body(price="٣"), NotAPrice),
        (quote_body(price=""), NotAPrice),
        (quote_body(price=None), NotAPrice),
        (quote_body(price=True), NotAPrice),
        (quote_body(price="1" * 81), NotAPrice),
        (quote_body(day="2024-02-30"), NotAPrice),
        (quote_body(day=""), NotAPrice),
        (quote_body(day="0000-00-00"), NotAPrice),
        (quote_body(day="0001-01-01"), NotAPrice),
        (series_body({}), NotAPrice),
        (series_body({"2024-01-10 15:55:00": "2"}, symbol="OTHER"), NotAPrice),
        (series_body({"2024-01-10 15:55:00": "2"}, zone="Nowhere/Land"), NotAPrice),
        (series_body({"2024-01-10 15:55:00": "2"}, zone="../UTC"), NotAPrice),
        (series_body({"2024-01-10 15:55:00": "2"}, zone="America"), NotAPrice),
        (series_body({"9999-12-31 23:00:00": "2"}), NotAPrice),
        (b"<html>Service Unavailable</html>", NotAPrice),
        (b"", NotAPrice),
        (b"[1]", NotAPrice),
        (b"NaN", NotAPrice),
        (b"\xff\xfe\x00", NotAPrice),
        (b"[" * 200_000, NotAPrice),
        (b'{"Global Quote": {"05. price": 1e99999999999999999999}}', NotAPrice),
        (b'{"Global Quote": 7}', NotAPrice),
    ],
)
def test_what_is_no_price(body: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error):
        read(body)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "provider_down"),
        (503, "provider_down"),
        (429, "rate_limited"),
        (401, "invalid_key"),
        (403, "invalid_key"),
        (404, "not_a_price"),
        (302, "not_a_price"),
    ],
)
@pytest.mark.parametrize("body", [b"<html>", b"{}", quote_body()])
def test_the_status_counts_where_the_body_refuses_nothing(
    body: bytes, status: int, code: str
) -> None:
    with pytest.raises(ProviderError) as raised:
        read(body, status)
    assert raised.value.code == code


def test_the_wording_counts_more_than_the_status() -> None:
    with pytest.raises(Throttled):
        read(told("rate limit: 5 requests per minute"), 503)
    with pytest.raises(ProviderDown):
        read(told("we are away"), 503)


def test_an_exchange_rate_of_another_pair_is_refused() -> None:
    with pytest.raises(NotAPrice):
        read(rate_body(), symbol="EUR/GBP")
    with pytest.raises(NotAPrice):
        read(rate_body(**{"6_at_Last Refreshed": "2024-07-05"}), symbol="EUR/USD")


@pytest.mark.parametrize(
    "now",
    [datetime(2024, 3, 10, 3, 0, tzinfo=UTC), datetime(2024, 3, 10, 12, 0, tzinfo=UTC)],
)
def test_the_daily_wait_ends_at_midnight_in_new_york_across_clock_changes(now: datetime) -> None:
    with pytest.raises(Throttled) as raised:
        read(told("25 requests per day"), fetched_at=now)
    assert raised.value.retry_after == {3: 2 * 3600.0, 12: 16 * 3600.0}[now.hour]


def test_error_texts_hold_no_key_and_are_short_and_printable() -> None:
    text = "We have detected your API key as S3CRET\n and the limit of 25 requests per day. " * 9
    for secret in ("S3CRET", ""):
        with pytest.raises(Throttled) as raised:
            read(told(text), secret=secret)
        detail = raised.value.detail
        assert "S3CRET" not in detail
        assert detail.isprintable()
        assert len(detail) <= MAX_SAID + len("Alpha Vantage: ")
    with pytest.raises(NotAPrice) as refused:
        read(quote_body(symbol="S3CRET"), secret="S3CRET")
    assert "S3CRET" not in refused.value.detail


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTC/USD", ("BTC", "USD")),
        ("EUR-USD", ("EUR", "USD")),
        ("DOGE/USDT", ("DOGE", "USDT")),
        ("BRK-B", None),
        ("BRK.B", None),
        ("ABC-WS", None),
        ("btc/usd", None),
        ("ACME", None),
        ("BTC/USD/X", None),
    ],
)
def test_what_is_a_pair(symbol: str, pair: tuple[str, str] | None) -> None:
    assert split_pair(symbol) == pair


@given(st.from_regex(r"[1-9][0-9]{0,14}(\.[0-9]{1,15})?", fullmatch=True))
def test_any_digits_come_through_unchanged(digits: str) -> None:
    assert price_text(read(quote_body(price=digits)).price) == digits
    number = quote_body(price="@").replace(b'"@"', digits.encode())
    assert price_text(read(number).price) == digits
    quote = read(rate_body(**{"5_at_Exchange Rate": digits}), symbol="EUR/USD")
    assert quote.price == Decimal(digits)


@given(st.binary(), st.integers(100, 599))
def test_any_bytes_end_in_a_provider_error(body: bytes, status: int) -> None:
    with pytest.raises(ProviderError):
        read(body, status)


names = st.sampled_from(
    [
        "Global Quote",
        "Realtime Currency Exchange Rate",
        "Time Series (1min)",
        "Meta Data",
        "Information",
        "01. symbol",
        "05. price",
        "07. latest trading day",
        "2. Symbol",
        "6. Time Zone",
        "4. close",
        "2024-03-20 10:00:00",
    ]
)
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values |= st.sampled_from(["ACME", "1.5", "2024-03-20", "UTC", "America", "2024-03-20 10:00:00"])
documents = st.recursive(
    values, lambda inner: st.lists(inner) | st.dictionaries(names | st.text(), inner), max_leaves=20
)


@given(documents)
def test_any_json_is_an_exact_quote_or_a_provider_error(document: object) -> None:
    try:
        quote = read(json.dumps(document).encode())
    except ProviderError as error:
        error.detail.encode()
    else:
        assert quote.symbol == "ACME"


def recorded_cases() -> list[dict[str, Any]]:
    if not (RECORDED / "expected.json").exists():
        return []
    cases = json.loads((RECORDED / "expected.json").read_text())
    return [case for case in cases if case["provider"] == "alpha_vantage"]


def test_recorded_answers() -> None:
    cases = recorded_cases()
    if not cases:
        pytest.skip("the recorded answers of the provider are not beside this checkout")
    for case in cases:
        expect, body = case["expect"], (RECORDED / case["file"]).read_bytes()
        if expect["kind"] == "error":
            with pytest.raises(ProviderError) as raised:
                read(body, case["http_status"])
            assert raised.value.code == expect["error_class"]
            assert raised.value.retryable is expect["retryable"]
            continue
        quote = read(body, case["http_status"], symbol=expect["symbol"])
        assert price_text(quote.price) == expect["price"]
        assert quote.precision.value == expect["timestamp_precision"]
        expected = datetime.fromisoformat(expect["timestamp_utc"])
        assert quote.timestamp == expected.replace(tzinfo=UTC)
