"""Every feed against broken frames: ticks that the bytes support, or a plain word that it is none.

Frames of all shapes are changed in their JSON and in their bytes (`tests.mutations`).
`PRICEWIRE_TEST_MUTATIONS=100000` makes so many for each feed instead of a few thousand.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from decimal import Decimal
from functools import cache

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pricewire.domain.feed import Ended, Refused, Said, Subscribed, Tick, Unreadable
from pricewire.domain.quote import PriceKind, Quote
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer
from pricewire.providers.feed_anatomy import Gap
from pricewire.providers.feed_catalogue import FEEDS
from pricewire.providers.readers import NotJson, read_frame, read_json
from tests.feed_bodies import crypto, stocks
from tests.feed_bodies.cases import FeedCase
from tests.mutations import mutate
from tests.provider_bodies_stocks import Body
from tests.stock_outcomes import NOW, SECRET
from tests.unit.test_feed_filling import FILLED, SYMBOLS, body, fill_of
from tests.unit.test_mutated_bodies import check_error, numbers

FRAMES_EACH = int(os.environ.get("PRICEWIRE_TEST_MUTATIONS", "2000"))
AT_ONCE = 50


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.timeout(7200)
@settings(max_examples=max(1, FRAMES_EACH // AT_ONCE), phases=[Phase.generate])
@given(first=st.integers(0, 2**64))
def test_a_broken_frame_is_heard_as_what_its_bytes_support(name: str, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        try:
            check_one(name, random.Random(seed))
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}")
            raise


def check_one(name: str, chance: random.Random) -> None:
    """Break one frame of a case, and hear the next one whole in the same conversation."""
    case = chance.choice(cases(name))
    frame = mutate(Body(name, case.name, case.frames[0], 200, case.symbols, ""), chance)
    assert value(read_frame, frame) == value(read_json, frame)
    protocol = case.protocol()
    said = protocol.read(frame, NOW)
    assert said
    for one in said:
        check(one, case, frame)
    for one in protocol.read(case.frames[-1], NOW):
        check(one, case, case.frames[-1])


def value(read: Callable[[bytes], object], frame: bytes) -> str:
    """Return what is read of a frame, as a text in which 1 and 1.0 differ."""
    try:
        return repr(read(frame))
    except NotJson:
        return "no JSON"


@cache
def cases(name: str) -> list[FeedCase]:
    return [case for case in (*crypto.CASES, *stocks.CASES) if case.provider == name]


def check(said: Said, case: FeedCase, frame: bytes) -> None:
    if FEEDS[case.provider].needs and not isinstance(said, Tick):
        assert SECRET.lower() not in repr(said).lower()
    match said:
        case Tick():
            check_tick(said, case, set(numbers(frame)))
        case Refused():
            assert said.symbol in case.symbols
            check_said(said.error, case)
        case Subscribed():
            assert set(said.symbols) <= set(case.symbols)
        case Ended():
            check_said(said.error, case)
        case Unreadable():
            assert said.detail.isprintable()


def check_said(error: ProviderError, case: FeedCase) -> None:
    if FEEDS[case.provider].needs:
        check_error(error)
    assert error.detail.isprintable()
    assert error.retry_after is None or error.retry_after > 0


def check_tick(tick: Tick, case: FeedCase, known: set[Decimal]) -> None:
    quote = tick.quote
    assert quote.symbol in case.symbols
    assert quote.price > 0
    assert is_supported(quote, known)
    assert tick.number is None or (tick.number in known and str(tick.number) == quote.trade_id)
    assert (tick.number is not None) is (case.provider in FILLED)


def is_supported(quote: Quote, known: set[Decimal]) -> bool:
    if quote.kind is not PriceKind.MID:
        return quote.price in known
    assert quote.bid is not None
    assert quote.ask is not None
    return {quote.bid, quote.ask} <= known and quote.bid <= quote.price <= quote.ask


@pytest.mark.parametrize("name", FILLED)
@pytest.mark.timeout(7200)
@settings(max_examples=max(1, FRAMES_EACH // AT_ONCE), phases=[Phase.generate])
@given(first=st.integers(0, 2**64))
def test_a_broken_answer_to_a_gap_gives_what_its_bytes_support(name: str, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        chance = random.Random(seed)
        whole = Body(name, "gap", body(name, [10, 11, 12, 13, 14]), 200, (), "")
        content, wanted = mutate(whole, chance), Gap(symbol=SYMBOLS[name], first=11, last=13)
        status = chance.choice((200, 200, 429))
        answer = Answer(body=content, status=status, fetched_at=NOW, secrets=(SECRET,))
        try:
            ticks = fill_of(name).read(answer, wanted)
        except ProviderError as error:
            check_error(error)
            continue
        known = set(numbers(content))
        assert [tick.number for tick in ticks] == sorted({tick.number or 0 for tick in ticks})
        for tick in ticks:
            assert tick.number in (11, 12, 13)
            assert tick.quote.price in known
