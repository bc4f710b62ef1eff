"""Averages against a naive reference in fractions, whatever is dumped and loaded in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pricewire.domain.average import (
    EMA_PLACES,
    PLACES,
    AverageKind,
    AverageSpec,
    Window,
    WindowState,
    average_of,
    new_window,
    parse_average,
    parse_averages,
)
from pricewire.errors import InvalidParameter

ZERO = Fraction(0)
START = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Price:
    price: Decimal
    timestamp: datetime


def at(price: str) -> Price:
    return Price(Decimal(price), START)


def places_of(prices: Sequence[Price]) -> int:
    return max(max(0, -int(price.price.as_tuple().exponent)) for price in prices)


def rounded(value: Fraction, places: int) -> Decimal:
    """Half-even, by whole numbers."""
    scaled = value * 10**places
    down, rest = divmod(scaled.numerator, scaled.denominator)
    if 2 * rest > scaled.denominator or (2 * rest == scaled.denominator and down % 2):
        down += 1
    return Decimal(f"{down}E-{places}")


def reference(spec: AverageSpec, prices: Sequence[Price]) -> Decimal | None:
    """What the last of `prices` makes of the average."""
    if spec.span:
        return reference_of_span(spec.span, prices)
    if len(prices) < spec.count:
        return None
    places = places_of(prices) + PLACES
    last = [Fraction(price.price) for price in prices[-spec.count :]]
    if spec.kind is AverageKind.SMA:
        return rounded(sum(last, ZERO) / spec.count, places)
    if spec.kind is AverageKind.WMA:
        weights = range(1, spec.count + 1)
        weighted = sum((p * weight for p, weight in zip(last, weights, strict=True)), ZERO)
        return rounded(weighted / sum(weights), places)
    return reference_ema(spec.count, prices)


def reference_ema(count: int, prices: Sequence[Price]) -> Decimal:
    first = prices[:count]
    carried = places_of(first) + PLACES + EMA_PLACES
    ema = rounded(sum((Fraction(price.price) for price in first), ZERO) / count, carried)
    for number in range(count, len(prices)):
        carried = places_of(prices[: number + 1]) + PLACES + EMA_PLACES
        new = 2 * Fraction(prices[number].price) + (count - 1) * Fraction(ema)
        ema = rounded(new / (count + 1), carried)
    return rounded(Fraction(ema), carried - EMA_PLACES)


def reference_of_span(span: timedelta, prices: Sequence[Price]) -> Decimal | None:
    counted: list[Price] = []
    for price in prices:
        newest = max((other.timestamp for other in counted), default=None)
        if newest is None or price.timestamp > newest - span:
            counted.append(price)
    if not counted or counted[-1] is not prices[-1]:
        return None
    newest = max(price.timestamp for price in counted)
    if newest - min(price.timestamp for price in counted) < span:
        return None
    inside = [Fraction(p.price) for p in counted if p.timestamp > newest - span]
    return rounded(sum(inside, ZERO) / len(inside), places_of(counted) + PLACES)


prices = st.builds(
    Price,
    price=st.decimals("0.00000001", "1000000", places=None, allow_nan=False).filter(lambda d: d > 0)
    | st.decimals(1, 1000, places=2)
    # With as many digits as a price may have, and around the number that is divided quickly.
    | st.builds(
        lambda digits, exponent: Decimal(f"{digits}E{exponent}"),
        st.integers(1, 10**64 - 1) | st.integers(10**30, 10**45) | st.integers(1, 10**9),
        st.integers(-64, 0),
    ),
    timestamp=st.integers(0, 40).map(lambda seconds: START + timedelta(seconds=seconds)),
)
specs = st.sampled_from(
    [parse_average(t) for t in ("sma:1", "sma:5", "ema:1", "ema:4", "wma:3", "sma:10s", "sma:1m")]
)


@given(specs, st.lists(st.tuples(prices, st.booleans()), max_size=40))
# The most exact price has left the window when it is dumped.
@example(parse_average("sma:1"), [(at(text), text == "7") for text in ("0.001", "5", "7")])
@example(parse_average("sma:3"), [(at(text), text == "7") for text in ("0.01", "5", "6", "8", "7")])
def test_a_window_is_the_reference_wherever_it_is_dumped_and_loaded(
    spec: AverageSpec, steps: list[tuple[Price, bool]]
) -> None:
    window: Window[Price] = new_window(spec)
    given_prices = [price for price, _ in steps]
    for number, (price, is_dumped_before) in enumerate(steps):
        if is_dumped_before:
            window = new_window(spec, window.state())
        value = window.push(price)
        expected = reference(spec, given_prices[: number + 1])
        assert (value, str(value)) == (expected, str(expected))
        kept = new_window(spec, window.state())
        assert value is None or str(value) == str(kept.value())


def test_a_window_that_is_not_warm_has_no_value() -> None:
    four = [Price(Decimal("1.00"), START)] * 4
    assert average_of(parse_average("sma:5"), four) == (None, four)
    value, entries = average_of(parse_average("sma:5"), [*four, Price(Decimal("2.00"), START)])
    assert str(value) == "1.200000"
    assert len(entries) == 5


def test_a_tie_goes_to_the_even_digit() -> None:
    one, two = Price(Decimal("1.00001"), START), Price(Decimal("1.00000"), START)
    sum_of_nine = [one] + [two] * 7
    value, _ = average_of(parse_average("sma:8"), sum_of_nine)
    # 8.00001 / 8 = 1.00000125 exactly: five places and four more hold it.
    assert str(value) == "1.000001250"


@pytest.mark.parametrize("places", [0, 2, 17, 35, 64])
@pytest.mark.parametrize("count", [1, 2, 7, 32, 9_999, 50_005_000, 600_000_000])
@given(whole=st.integers(1, 10**64), near=st.integers(-2, 2))
def test_what_is_nearly_a_tie_is_rounded_as_it_is(
    places: int, count: int, whole: int, near: int
) -> None:
    spec = AverageSpec(AverageKind.SMA, "", count=1)
    window: Window[Price] = new_window(spec, WindowState([], places=places))
    # As near to half a digit as a sum over `count` can be, and there where that is possible.
    dividend = Fraction((2 * whole + 1) * count // 2 + near, 10 ** (places + PLACES))
    given_sum = Decimal(f"{dividend * 10 ** (places + PLACES)}E-{places + PLACES}")
    found = window._rounded(given_sum, Decimal(count))
    assert str(found) == str(rounded(dividend / count, places + PLACES))


@pytest.mark.parametrize(
    "text", ["", "sma", "sma:0", "sma:05", "foo:5", "ema:5m", "sma:5x", "sma:10001", "sma:8d", "5"]
)
def test_what_is_no_average_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_averages(text)


def test_a_list_of_averages_has_each_once() -> None:
    assert [str(spec) for spec in parse_averages("sma:5, ema:12,sma:5,sma:5m")] == [
        "sma:5",
        "ema:12",
        "sma:5m",
    ]
