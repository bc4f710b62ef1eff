"""Every parser against broken bodies: a price that the bytes support, or a typed error.

Bodies of all shapes are changed in their JSON and in their bytes (`tests.mutations`).
`PRICEWIRE_TEST_MUTATIONS=100000` makes so many for each provider instead of a few thousand.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pricewire.domain.quote import Bar, PriceKind, Quote
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Parsed, Vendor, read
from pricewire.providers.catalogue import VENDORS
from pricewire.providers.readers import NotJson, number, read_json
from tests.mutations import mutate
from tests.provider_bodies import BODIES
from tests.provider_bodies_stocks import Body
from tests.stock_outcomes import NOW, SECRET

BODIES_EACH = int(os.environ.get("PRICEWIRE_TEST_MUTATIONS", "4000"))
AT_ONCE = 50
"""Bodies of one example: drawing one costs hypothesis ten times what parsing a body does."""
STATUSES = (200, 200, 200, 200, 400, 403, 404, 418, 429, 451, 500, 503)
HEADERS = ("", "0", "17", "-1", "1e9", "9" * 40, "Wed, 21 Oct 2026 07:28:00 GMT", "١٢")


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.timeout(7200)
@settings(max_examples=BODIES_EACH // AT_ONCE, phases=[Phase.generate])
@given(first=st.integers(0, 2**64))
def test_a_broken_body_is_a_price_that_its_bytes_support_or_a_typed_error(
    vendor: Vendor, first: int
) -> None:
    for seed in range(first, first + AT_ONCE):
        try:
            check_one(vendor, random.Random(seed))
        except BaseException as error:
            error.add_note(f"{vendor.name}, seed {seed}")
            raise


def check_one(vendor: Vendor, chance: random.Random) -> None:
    case = chance.choice(bodies(vendor))
    body = mutate(case, chance)
    status, header = chance.choice(STATUSES), chance.choice(HEADERS)
    symbols = chance.choice((case.symbols, case.symbols, (), (*case.symbols, "SECOND")))
    answer = Answer(
        body=body,
        status=status,
        fetched_at=NOW,
        symbols=symbols,
        url=case.url,
        headers={"retry-after": header, "x-ratelimit-reset": header},
        secrets=(SECRET,),
    )
    check(vendor, answer)


@cache
def bodies(vendor: Vendor) -> list[Body]:
    return [one for one in BODIES if one.provider == vendor.name]


def check(vendor: Vendor, answer: Answer) -> None:
    try:
        parsed = read(vendor, answer)
    except ProviderError as error:
        check_error(error)
        return
    for refused in parsed.refused.values():
        check_error(refused)
    check_prices(parsed, answer)


def check_error(error: ProviderError) -> None:
    assert SECRET not in f"{error!r} {error.detail} {error.args}"
    assert error.detail.isprintable()
    if error.retry_after is not None:
        assert 0 < error.retry_after <= 31 * 86_400


def check_prices(parsed: Parsed, answer: Answer) -> None:
    known = set(numbers(answer.body))
    assert parsed.quotes or parsed.bars
    for quote in parsed.quotes:
        assert not answer.symbols or quote.symbol in answer.symbols
        assert quote.price.is_finite()
        assert quote.price > 0
        assert quote.timestamp.tzinfo is UTC
        assert quote.timestamp.year > 1600
        assert supported(quote, known)
    for bar in parsed.bars:
        assert not answer.symbols or bar.symbol in answer.symbols
        check_bar(bar, known)


def supported(quote: Quote, known: set[Decimal]) -> bool:
    """Say whether the price stands in the body, or is in the middle of two that do."""
    if quote.price in known or quote.kind is not PriceKind.MID:
        return quote.price in known
    assert quote.bid is not None
    assert quote.ask is not None
    return {quote.bid, quote.ask} <= known and quote.bid <= quote.price <= quote.ask


def check_bar(bar: Bar, known: set[Decimal]) -> None:
    prices = {bar.open, bar.high, bar.low, bar.close}
    assert prices <= known
    assert all(price.is_finite() and price > 0 for price in prices)
    assert bar.low <= bar.high
    assert bar.timestamp > datetime(1600, 1, 1, tzinfo=UTC)


def numbers(body: bytes) -> Iterator[Decimal]:
    try:
        yield from numbers_in(read_json(body))
    except NotJson:
        for digits in re.findall(r"[0-9.eE+-]+", body.decode("utf-8", "replace")):
            if (value := number(digits)) is not None:
                yield value


def numbers_in(document: object) -> Iterator[Decimal]:
    if isinstance(document, dict | list):
        for value in document.values() if isinstance(document, dict) else document:
            yield from numbers_in(value)
    elif (value := number(document)) is not None:
        yield value
