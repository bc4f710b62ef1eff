"""What each body of Alpha Vantage and of the keyless vendors is read as."""

from __future__ import annotations

import pytest

from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Parsed, read
from pricewire.providers.catalogue import VENDORS
from tests.keyless_bodies.cases import Case
from tests.provider_bodies import CASES
from tests.provider_bodies_stocks import Body
from tests.stock_outcomes import NOW, bar_line, quote_line

by_name = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.body.provider}-{case.body.name}"
)


def parsed(body: Body) -> Parsed | ProviderError:
    answer = Answer(
        body=body.body,
        status=body.status,
        fetched_at=NOW,
        symbols=body.symbols,
        url=body.url,
    )
    try:
        return read(VENDORS[body.provider], answer)
    except ProviderError as error:
        return error


@by_name
def test_what_a_body_is_read_as(case: Case) -> None:
    got = parsed(case.body)
    if isinstance(got, ProviderError):
        assert [got.code] == case.expected, got.detail
        assert got.detail.isprintable()
        return
    refused = [f"{symbol} {error.code}" for symbol, error in got.refused.items()]
    lines = [quote_line(quote) for quote in got.quotes]
    assert [*(" ".join(line.split()) for line in lines), *refused] == case.expected
    assert [bar_line(bar) for bar in got.bars] == case.bars
