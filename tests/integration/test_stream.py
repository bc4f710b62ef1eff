"""The live stream as its users meet it: on a real Kafka, from a service of its own."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.kafka_tools import KafkaTools
from tests.service_tools import Service, eventually, running, taken_apart
from tests.stream_tools import Said, SseReader

pytestmark = pytest.mark.kafka

VALUE = (
    '{"symbol":"%s","price":%s,"timestamp":"2024-03-20T10:30:00Z","source":"mine",'
    '"raw_response_id":"01a208e5-dfcd-7325-bd50-2c7e2cf2631a"%s}'
)
READERS = 12
EARLIER = 1_500
"""Records of a partition from before anybody read: more than are read before the ends."""
GONE = 1_000


@pytest.fixture(scope="module")
def topic() -> str:
    return f"events-{uuid4().hex[:8]}"


def settings_of(kafka: KafkaTools, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": topic,
        "KAFKA_MOVING_AVERAGES_TOPIC": f"{topic}-averages",
        "KAFKA_CANDLES_TOPIC": f"{topic}-candles",
        "KAFKA_PRICE_HISTORY_TOPIC": f"{topic}-history",
        "KAFKA_GROUP_PREFIX": topic,
        "KAFKA_TOPIC_RETENTION_HOURS": "-1",
        "AVERAGES": "sma:2",
        "CHECKPOINT_SECONDS": "0.2",
        "HISTORY_INTERVAL_SECONDS": "0.05",
        "STREAM_READERS": str(READERS),
        "STREAM_HEARTBEAT_SECONDS": "0.3",
    }


@pytest.fixture(scope="module")
def service(
    kafka: KafkaTools, topic: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    kafka.create_topic(topic)
    earlier = [("EARLY", number % EARLIER, 0) for number in range(EARLIER)]
    produce(kafka, topic, earlier + [("EXPIRED", number, 5) for _, number, _ in earlier])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(topic, 5, GONE)]).values():
        deleted.result(10)
    folder = tmp_path_factory.mktemp("stream")
    with running(Service(folder, settings_of(kafka, topic))) as service:
        yield service


def produce(
    kafka: KafkaTools, topic: str, records: list[tuple[str, int, int]], padding: int = 0
) -> None:
    """Put (symbol, price, partition) on the topic, as another producer may."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 1})
    for symbol, price, partition in records:
        value = VALUE % (symbol, price + 1, " " * padding)
        producer.produce(topic, value, symbol, partition)
        producer.poll(0)
    assert producer.flush(20) == 0


def produce_paced(
    kafka: KafkaTools, topic: str, records: list[tuple[str, int, int]], padding: int = 0
) -> None:
    """Produce some hundred records a second."""
    for at in range(0, len(records), 20):
        produce(kafka, topic, records[at : at + 20], padding)
        time.sleep(0.01)


def sse(service: Service, query: str = "", last: str | None = None, **more: Any) -> SseReader:
    return SseReader(service.port, query, last, **more)


def websocket(service: Service, query: str = "") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{service.port}/v1/stream?{query}", max_size=None)


def messages(connection: ClientConnection) -> Iterator[dict[str, Any]]:
    """Give the events of a WebSocket, until it is closed."""
    while True:
        try:
            message = connection.recv(20)
        except ConnectionClosed:
            return
        yield from json.loads(message, parse_float=Decimal)


def on_topic(kafka: KafkaTools, topic: str) -> dict[tuple[str, int, int], bytes]:
    return {
        (topic, one.partition() or 0, one.offset() or 0): bytes(one.value() or b"")
        for one in kafka.read_all(topic)
    }


def test_prices_averages_and_candles_come_as_they_stand_on_their_topics(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    with sse(service, "symbols=AAPL") as reader, websocket(service, "symbols=AAPL") as other:
        assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.until("open").data == {
            "topics": ["prices", "averages", "candles"], "symbols": ["AAPL"], "slow": "conflate",
        }  # fmt: skip
        said = messages(other)
        assert next(said)["event"] == "open"
        asked = []
        for _ in range(4):
            service.price("MSFT")
            asked.append(service.price("AAPL", wait_ms=5000))
            time.sleep(0.06)
        prices = reader.take(4)
        assert [one.data["id"] for one in prices] == [one["event"]["id"] for one in asked]
        assert [one.data["value"]["raw_response_id"] for one in prices] == [
            one["raw_response_id"] for one in asked
        ]
    own = [taken_apart(one) for one in kafka.read_all(topic) if one.key() == b"AAPL"]
    records = {one.event_id: one for one in own}
    for price in prices:
        record = records[price.data["id"]]
        assert record.value in price.text.encode()
        assert price.data["source"] == record.headers["ce_source"]
        assert price.data["headers"] == {
            name: value for name, value in record.headers.items() if name.startswith("pw-")
        }
    assert {price.data["topic"] for price in prices} == {topic}
    # The same over WebSocket, from the same position on: price and average of each.
    with websocket(service, f"symbols=AAPL&last_event_id={prices[0].id}") as other:
        found = []
        for one in messages(other):
            assert one["event"] != "end", one
            found += [one] if one["event"] in ("price", "average") else []
            if len(found) == 6:
                break
    values = [one["data"] for one in found if one["event"] == "price"]
    assert values == [one.data for one in prices[1:]]
    averages = [one["data"] for one in found if one["event"] == "average"]
    assert [one["id"] for one in averages] == [f"{one.data['id']}~sma:2" for one in prices[1:]]
    whole = on_topic(kafka, f"{topic}-averages")
    for one in averages:
        value = whole[one["topic"], one["partition"], one["offset"]]
        assert json.loads(value, parse_float=Decimal) == one["value"]


def test_a_candle_comes_when_it_closes(service: Service, kafka: KafkaTools, topic: str) -> None:
    with sse(service, "topics=candles&symbols=CANDLE") as reader:
        reader.until("open")
        for minute in (30, 31):
            value = (VALUE % ("CANDLE", minute, "")).replace("10:30:00", f"10:{minute}:00")
            producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
            producer.produce(topic, value, "CANDLE", 2)
            assert producer.flush(10) == 0
        candle = reader.until("candle")
    assert candle.data["topic"] == f"{topic}-candles"
    assert (candle.data["value"]["interval"], candle.data["value"]["close"]) == ("1m", 30)
    assert candle.data["id"].endswith("~candle:1m:2024-03-20T10:30:00Z")


def test_tests_poison_and_other_line_ends_do_not_break_the_stream(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    value = VALUE % ("LINES", 1, "")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    with sse(service, "topics=prices&symbols=LINES") as reader:
        reader.until("open")
        producer.produce(topic, value, "LINES", 1, headers={"pw-test": "true"})
        producer.produce(topic, b"{\n\ndata: no", "LINES", 1)
        producer.produce(topic, None, "LINES", 1)
        producer.produce(topic, value.replace(",", "\r\n,\n\n "), "LINES", 1)
        assert producer.flush(10) == 0
        [event] = reader.take(1)
        assert event.data["value"] == json.loads(value)
        assert event.data["id"] == f"{topic}/1/{event.data['offset']}"


def test_a_position_from_before_goes_on_in_the_log_and_says_what_expired(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    with sse(service, "topics=prices") as reader:
        tag = (reader.until("open").id or "").split(".")[1]
    start = f"p.{tag}.0.0.0.0.0.0"
    expected = set(on_topic(kafka, topic))
    assert len({place for place in expected if place[1] == 0}) >= EARLIER
    got: list[Said] = []
    with sse(service, "topics=prices", start) as reader:
        gap = reader.until("gap")
        assert gap.data == {
            "reason": "expired", "topic": "prices", "partition": 5, "position": 0,
            "next": GONE, "lost": GONE,
        }  # fmt: skip
        while len(got) < 1_900:
            got.append(reader.until("price"))
        middle = got[-1].id
    with sse(service, "topics=prices", middle) as reader:
        places = {one.place for one in got}
        unreadable = {place for place in expected if place[1] == 1}
        while not expected - unreadable <= places:
            one = reader.until("price")
            assert one.place not in places
            places.add(one.place)
    # Only those of one symbol: each partition is read all the same.
    with sse(service, "topics=prices&symbols=EARLY,NONE", start) as reader:
        reader.until("gap")
        assert [one.data["value"]["price"] for one in reader.take(EARLIER)] == [
            number + 1 for number in range(EARLIER)
        ]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_reader_that_breaks_off_anywhere_misses_and_repeats_nothing(
    service: Service, kafka: KafkaTools, topic: str, seed: int
) -> None:
    dice = random.Random(seed)
    symbols = [f"CUT{seed}{letter}" for letter in "ABC"]
    records = [(dice.choice(symbols), number, dice.randrange(6)) for number in range(1_000)]
    query = f"topics=prices&symbols={','.join(symbols)}"
    with sse(service, query) as reader:
        last = reader.until("open").id
    producing = threading.Thread(target=produce_paced, args=(kafka, topic, records))
    producing.start()
    got: list[tuple[str, int, int]] = []
    while len(got) < len(records):
        if dice.random() < 0.7:
            found, last = _some_by_sse(service, query, last, dice)
        else:
            found, last = _some_by_websocket(service, query, last, dice)
        got += found
    producing.join()
    with sse(service, query, last) as reader:
        assert reader.until("heartbeat", "price").name == "heartbeat"
    keys = {symbol.encode() for symbol in symbols}
    there = [
        (topic, one.partition() or 0, one.offset() or 0)
        for one in kafka.read_all(topic)
        if one.key() in keys
    ]
    assert sorted(got) == sorted(there)
    assert len(there) == len(records)


def _some_by_sse(
    service: Service, query: str, last: str | None, dice: random.Random
) -> tuple[list[tuple[str, int, int]], str | None]:
    """Read so many bytes; what is not whole by then is lost with the connection."""
    with sse(service, query, last) as reader:
        left = dice.randrange(500, 60_000)
        while left > 0:
            size = dice.randrange(1, left + 1)
            reader.receive(size)
            left -= size
            if any(one.name == "heartbeat" for one in reader.whole_so_far):
                break
        return [one.place for one in reader.whole() if one.name == "price"], reader.last_id


def _some_by_websocket(
    service: Service, query: str, last: str | None, dice: random.Random
) -> tuple[list[tuple[str, int, int]], str | None]:
    found: list[tuple[str, int, int]] = []
    with websocket(service, f"{query}&last_event_id={last}") as connection:
        left = dice.randrange(1, 200)
        for said in messages(connection):
            last = said.get("id", last)
            if said["event"] == "price":
                data = said["data"]
                found.append((data["topic"], data["partition"], data["offset"]))
            left -= 1
            if left <= 0 or said["event"] == "heartbeat":
                break
    return found, last


def test_readers_that_do_not_read_slow_nobody_and_are_conflated_or_cut(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    rounds, symbols = 400, ["SLOWA", "SLOWB"]
    query = f"topics=prices&symbols={','.join(symbols)}"
    with ExitStack() as stack:
        frozen, cut = [
            stack.enter_context(sse(service, f"{query}&slow={slow}", receive_buffer=4_096))
            for slow in ("conflate", "cut")
        ]
        good = stack.enter_context(sse(service, query))
        good.until("open")
        records = [(symbol, number, 3) for number in range(rounds) for symbol in symbols]
        producing = threading.Thread(target=produce_paced, args=(kafka, topic, records, 2_000))
        producing.start()
        # Read as it comes, or it would be slow as well.
        prices = [one.data["value"]["price"] for one in good.take(len(records))]
        producing.join()
        assert prices == [number + 1 for _, number, _ in records]
        eventually(lambda: b'pricewire_stream_readers{state="behind"} 1.0' in metrics(service))
        got, left_out = 0, 0
        while got + left_out < len(records):
            said = frozen.until("price", "conflated")
            got += said.name == "price"
            left_out += said.data["left_out"] if said.name == "conflated" else 0
        newest = [one["price"] for one in (said.data["value"],)]
        assert newest == [rounds]
        assert left_out > rounds
        assert got + left_out == len(records)
        end = [one for one in cut.rest() if one.name == "end"]
        assert all(one.data["reason"] == "too_slow" for one in end)
        assert b"pricewire_stream_cut_total 1.0" in metrics(service)
        produce(kafka, topic, [("SLOWA", 9_999, 3)])
        assert [frozen.until("price").data["value"]["price"]] == [10_000]


def metrics(service: Service) -> bytes:
    return service.get("/metrics")[2]


def test_there_is_room_for_so_many_readers(service: Service) -> None:
    eventually(lambda: b'pricewire_stream_readers{state="connected"} 0.0' in metrics(service))
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(sse(service)).until("open")
        one_more = stack.enter_context(sse(service))
        assert (one_more.status, one_more.headers["retry-after"]) == (503, "5")
        assert one_more.problem()["code"] == "too_many_readers"
        refused = stack.enter_context(websocket(service))
        [told] = messages(refused)
        assert (told["event"], told["data"]["code"]) == ("problem", "too_many_readers")
        assert refused.protocol.close_code == 1013
    eventually(lambda: sse_status(service) == 200)


def sse_status(service: Service) -> int:
    with sse(service) as reader:
        return reader.status


def test_wrong_parameters_are_a_problem(service: Service) -> None:
    with sse(service, "symbols=A%20B") as reader:
        assert reader.status == 422
        assert reader.headers["content-type"] == "application/problem+json"
        assert reader.problem()["code"] == "invalid_symbol"
    with websocket(service, "topics=alerts") as refused:
        [told] = messages(refused)
        assert told["data"]["code"] == "invalid_parameter"
        assert refused.protocol.close_code == 1008
        assert "none of prices" in (refused.protocol.close_reason or "")
    assert service.get("/v1/stream", method="POST")[0] == 405
    status, headers, body = service.get("/v1/stream", method="HEAD")
    assert (status, headers["content-type"].split(";")[0], body) == (200, "text/event-stream", b"")


def test_a_position_that_is_none_is_told(service: Service) -> None:
    with sse(service, "topics=prices", "17") as reader:
        assert reader.until("open").id
        assert reader.until("gap").data == {"reason": "unknown_position"}


def test_a_stop_tells_readers_and_the_next_start_goes_on_where_they_were(
    kafka: KafkaTools, tmp_path: Path
) -> None:
    topic = f"stopped-{uuid4().hex[:8]}"
    service = Service(tmp_path, settings_of(kafka, topic))
    with running(service), ExitStack() as stack:
        query = "topics=prices&symbols=STOP"
        first = stack.enter_context(sse(service, query))
        second = stack.enter_context(websocket(service, query))
        frozen = stack.enter_context(sse(service, query, receive_buffer=4_096))
        first.until("open")
        frozen.until("open")
        produce(kafka, topic, [("STOP", number, 0) for number in range(200)], 3_000)
        assert [one.data["value"]["price"] for one in first.take(200)][-1] == 200
        began = time.monotonic()
        service.signal(signal.SIGTERM)
        assert first.until("end").data["reason"] == "shutting_down"
        told = list(messages(second))
        assert told[-1]["data"]["reason"] == "shutting_down"
        assert second.protocol.close_code == 1012
        assert service.process is not None
        assert service.process.wait(20) == 0
        assert time.monotonic() - began < 10
        produce(kafka, topic, [("STOP", number, 0) for number in range(200, 210)])
        service.start()
        back = stack.enter_context(sse(service, query, first.last_id))
        assert [one.data["value"]["price"] for one in back.take(10)] == list(range(201, 211))


def test_a_topic_that_was_made_anew_is_told(
    service: Service, kafka: KafkaTools, topic: str
) -> None:
    """The last test of this service: its processor of candles is confused by it."""
    query = "topics=candles"
    with sse(service, query) as reader:
        reader.until("open")
        kafka.delete_topic(f"{topic}-candles")
        assert reader.until("end").data["reason"] == "topics_changed"
        last = reader.last_id
    eventually(lambda: sse_status(service) == 200)
    with sse(service, query, last) as reader:
        assert reader.until("gap").data == {"reason": "other_topic", "topic": "candles"}
