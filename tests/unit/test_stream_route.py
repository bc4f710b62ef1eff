"""What may be asked of the live stream, and the bytes that it answers with."""

from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers, QueryParams
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from pricewire.domain.position import Place, StreamTopic
from pricewire.errors import InvalidRequest
from pricewire.services.live.events import Slow, Subscription
from pricewire.web.stream_frames import SSE, WEBSOCKET
from pricewire.web.stream_request import MAX_SYMBOLS, Asked, asked

ALL = tuple(StreamTopic)
NO_HEADERS: dict[str, str] = {}


def ask(query: str, headers: dict[str, str] = NO_HEADERS) -> Asked:
    return asked(QueryParams(query), Headers(headers), Slow.CONFLATE)


def test_without_parameters_it_is_everything_from_now_on() -> None:
    assert ask("") == Asked(Subscription(ALL), Slow.CONFLATE, None)


def test_all_parameters() -> None:
    wanted = Subscription((StreamTopic.PRICES, StreamTopic.CANDLES), frozenset({"EUR/USD", "A"}))
    position = {StreamTopic.PRICES: Place("tag", (1, 2))}
    query = "symbols=EUR/USD,A,A&topics=candles,prices&slow=cut&last_event_id=p.tag.1.2"
    assert ask(query) == Asked(wanted, Slow.CUT, position)


def test_the_header_comes_before_the_query() -> None:
    found = ask("last_event_id=p.tag.1", {"Last-Event-ID": "p.tag.9"})
    assert found.position == {StreamTopic.PRICES: Place("tag", (9,))}


def test_a_header_that_nobody_knows_is_no_error() -> None:
    assert ask("", {"Last-Event-ID": "17"}).position == {}
    assert ask("last_event_id=p.tag.1", {"Last-Event-ID": "17"}).position == {}


@pytest.mark.parametrize(
    "query",
    [
        "symbols=",
        "symbols=A,",
        "symbols=A B",
        "topics=",
        "topics=prices,alerts",
        "topics=Prices",
        "slow=wait",
        "slow=",
        "last_event_id=17",
        "symbols=" + ",".join(f"S{number}" for number in range(MAX_SYMBOLS + 1)),
    ],
)
def test_what_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(query)
    assert len(refused.value.detail) > 20


def test_server_sent_events() -> None:
    blocks = [SSE.block("price", "p.t.1", b'{"a":1}'), SSE.block("gap", None, b"{}")]
    body = b'event: price\nid: p.t.1\ndata: {"a":1}\n\nevent: gap\ndata: {}\n\n'
    assert SSE.frame(blocks) == b"%x\r\n%b\r\n" % (len(body), body)
    assert SSE.heartbeat("p.t.1") == b":\nid: p.t.1\n\n"
    assert SSE.last("end", b"{}") == b"15\r\nevent: end\ndata: {}\n\n\r\n0\r\n\r\n"


def frames_of(data: bytes) -> list[Frame]:
    """Return what a client of the package websockets makes of a server's bytes."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 100, 126, 65_000, 65_536, 300_000])
def test_websocket_frames_of_all_sizes(size: int) -> None:
    data = json.dumps("x" * size).encode()
    frame = WEBSOCKET.frame([WEBSOCKET.block("price", "p.t.1", data)] * 2)
    [found] = frames_of(frame)
    assert found.opcode is Opcode.TEXT
    one = {"event": "price", "id": "p.t.1", "data": "x" * size}
    assert json.loads(bytes(found.data)) == [one, one]


def test_the_last_websocket_frames() -> None:
    told, closed = frames_of(WEBSOCKET.last("end", b"{}", 1012, "ä" * 100))
    assert json.loads(bytes(told.data)) == [{"event": "end", "data": {}}]
    assert closed.opcode is Opcode.CLOSE
    assert Close.parse(bytes(closed.data)) == Close(1012, "ä" * 61)
