"""Positions in the live stream: as text and back, compared, and refused."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.position import (
    Cursor,
    Place,
    Position,
    StreamTopic,
    parse_position,
    position_text,
    tag_of,
)
from pricewire.errors import InvalidParameter

TAGS = st.text("abcXYZ019_-", min_size=1, max_size=8)
OFFSETS = st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=12).map(tuple)
POSITIONS = st.dictionaries(
    st.sampled_from(list(StreamTopic)), st.builds(Place, TAGS, OFFSETS), min_size=1
)


@given(POSITIONS)
def test_text_and_back(position: Position) -> None:
    text = position_text(position)
    assert parse_position(text) == position
    assert quote(text, safe="") == text
    assert Cursor(position).text() == text


def test_a_topics_id_in_either_alphabet_is_the_same_tag() -> None:
    assert tag_of("mC41s2wzR1+vZ3hV+8/mzA") == tag_of("mC41s2wzR1-vZ3hV-8_mzA") == "hV-8_mzA"
    parse_position(position_text({StreamTopic.PRICES: Place(tag_of("+/+/+/+/+/"), (1,))}))


def test_what_it_looks_like() -> None:
    position = {
        StreamTopic.PRICES: Place(tag_of("Q2x9PZWMTw6cU0u1AbCdEf"), (12, 0, 7)),
        StreamTopic.CANDLES: Place("in-memor", (3,)),
    }
    assert position_text(position) == "p.u1AbCdEf.12.0.7~c.in-memor.3"


@given(st.text(max_size=60))
def test_anything_else_is_refused_in_words(text: str) -> None:
    with suppress(InvalidParameter):
        assert position_text(parse_position(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "17",
        "p",
        "p.tag",
        "p.tag.",
        "x.tag.1",
        "p.tag.-1",
        "p.tag.01",
        "p.tag.1~p.tag.2",
        "p.tag.1~",
        "p.tag.١",
        "p.tag.1\n",
        f"p.tag.{10**18}",
        "p.tag." + "1." * 40_000 + "1",
    ],
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is no position in the stream"):
        parse_position(text)


def test_a_cursor_never_goes_back() -> None:
    cursor = Cursor({StreamTopic.PRICES: Place("tag", (5, 5))})
    cursor.pass_(StreamTopic.PRICES, 0, 3)
    assert cursor.next[StreamTopic.PRICES] == [5, 5]
    assert cursor.wants(StreamTopic.PRICES, 0, 5)
    cursor.pass_(StreamTopic.PRICES, 0, 6)
    assert not cursor.wants(StreamTopic.PRICES, 0, 5)


def test_cursors_compare_in_their_own_topics_only() -> None:
    cursor = Cursor({StreamTopic.PRICES: Place("tag", (5, 5))})
    others = {StreamTopic.AVERAGES: (100,)}
    assert cursor.is_at_or_after({StreamTopic.PRICES: (5, 4), **others})
    assert not cursor.is_at_or_after({StreamTopic.PRICES: (6, 4), **others})
    assert cursor.is_at_or_before({StreamTopic.PRICES: (5, 6), **others})
    assert not cursor.is_at_or_before({StreamTopic.PRICES: (4, 6), **others})
