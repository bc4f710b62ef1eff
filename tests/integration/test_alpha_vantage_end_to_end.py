"""Alpha Vantage's answers through the whole house: vendor, HTTP answer, database, Kafka topic.

The recorded answers lie beside the checkout, where they are; without them those tests are skipped.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pricewire.errors import Throttle
from tests.kafka_tools import KafkaTools, free_port
from tests.service_tools import Published, Service, eventually, published, running

pytestmark = pytest.mark.kafka

RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded"
KEY = "T0P+SECRET/KEY=42"
STATUSES = {
    "unknown_symbol": 404,
    "invalid_key": 502,
    "premium_required": 502,
    "not_a_price": 502,
    **{throttle.value: 503 for throttle in Throttle},
}
JSON = "application/json"


def body(symbol: str, price: str = "70.500", day: str = "2026-07-01") -> bytes:
    return (
        f'{{ "Global Quote": {{\n  "01. symbol": "{symbol}",  "05. price": "{price}",\n'
        f'  "07. latest trading day": "{day}"\n}} }}\r\n'
    ).encode()


def rate(base: str, other: str, price: str) -> bytes:
    members = {
        "1. From_Currency Code": base,
        "3. To_Currency Code": other,
        "5. Exchange Rate": price,
        "6. Last Refreshed": "2026-07-01 12:30:15",
        "7. Time Zone": "UTC",
    }
    return json.dumps({"Realtime Currency Exchange Rate": members}, indent=4).encode()


def recorded() -> list[Any]:
    if not (RECORDED / "expected.json").exists():
        reason = f"no recorded answers at {RECORDED}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    entries = json.loads((RECORDED / "expected.json").read_text())
    return [
        pytest.param(entry, id=Path(entry["file"]).stem)
        for entry in entries
        if entry["provider"] == "alpha_vantage"
    ]


COOLS_OFF = {code for code in STATUSES if code.startswith("rate_limited")} | {"invalid_key"}


@pytest.fixture(scope="module")
def topic() -> str:
    return f"price-events-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def environment(kafka: KafkaTools, make_httpserver: HTTPServer) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "ALPHA_VANTAGE_API_KEY": KEY,
        "ALPHA_VANTAGE_BASE_URL": make_httpserver.url_for(""),
        "ALPHA_VANTAGE_BUDGET": "off",
        "PROVIDER_TIMEOUT_SECONDS": "1",
        "LOG_LEVEL": "DEBUG",
    }


@pytest.fixture(scope="module")
def service(
    environment: dict[str, str], topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("alpha-vantage")
    with running(Service(home, environment | {"KAFKA_PRICE_EVENTS_TOPIC": topic})) as service:
        eventually(service.publishes)
        yield service


def ask(service: Service, symbol: str, **parameters: object) -> tuple[int, dict[str, str], str]:
    more = "".join(f"&{name}={value}" for name, value in parameters.items())
    status, headers, answer = service.get(
        f"/v1/prices/latest?symbol={quote(symbol, safe='')}&wait_ms=10000{more}"
    )
    return status, headers, answer.decode()


def record_of(answer: dict[str, Any], kafka: KafkaTools, topic: str) -> Published:
    [record] = [one for one in published(kafka, topic) if one.event_id == answer["event"]["id"]]
    return record


@pytest.mark.parametrize("entry", recorded())
def test_each_recorded_answer_gives_its_value_or_its_error(
    service: Service, kafka: KafkaTools, topic: str, httpserver: HTTPServer, entry: Any
) -> None:
    given = (RECORDED / entry["file"]).read_bytes()
    httpserver.expect_request("/query").respond_with_data(
        given, entry["http_status"], content_type=JSON
    )
    if entry["expect"]["kind"] == "quote":
        _check_quote(service, kafka, topic, entry["expect"], given)
    else:
        _check_error(service, kafka, topic, entry["expect"])


def _check_quote(
    service: Service, kafka: KafkaTools, topic: str, expect: Any, given: bytes
) -> None:
    status, _, text = ask(service, expect["symbol"])
    assert status == 200, text
    assert f'"price":{expect["price"]},' in text
    day_only = expect["timestamp_precision"] == "day"
    timestamp = expect["timestamp_utc"] + ("T00:00:00Z" if day_only else "")
    answer = json.loads(text)
    assert answer["symbol"] == expect["symbol"]
    assert (answer["timestamp"], answer["source"]) == (timestamp, "alpha_vantage")
    assert answer["timestamp_precision"] == expect["timestamp_precision"]
    assert answer["event"]["state"] == "published"

    record = record_of(answer, kafka, topic)
    assert record.key == expect["symbol"]
    assert record.value.decode() == (
        f'{{"symbol":"{expect["symbol"]}","price":{expect["price"]},"timestamp":"{timestamp}",'
        f'"source":"alpha_vantage","raw_response_id":"{answer["raw_response_id"]}"}}'
    )
    precision = record.headers.get("pw-precision", "second")
    assert precision == expect["timestamp_precision"]
    assert service.get(f"/v1/raw-responses/{answer['raw_response_id']}")[2] == given


def _check_error(service: Service, kafka: KafkaTools, topic: str, expect: Any) -> None:
    before = {record.event_id for record in published(kafka, topic)}
    status, headers, text = ask(service, "MSFT")
    problem = json.loads(text)
    assert problem["code"] == expect["error_class"]
    assert status == problem["status"] == STATUSES[expect["error_class"]]
    assert headers["content-type"] == "application/problem+json"
    assert problem["retryable"] is expect["retryable"]
    assert ("retry-after" in headers) is expect["retryable"]
    if expect["retryable"]:
        assert int(headers["retry-after"]) == problem["retry_after"] > 0
    if expect.get("retry_after") == "60 s":
        assert headers["retry-after"] == "60"
    if expect["error_class"] == "rate_limited_daily":
        assert int(headers["retry-after"]) <= 25 * 3600

    # The next event of the same symbol, and so of the same partition, follows directly.
    after = json.loads(ask(service, "MSFT", provider="history")[2])
    assert after["event"]["state"] == "published"
    assert {one.event_id for one in published(kafka, topic)} - before == {after["event"]["id"]}
    if expect["error_class"] in COOLS_OFF:
        _restart(service)


def _restart(service: Service) -> None:
    """Begin anew: who was throttled or refused asks the vendor no more for a while."""
    assert service.stop() == 0
    service.start()
    eventually(service.publishes)


def test_digits_stay_as_they_are_in_the_answer_and_on_the_topic(
    service: Service, kafka: KafkaTools, topic: str, httpserver: HTTPServer
) -> None:
    for price in ("112.1300", "0.00000001", "123456789012345678.123456789"):
        httpserver.clear()
        httpserver.expect_request("/query").respond_with_data(body("IBM", price), content_type=JSON)
        status, _, text = ask(service, "IBM")
        assert status == 200, text
        assert f'"price":{price},' in text
        record = record_of(json.loads(text), kafka, topic)
        assert f'"price":{price},'.encode() in record.value


@pytest.mark.parametrize(
    ("symbol", "given", "expected"),
    [
        ("BRK.B", body("BRK.B"), {"function": "GLOBAL_QUOTE", "symbol": "BRK.B"}),
        (
            "EUR/USD",
            rate("EUR", "USD", "1.08540000"),
            {
                "function": "CURRENCY_EXCHANGE_RATE",
                "from_currency": "EUR",
                "to_currency": "USD",
            },
        ),
    ],
)
def test_the_vendor_is_asked_with_the_right_parameters(
    service: Service,
    kafka: KafkaTools,
    topic: str,
    httpserver: HTTPServer,
    symbol: str,
    given: bytes,
    expected: dict[str, str],
) -> None:
    httpserver.expect_request("/query").respond_with_data(given, content_type=JSON)
    status, _, text = ask(service, symbol)
    assert status == 200, text
    [(request, _)] = httpserver.log
    assert request.method == "GET"
    assert request.args.to_dict(flat=False) == {
        name: [value] for name, value in (expected | {"apikey": KEY}).items()
    }
    answer = json.loads(text)
    assert answer["symbol"] == symbol
    assert record_of(answer, kafka, topic).key == symbol
    path = f"/v1/events/{answer['event']['id']}"
    eventually(lambda: service.json(path)["state"] == "published")


def test_the_raw_response_comes_back_byte_for_byte_without_the_key(
    service: Service, httpserver: HTTPServer
) -> None:
    given = body("IBM") + b"\n\n  "
    httpserver.expect_request("/query").respond_with_data(given, content_type=JSON)
    answer = json.loads(ask(service, "IBM")[2])
    status, headers, raw = service.get(f"/v1/raw-responses/{answer['raw_response_id']}")
    assert (status, raw) == (200, given)
    assert headers["content-type"] == "application/json"
    assert (headers["pw-provider"], headers["pw-status"]) == ("alpha_vantage", "200")
    origin = httpserver.url_for("")
    assert headers["pw-url"].startswith(f"{origin.rstrip('/')}/query?function=GLOBAL_QUOTE")
    assert "apikey" not in headers["pw-url"]


def test_what_was_answered_as_published_is_published_in_its_receipt(service: Service) -> None:
    states = set()
    for _ in range(20):
        event = json.loads(ask(service, "AAPL", provider="history")[2])["event"]
        receipt = service.json(f"/v1/events/{event['id']}")
        states.add((event["state"], receipt["state"], receipt["partition"]))
    assert states == {("published", "published", 3)}


def test_history_still_answers(service: Service, httpserver: HTTPServer) -> None:
    status, _, text = ask(service, "AAPL", provider="history")
    answer = json.loads(text)
    assert (status, answer["source"], answer["timestamp_precision"]) == (200, "history", "day")
    assert answer["event"]["state"] == "published"
    assert httpserver.log == []


def test_a_vendor_that_does_not_answer_in_time_is_504(
    service: Service, httpserver: HTTPServer
) -> None:
    asked = threading.Event()

    def never(_: Request) -> Response:
        asked.wait(1.5)
        return Response(body("IBM"))

    httpserver.expect_request("/query").respond_with_handler(never)
    status, headers, text = ask(service, "IBM")
    assert (status, json.loads(text)["code"]) == (504, "provider_timed_out")
    assert int(headers["retry-after"]) >= 1


def test_a_server_error_of_the_vendor_is_503(service: Service, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/query").respond_with_data(b"<h1>oops</h1>", 500)
    status, headers, text = ask(service, "IBM")
    assert (status, json.loads(text)["code"]) == (503, "provider_down")
    assert int(headers["retry-after"]) >= 1


def test_a_vendor_that_is_down_is_503_and_the_key_is_nowhere(
    environment: dict[str, str], httpserver: HTTPServer, tmp_path: Path
) -> None:
    port = free_port()
    given = environment | {
        "ALPHA_VANTAGE_BASE_URL": f"http://127.0.0.1:{port}",
        "KAFKA_PRICE_EVENTS_TOPIC": f"price-events-{uuid4().hex[:8]}",
    }
    with running(Service(tmp_path / "home", given)) as service:
        status, headers, text = ask(service, "IBM")
        assert (status, json.loads(text)["code"]) == (503, "provider_down")
        assert int(headers["retry-after"]) >= 1
        assert service.stop() == 0
        _assert_no_key(text, service.log, *_files(service.home))


def test_the_key_is_in_no_answer_no_log_and_no_file(
    environment: dict[str, str], httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Not even where the vendor repeats it, where it hangs, and where it breaks off."""
    given = environment | {"KAFKA_PRICE_EVENTS_TOPIC": f"price-events-{uuid4().hex[:8]}"}
    with running(Service(tmp_path / "home", given)) as service:
        answers = [
            _asked(service, httpserver, content, status)
            for content, status in (
                (body("IBM"), 200),
                (_said("Information", f"We have detected your API key as {KEY} and our ..."), 200),
                (_said("Error Message", f"the parameter apikey is invalid or missing: {KEY}"), 200),
                (_said("Note", f"{KEY}: 5 calls per minute is the call frequency"), 200),
                (f"<h1>{KEY}</h1>".encode(), 500),
                (f'"{KEY}'.encode(), 200),
                (_said(KEY, KEY), 200),
                (b"", 302),
            )
        ]
        price = json.JSONDecoder().raw_decode(answers[0])[0]
        assert price["event"]["state"] == "published"
        for path in (
            f"/v1/raw-responses/{price['raw_response_id']}",
            f"/v1/events/{price['event']['id']}",
            *("/health/ready", "/metrics", "/openapi.json", "/nowhere"),
        ):
            _, headers, answer = service.get(path)
            answers += [str(headers), answer.decode()]
        assert service.stop() == 0
    _assert_no_key(*answers, service.log)
    files = _files(service.home)
    assert any(content.startswith(b"SQLite format 3") for content in files)
    assert any(b"latest trading day" in content for content in files)
    _assert_no_key(*files)


def _asked(service: Service, httpserver: HTTPServer, content: bytes, status: int) -> str:
    httpserver.clear()
    location = {"Location": httpserver.url_for(f"/query?apikey={quote_plus(KEY)}")}
    httpserver.expect_request("/query").respond_with_data(content, status, headers=location)
    _, headers, text = ask(service, "IBM")
    assert {request.args["apikey"] for request, _ in httpserver.log} == {KEY}
    if any(f'"{code}"' in text for code in COOLS_OFF):
        _restart(service)
    return text + str(headers)


def _said(member: str, text: str) -> bytes:
    return json.dumps({member: text}).encode()


def _files(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in home.rglob("*") if path.is_file()]


def _assert_no_key(*texts: str | bytes) -> None:
    for form in (KEY, quote(KEY, safe=""), quote_plus(KEY, safe="/"), json.dumps(KEY)[1:-1]):
        for text in texts:
            content = text.encode() if isinstance(text, str) else text
            assert form.encode() not in content
