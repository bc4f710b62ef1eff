"""Bodies of the stock vendors, broken in ways that a vendor might, and what must hold of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from pricewire.domain.quote import PriceKind, Quote
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Vendor, read
from pricewire.providers.readers import number, read_json
from tests.provider_bodies_stocks import BODIES, Body
from tests.stock_outcomes import NOW, SECRET

_NUMBERS = st.integers(-10, 10**22) | st.floats() | st.just(0) | st.just(10**400)
_TEXTS = st.text(max_size=8) | st.sampled_from(
    [
        *(SECRET, "ACME", "NaN", "-1", "0", "1e400", "٣", "error", "2024-03-20"),
        "9999-12-31T23:59:59-23:59",
    ]
)
_LEAVES = st.none() | st.booleans() | _NUMBERS | _TEXTS
_VALUES = _LEAVES | st.lists(_LEAVES, max_size=2) | st.dictionaries(_TEXTS, _LEAVES, max_size=2)


def seeds(vendor: Vendor) -> st.SearchStrategy[Body]:
    return st.sampled_from(bodies(vendor))


def mutate(case: Body, data: st.DataObject) -> bytes:
    """Change a few values of a body, or a few of its bytes."""
    try:
        document = json.loads(case.body)
    except ValueError:
        document = None
    if document is None or data.draw(st.booleans()):
        return _mutate_bytes(case.body, data)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = data.draw(st.sampled_from(places))
        if isinstance(holder, dict) and data.draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = data.draw(_VALUES)
    return json.dumps(document).encode()


def _mutate_bytes(body: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 3))
    return body[:at] + data.draw(st.binary(max_size=3)) + body[at + cut :]


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs) if isinstance(document, dict | list) else ():
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def echoing(case: Body) -> bytes:
    """Return the body with the key in each of its texts, as vendors like to repeat it."""
    try:
        document = json.loads(case.body)
    except ValueError:
        return case.body + SECRET.encode()
    for holder, key in list(_places(document)):
        if isinstance(holder[key], str):
            holder[key] += f" {SECRET}"
    return json.dumps(document).encode()


def bodies(vendor: Vendor) -> list[Body]:
    return [case for case in BODIES if case.provider == vendor.name]


def check_refusal(error: ProviderError) -> None:
    assert SECRET not in f"{error} {error.detail} {error.args}"
    assert (error.retry_after or 1) > 0


def check(vendor: Vendor, case: Body, body: bytes, status: int) -> None:
    """Parse `body`: quotes that its bytes support, or a typed error without the secret."""
    for asked in (case.symbols, ()):
        answer = Answer(body=body, status=status, fetched_at=NOW, symbols=asked, secrets=(SECRET,))
        try:
            parsed = read(vendor, answer)
        except ProviderError as error:
            check_refusal(error)
            continue
        numbers = set(_numbers(read_json(body)))
        for quote in parsed.quotes:
            assert quote.price.is_finite()
            assert quote.price > 0
            assert not asked or quote.symbol in asked
            assert _is_supported(quote, numbers)


def _is_supported(quote: Quote, numbers: set[Decimal]) -> bool:
    if quote.kind is PriceKind.MID and quote.price not in numbers:
        assert quote.bid is not None
        assert quote.ask is not None
        return {quote.bid, quote.ask} <= numbers and quote.bid <= quote.price <= quote.ask
    return quote.price in numbers


def _numbers(document: object) -> Iterator[Decimal]:
    if isinstance(document, dict | list):
        for value in document.values() if isinstance(document, dict) else document:
            yield from _numbers(value)
    elif (value := number(document)) is not None:
        yield value
