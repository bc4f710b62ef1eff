"""The files of docs/contract: made from the models, true of every record, valid as documents."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from pricewire.bootstrap_tools import contract
from pricewire.domain.event import EventId, Source, WaitingEvent
from pricewire.domain.quote import Precision, PriceKind
from pricewire.kafka.codec import (
    NOT_OURS_TO_COUNT,
    Headers,
    encode_price_event,
    headers_of_a_test,
    record_headers,
)
from pricewire.settings import Settings
from tests.builders import RECORDED_AT, make_quote
from tests.contract_tools import (
    FOLDER,
    complaints_about_headers,
    complaints_about_value,
    contract_file,
)
from tests.kafka_tools import CHECKOUT

ASYNCAPI = CHECKOUT / "tests" / "data" / "asyncapi-3.0.0.json.gz"
TOPIC = "price-events"
VALUE: dict[str, Any] = {
    "symbol": "AAPL",
    "price": 150.25,
    "timestamp": "2024-03-20T10:30:00Z",
    "source": "alpha_vantage",
    "raw_response_id": "018e5b2e-9c1a-7f3b-8a52-0d5f4f1f3c11",
}
PRICES = st.builds(
    lambda digits, exponent: Decimal(f"{digits}E{exponent}"),
    st.integers(1, 10**20 - 1),
    st.integers(-12, 12),
)


def test_the_files_are_those_that_make_contract_writes() -> None:
    written = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert written == contract(), "run `make contract` and look at what changed for consumers"


def test_no_setting_of_this_machine_gets_into_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PRICE_EVENTS_TOPIC", "elsewhere")
    monkeypatch.setenv("KAFKA_TOPIC_PARTITIONS", "99")
    assert b"elsewhere" not in b"".join(contract().values())
    assert b"99" not in b"".join(contract().values())


@pytest.mark.parametrize("name", sorted(name for name in contract() if "schema" in name))
def test_a_schema_is_one_and_says_what_each_member_means(name: str) -> None:
    schema = contract_file(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert schema["examples"]
    Draft202012Validator(schema).validate(schema["examples"][0])
    for member in schema["properties"].values():
        assert len(member["description"]) > 10
        assert "type" in member


def test_the_asyncapi_document_is_one() -> None:
    schema = json.loads(gzip.decompress(ASYNCAPI.read_bytes()))
    document = json.loads((FOLDER / "asyncapi.json").read_bytes())
    assert [error.message for error in Draft7Validator(schema).iter_errors(document)] == []
    broken = document | {"channels": {TOPIC: {"address": 7}}}
    assert list(Draft7Validator(schema).iter_errors(broken))


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = contract_file("asyncapi.json")
    found = list(references(document))
    assert len(found) >= 5
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [found for one in part for found in references(one)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if "$ref" in part else []
    return own + [found for one in part.values() for found in references(one)]


def test_a_channel_is_the_topic_that_the_settings_make() -> None:
    kafka = contract_file("asyncapi.json")["channels"][TOPIC]["bindings"]["kafka"]
    fields = Settings.model_fields
    assert kafka["topic"] == fields["kafka_price_events_topic"].default == TOPIC
    assert kafka["partitions"] == fields["kafka_topic_partitions"].default
    assert kafka["replicas"] == fields["kafka_topic_replication_factor"].default
    hours = kafka["topicConfiguration"]["retention.ms"] / 3_600_000
    assert hours == fields["kafka_topic_retention_hours"].default


@given(PRICES, st.sampled_from(["AAPL", "EUR/USD", "^GSPC", "BINANCE:BTCUSDT"]))
def test_every_value_of_the_codec_is_what_the_schema_says(price: Decimal, symbol: str) -> None:
    quote = make_quote(symbol, str(price))
    value, _ = encode_price_event(quote, provider="history", raw_response_id=uuid4())
    assert complaints_about_value(TOPIC, value) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "150.25"},
        {"price": 0},
        {"price": -1},
        {"symbol": ""},
        {"symbol": "A" * 33},
        {"raw_response_id": "no-uuid"},
        {"more": 1},
    ],
    ids=str,
)
def test_another_value_is_not_what_the_schema_says(changes: dict[str, Any]) -> None:
    assert complaints_about_value(TOPIC, msgspec.json.encode(VALUE)) == []
    assert complaints_about_value(TOPIC, msgspec.json.encode(VALUE | changes))


@pytest.mark.parametrize("missing", VALUE)
def test_no_member_may_be_missing(missing: str) -> None:
    rest = {name: value for name, value in VALUE.items() if name != missing}
    assert complaints_about_value(TOPIC, msgspec.json.encode(rest))


def texts(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers if isinstance(value, bytes)}


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("kind", PriceKind)
def test_every_header_of_the_codec_is_documented(precision: Precision, kind: PriceKind) -> None:
    quote = make_quote(precision=precision, kind=kind, currency="GBp")
    value, extra = encode_price_event(quote, provider="history", raw_response_id=uuid4())
    event = WaitingEvent(
        1, EventId("AAPL", 1), "price.recorded", uuid4(), RECORDED_AT, value, extra
    )
    published = texts(record_headers(event, Source(uuid4(), 1)))
    assert complaints_about_headers(TOPIC, published) == []
    assert complaints_about_headers(TOPIC, texts(headers_of_a_test(uuid4(), extra))) == []


def test_the_five_headers_are_required_and_those_that_say_not_to_count_are_documented() -> None:
    document = contract_file("asyncapi.json")
    headers = document["components"]["messages"]["price.recorded"]["headers"]
    assert set(headers["required"]) == {
        *("ce_specversion", "ce_id", "ce_type", "ce_source", "content-type")
    }
    assert set(NOT_OURS_TO_COUNT) <= set(headers["properties"])
    assert complaints_about_headers(TOPIC, {"ce_id": "AAPL~1"})
