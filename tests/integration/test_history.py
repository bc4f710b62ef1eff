"""Past prices as a user brings and reads them: files, a provider's history, what is no price."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import parquet
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.kafka_tools import KafkaTools
from tests.service_tools import PRICEWIRE, Service, eventually, taken_apart

pytestmark = pytest.mark.kafka

HEADER = "time,symbol,price,size\n"
GOOD = "2024-03-20T10:30:00.123456789Z,AAPL,150.2500,10\n"


@pytest.fixture(scope="module")
def vendor() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        server.expect_request("/api/v3/klines").respond_with_handler(klines)
        yield server


@pytest.fixture(scope="module")
def service(
    kafka: KafkaTools, vendor: HTTPServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    name = uuid4().hex[:8]
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_PRICE_EVENTS_TOPIC": f"events-{name}",
        "KAFKA_PRICE_HISTORY_TOPIC": f"history-{name}",
        "KAFKA_MOVING_AVERAGES_TOPIC": f"averages-{name}",
        "BINANCE_BASE_URL": vendor.url_for("").rstrip("/"),
        "BINANCE_BUDGET": "1000/hour",
        "LOG_LEVEL": "WARNING",
    }
    service = Service(tmp_path_factory.mktemp("service") / "home", environment)
    service.start()
    yield service
    service.kill()


@pytest.fixture
def source() -> str:
    """Another one for each test: what it brings is its own."""
    return f"s-{uuid4().hex[:12]}"


def pricewire(service: Service, folder: Path, *arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [PRICEWIRE, *map(str, arguments)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PRICEWIRE_HOME": str(folder),
            "API_PORT": str(service.port),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def stored(service: Service, symbol: str, source: str, **more: object) -> list[dict[str, Any]]:
    """Return what is stored, numbers as text."""
    query = urlencode({"symbol": symbol, "provider": source, "limit": 10_000, **more})
    status, _, body = service.get(f"/v1/prices?{query}")
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body, parse_float=str, parse_int=str)["prices"]
    return found


def history_count(service: Service) -> int:
    """Return how many past prices there are: those that were published and those that wait."""
    parts = service.json("/health/ready")["parts"]
    published = sum(shard["published"] for shard in parts["history_relay"]["shards"])
    return int(published + parts["history_outbox"]["waiting"])


def test_a_file_with_everything_that_csv_allows(
    service: Service, tmp_path: Path, source: str, kafka: KafkaTools
) -> None:
    file = tmp_path / "prices.csv"
    file.write_bytes(
        b"\xef\xbb\xbfDateTime;Note;Ticker;Last;Qty\r\n"
        b'2024-03-20 10:30:00.123456789Z;"two\nlines; and a ""quote""";AAPL;150.2500;10\r\n'
        b"2024-03-20;;BRK.B;0.000000012300;\r\n"
        b"\r\n"
        b"2024-03-20 06:30:01;x;AAPL;1e-8;0.5"
    )
    options = ["--source", source, "--timezone", "America/New_York", "--currency", "USD"]
    code, out, err = pricewire(service, tmp_path, "import", file, *options)
    assert (code, err) == (0, "")
    assert "time from 'DateTime', price from 'Last', symbol from 'Ticker', size from 'Qty'" in out
    assert "rows       3: 3 recorded, 0 there already, 0 bad" in out
    first, second = stored(service, "AAPL", source)
    assert (first["price"], first["size"], first["currency"]) == ("150.2500", "10", "USD")
    assert first["timestamp"] == "2024-03-20T10:30:00.123456789Z"
    assert first["timestamp_precision"] == "nanosecond"
    assert (second["timestamp"], second["price"]) == ("2024-03-20T10:30:01Z", "0.00000001")
    [daily] = stored(service, "BRK.B", source)
    assert (daily["price"], daily["kind"], daily["size"]) == ("0.000000012300", "close", None)
    # Where a number came from: the very bytes.
    _, headers, raw = service.get(f"/v1/raw-responses/{first['raw_response_id']}")
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n\r\n", b"\r\n")
    assert raw == lines
    assert (headers["pw-provider"], headers["pw-url"]) == (
        source,
        "import:prices.csv?lines=2-6",
    )
    eventually(lambda: service.json(f"/v1/events/{first['id']}")["state"] == "published")
    receipt = service.json(f"/v1/events/{first['id']}")
    assert receipt["type"] == "price.backfilled"
    topic = service.environment["KAFKA_PRICE_HISTORY_TOPIC"]
    assert receipt["topic"] == topic
    [record] = [
        one for one in map(taken_apart, kafka.read_all(topic)) if one.event_id == first["id"]
    ]
    assert (record.key, record.partition) == ("AAPL", receipt["partition"])
    assert b'"price":150.2500,' in record.value
    # Again: nothing new.
    code, out, _ = pricewire(service, tmp_path, "import", file, *options)
    assert "rows       3: 0 recorded, 3 there already, 0 bad" in out


BAD_ROWS: dict[str, tuple[str | bytes, str]] = {
    "price is NaN": ("2024-03-20T10:30:00Z,AAPL,NaN,1", "'NaN' is no price"),
    "price is negative": ("2024-03-20T10:30:00Z,AAPL,-1,1", "must be above zero"),
    "price is zero": ("2024-03-20T10:30:00Z,AAPL,0.00,1", "must be above zero"),
    "price has 65 digits": (f"2024-03-20T10:30:00Z,AAPL,{'1' * 65},1", "over 64 digits"),
    "year 0": ("0000-03-20T10:30:00Z,AAPL,1,1", "is no time"),
    "before 1600": ("1599-12-31T23:59:59Z,AAPL,1,1", "no market time"),
    "no offset": ("2024-03-20T10:30:00,AAPL,1,1", "has no offset: say --timezone"),
    "numbers for a time": ("1710930600,AAPL,1,1", "say --time-format"),
    "size is negative": ("2024-03-20T10:30:00Z,AAPL,1,-5", "is no size"),
    "no symbol": ("2024-03-20T10:30:00Z,,1,1", "is no symbol"),
    "a space in the symbol": ("2024-03-20T10:30:00Z,A B,1,1", "is no symbol"),
    "1 MB symbol": (f"2024-03-20T10:30:00Z,{'A' * 1_000_000},1,1", "longer than|field"),
    "too few values": ("2024-03-20T10:30:00Z,AAPL", "has 2 values, the header has 4"),
    "not UTF-8": (b"2024-03-20T10:30:00Z,AAPL\xff,1,1", "is not UTF-8"),
    "a surrogate in UTF-8": (b"2024-03-20T10:30:00Z,AAPL\xed\xa0\x80,1,1", "is not UTF-8"),
}


def test_every_bad_row_is_named_and_the_good_ones_are_kept(
    service: Service, tmp_path: Path, source: str
) -> None:
    file, rejects = tmp_path / "prices.csv", tmp_path / "rejects.csv"
    rows = [row if isinstance(row, bytes) else row.encode() for row, _ in BAD_ROWS.values()]
    file.write_bytes(b"\n".join([HEADER.strip().encode(), *rows, GOOD.encode()]))
    options = ["--source", source, "--rejects", rejects]
    code, out, err = pricewire(service, tmp_path, "import", file, *options)
    assert code == 1
    assert f"rows       {len(rows) + 1}: 1 recorded, 0 there already, {len(rows)} bad" in out
    assert [row["price"] for row in stored(service, "AAPL", source)] == ["150.2500"]
    named = {int(line.split(":")[0][5:]): line for line in err.splitlines()}
    for place, (name, (_, reason)) in enumerate(BAD_ROWS.items()):
        line = named[place + 2]
        assert any(one in line for one in reason.split("|")), (name, line)
        assert len(line) < 400
    csv.field_size_limit(10_000_000)
    with rejects.open(encoding="utf-8", newline="") as content:
        told = list(csv.DictReader(content))
    assert [int(row["line"]) for row in told] == sorted(named)


def test_of_many_bad_rows_the_first_are_named(
    service: Service, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(HEADER + "x,AAPL,1,1\n" * 500)
    code, out, err = pricewire(service, tmp_path, "import", file, "--source", source)
    assert (code, len(err.splitlines())) == (1, 22)
    assert "500 bad" in out


def test_strict_stores_nothing_where_one_row_is_bad_and_a_dry_run_never(
    service: Service, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "prices.csv"
    many = "".join(f"2024-03-20T10:30:00Z,AAPL,{n},1\n" for n in range(1, 2501))
    file.write_text(HEADER + many + "x,AAPL,1,1\n")
    for option, code in (("--strict", 1), ("--dry-run", 1)):
        found, out, err = pricewire(service, tmp_path, "import", file, "--source", source, option)
        assert (found, "line 2502" in err) == (code, True), (out, err)
        assert "nothing was stored" in out + err
        assert stored(service, "AAPL", source) == []
    file.write_text(HEADER + many)
    found, out, _ = pricewire(service, tmp_path, "import", file, "--source", source, "--dry-run")
    assert (found, "2500 prices, 0 bad rows" in out) == (0, True)
    assert stored(service, "AAPL", source) == []
    found, out, _ = pricewire(service, tmp_path, "import", file, "--source", source, "--strict")
    assert (found, "2500 recorded" in out) == (0, True)


UNREADABLE = {
    "empty": (b"", "is empty"),
    "a BOM alone": (b"\xef\xbb\xbf", "is empty"),
    "rubbish": (bytes(range(256)) * 400, "this is no CSV file"),
    "rubbish without NUL": (b"\xff\xfe\x81" * 1000, "this is no CSV file"),
    "one endless line": (b"a," * 500_000, "this is no CSV file"),
    "no price": (b"time,symbol\n", "no column is known to be the price"),
    "no time": (b"symbol,price\n", "no column is known to be the time"),
    "no symbol": (b"time,price\n", "no column is known to be the symbol"),
    "a header that is data": (b"2024-03-20,AAPL,1\n", "no column is known"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_none_is_a_wrong_call(service: Service, tmp_path: Path, name: str) -> None:
    content, reason = UNREADABLE[name]
    file = tmp_path / "prices.csv"
    file.write_bytes(content)
    code, out, err = pricewire(service, tmp_path, "import", file)
    assert (code, reason in err, len(err.splitlines())) == (2, True, 1), (out, err)


def test_other_wrong_calls(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(HEADER + GOOD)
    before = history_count(service)
    for options, reason in (
        (["--timezone", "Mars/Base"], "no time zone"),
        (["--price-column", "nope"], "names 0 columns"),
        (["--symbol", "A B"], "is no symbol"),
        (["--delimiter", ",,"], "one character"),
    ):
        code, _, err = pricewire(service, tmp_path, "import", file, *options)
        assert (code, reason in err) == (2, True), err
    code, _, err = pricewire(service, tmp_path, "import", tmp_path / "none.csv")
    assert (code, "cannot be read" in err) == (2, True)
    (tmp_path / "x.parquet").write_bytes(b"rubbish")
    code, _, err = pricewire(service, tmp_path, "import", tmp_path / "x.parquet")
    assert (code, "Parquet" in err) == (2, True)
    (tmp_path / "x.csv.gz").write_bytes(b"rubbish")
    code, _, err = pricewire(service, tmp_path, "import", tmp_path / "x.csv.gz")
    assert (code, "gzip" in err) == (2, True)
    code, _, err = pricewire(service, tmp_path, "import", file, "--source", "a b")
    assert (code, "source=" in err) == (1, True)
    assert history_count(service) == before


def test_parquet_in_and_out(service: Service, tmp_path: Path, source: str) -> None:
    file = tmp_path / "prices.parquet"
    table = pa.table(
        {
            "time": pa.array([1710930600123456789, 1710930601000000000], pa.timestamp("ns", "UTC")),
            "symbol": pa.array(["AAPL", "AAPL"]).dictionary_encode(),
            "price": pa.array([Decimal("150.2500"), Decimal("150.1000")], pa.decimal128(20, 4)),
            "size": pa.array([7, 8]),
        }
    )
    parquet.write_table(table, file)
    code, out, err = pricewire(service, tmp_path, "import", file, "--source", source)
    assert (code, err, "2 recorded" in out) == (0, "", True)
    assert [row["price"] for row in stored(service, "AAPL", source)] == ["150.2500", "150.1000"]
    query = urlencode({"symbol": "AAPL", "provider": source, "format": "parquet"})
    status, headers, body = service.get(f"/v1/prices?{query}")
    assert (status, headers["content-type"]) == (200, "application/vnd.apache.parquet")
    back = parquet.read_table(io.BytesIO(body)).to_pylist()
    assert [row["price"] for row in back] == ["150.2500", "150.1000"]
    assert [row["nanosecond"] for row in back] == [789, 0]
    assert back[0]["timestamp"] == datetime(2024, 3, 20, 10, 30, 0, 123456, tzinfo=UTC)
    parquet.write_table(table.set_column(2, "price", pa.array([150.25, 150.1])), file)
    code, _, err = pricewire(service, tmp_path, "import", file, "--source", source)
    assert (code, "'a float (double), not exact' is no price" in err) == (1, True)


def chunk(source: str, *rows: Mapping[str, Any], **changes: Any) -> str:
    body = {"source": source, "origin": "test", "raw": "rows", "rows": list(rows)} | changes
    return json.dumps(body)


ROW = {"symbol": "AAPL", "price": 1.5, "timestamp": "2024-03-20T10:30:00Z"}

BAD_BODIES = {
    "no JSON": "{",
    "no object": "[]",
    "binary": "\x00\x01",
    "no rows": chunk("x"),
    "1001 rows": chunk("x", *[ROW] * 1001),
    "unknown member": chunk("x", ROW, more=1),
    "unknown member of a row": chunk("x", ROW | {"prize": 1}),
    "NaN": chunk("x", ROW | {"price": float("nan")}),
    "NaN as text": chunk("x", ROW | {"price": "NaN"}),
    "negative": chunk("x", ROW | {"price": -1}),
    "huge exponent": chunk("x", ROW).replace("1.5", "1e999999"),
    "year 0": chunk("x", ROW | {"timestamp": "0000-01-01"}),
    "year 1599": chunk("x", ROW | {"timestamp": "1599-01-01"}),
    "no offset": chunk("x", ROW | {"timestamp": "2024-03-20T10:30:00"}),
    "1 MB symbol": chunk("x", ROW | {"symbol": "A" * 900_000}),
    "lone surrogate": chunk("x", ROW | {"symbol": "A\ud800"}),
    "lone surrogate in raw": chunk("x", ROW, raw="\ud800"),
    "source": chunk("a b", ROW),
    "origin": chunk("x", ROW, origin="a\nb"),
    "occurrence": chunk("x", ROW | {"occurrence": -1}),
    "size": chunk("x", ROW | {"size": -1}),
    "kind": chunk("x", ROW | {"kind": "best"}),
    "currency": chunk("x", ROW | {"currency": "U S D"}),
    "one bad of two": chunk("x", ROW, ROW | {"price": 0}),
}


def test_a_body_that_is_wrong_is_a_clear_422_and_stores_nothing(service: Service) -> None:
    before = history_count(service)
    for name, body in BAD_BODIES.items():
        status, headers, answer = service.get("/v1/imports", method="POST", body=body)
        assert status == 422, (name, answer)
        assert headers["content-type"] == "application/problem+json"
        assert len(json.loads(answer)["detail"]) < 600, name
    assert history_count(service) == before
    assert stored(service, "AAPL", "x") == []


def test_equal_rows_that_are_counted_are_all_kept(service: Service, source: str) -> None:
    rows = [ROW | {"occurrence": n} for n in range(3)]
    answer = json.loads(service.get("/v1/imports", method="POST", body=chunk(source, *rows))[2])
    assert (answer["recorded"], answer["repeated"]) == (3, 0)
    again = json.loads(service.get("/v1/imports", method="POST", body=chunk(source, *rows))[2])
    assert again == {
        "recorded": 0,
        "repeated": 3,
        "raw_response_id": None,
        "first_event": None,
        "last_event": None,
    }


def test_pages_go_on_where_they_ended_through_ties_and_live_prices(
    service: Service, source: str
) -> None:
    live = [service.price("IBM")["event"]["id"] for _ in range(5)]
    moment = datetime(2000, 3, 1, tzinfo=UTC)
    rows = [
        {
            "symbol": "IBM",
            "price": n,
            "timestamp": (moment + timedelta(hours=n // 7)).isoformat(),
        }
        for n in range(1, 61)
    ]
    assert service.get("/v1/imports", method="POST", body=chunk(source, *rows))[0] == 200
    whole = json.loads(service.get("/v1/prices?symbol=IBM&limit=10000")[2])
    ids = [row["id"] for row in whole["prices"]]
    assert whole["next_cursor"] is None
    assert len(set(ids)) == len(ids) == 65
    assert set(live) < set(ids)
    times = [row["timestamp"] for row in whole["prices"]]
    assert [datetime.fromisoformat(one) for one in times] == sorted(
        datetime.fromisoformat(one) for one in times
    )
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        for limit in (1, 4, 64, 65):
            assert list(paged(service, f"symbol=IBM&order={order}&limit={limit}")) == expected
    body = service.get("/v1/prices?symbol=IBM&format=csv")[2]
    assert [line.split(",")[0] for line in body.decode().splitlines()[1:]] == ids
    some = service.json("/v1/prices?symbol=IBM&from=2000-03-01T01:00:00Z&to=2000-03-01T03:00:00Z")
    assert len(some["prices"]) == 14


def paged(service: Service, query: str) -> Iterator[str]:
    cursor = ""
    for _ in range(100):
        page = service.json(f"/v1/prices?{query}{cursor}")
        yield from (row["id"] for row in page["prices"])
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={quote(page['next_cursor'])}"
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "symbol=A%20B",
        "symbol=" + "A" * 5000,
        "symbol=%ED%A0%80",
        "symbol=A&from=0000-01-01",
        "symbol=A&from=yesterday",
        "symbol=A&to=2024-03-20T10:30:00",
        "symbol=A&limit=0",
        "symbol=A&limit=10001",
        "symbol=A&limit=%D9%A3",
        "symbol=A&order=up",
        "symbol=A&format=xml",
        "symbol=A&cursor=B~1",
        "symbol=A&cursor=A~h99999",
        "symbol=A&cursor=x",
        "symbol=A&provider=%00",
    ],
)
def test_a_bad_parameter_is_a_clear_422(service: Service, query: str) -> None:
    status, headers, body = service.get(f"/v1/prices?{query}")
    assert (status, headers["content-type"]) == (422, "application/problem+json"), body
    assert len(json.loads(body)["detail"]) < 600


def test_fetch_prints_a_line_each(service: Service, tmp_path: Path) -> None:
    code, out, err = pricewire(service, tmp_path, "fetch", "AAPL", "MSFT")
    assert (code, err, len(out.splitlines())) == (0, "", 2)
    assert [line.split()[0] for line in out.splitlines()] == ["AAPL", "MSFT"]
    price = service.price("AAPL", max_age=1000)
    assert price["event"]["id"].startswith("AAPL~")
    code, out, err = pricewire(service, tmp_path, "fetch", "AAPL", "NOPE")
    assert (code, len(out.splitlines()), len(err.splitlines())) == (1, 1, 1)
    assert pricewire(service, tmp_path, "fetch", "A B")[0] == 2


FIRST_DAY = datetime(2019, 6, 1, tzinfo=UTC)


def klines(request: Request) -> Response:
    """A market that began on `FIRST_DAY` and closes each bar at its day's number and a half."""
    start, end = (int(request.args[name]) // 1000 for name in ("startTime", "endTime"))
    day = 86_400
    rows = []
    for at in range(-(-start // day) * day, end + 1, day):
        number = (at - int(FIRST_DAY.timestamp())) // day
        if number >= 0:
            close = f"{number + 1}.50"
            rows.append([at * 1000, "1", "999999", "0.1", close, "5", at * 1000 + 1, "0", 1])
    return Response(json.dumps(rows[:1000]), content_type="application/json")


def test_a_backfill_brings_each_close_once_and_goes_on_after_a_refusal(
    service: Service, vendor: HTTPServer, tmp_path: Path
) -> None:
    call = ("backfill", "BTCUSDT", "--provider", "binance", "--from", "2019-01-01", "--to")
    code, out, err = pricewire(service, tmp_path, *call, "2021-06-01")
    assert (code, err) == (0, ""), (out, err)
    assert "bars       731 of binance: 731 recorded, 0 there already" in out
    rows = stored(service, "BTCUSDT", "binance")
    assert [row["price"] for row in rows] == [f"{n}.50" for n in range(1, 732)]
    assert rows[0]["timestamp"] == "2019-06-01T00:00:00Z"
    assert {(row["kind"], row["timestamp_precision"]) for row in rows} == {("close", "day")}
    _, _, raw = service.get(f"/v1/raw-responses/{rows[0]['raw_response_id']}")
    assert json.loads(raw)[0][2] == "999999"
    code, out, _ = pricewire(service, tmp_path, *call, "2021-06-01")
    assert (code, "0 recorded, 731 there already" in out) == (0, True)
    assert not list((tmp_path / "backfills").glob("*"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"symbol": "A"},
        {"symbol": "A B", "from": "2024-01-01", "to": "2024-02-01"},
        {"symbol": "A", "from": "0000-01-01", "to": "2024-02-01"},
        {"symbol": "A", "from": "1500-01-01", "to": "2024-02-01"},
        {"symbol": "A", "from": "2024-02-01", "to": "2024-02-01"},
        {"symbol": "A", "from": "2024-01-01", "to": "2024-02-01", "interval": "1y"},
        {"symbol": "A", "from": "2024-01-01", "to": "2024-02-01", "provider": "nobody"},
        {"symbol": "A", "from": "2024-01-01", "to": "2024-02-01", "provider": "history"},
        {"symbol": "\ud800", "from": "2024-01-01", "to": "2024-02-01"},
        {"symbol": "A", "from": "2024-01-01", "to": "2024-02-01", "more": 1},
    ],
)
def test_a_backfill_that_is_wrong_is_a_clear_422(service: Service, body: dict[str, str]) -> None:
    given = {"provider": "binance"} | body
    status, _, answer = service.get("/v1/backfills", method="POST", body=json.dumps(given))
    assert status == 422, answer


def test_a_body_without_end_is_not_read(service: Service) -> None:
    for path in ("/v1/imports", "/v1/backfills"):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(10 * 2**30))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        connection.close()
