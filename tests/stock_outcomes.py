"""What a stock vendor's parser makes of a body, as text that a test can state in one line.

A quote is `SYMBOL PRICE TIME PRECISION KIND`, with what else it says behind; a bar is
`SYMBOL TIME OPEN HIGH LOW CLOSE`; a body that is refused is the error's code.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pricewire.domain.quote import Bar, Precision, Quote, price_text
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Parsed, Vendor, read
from tests.provider_bodies_stocks import body

NOW = datetime(2026, 7, 1, 16, 20, 20, tzinfo=UTC)
SECRET = "C4NARY-5ecret-key"  # a made-up key that must never show


def parsed(
    vendor: Vendor, name: str, *, headers: dict[str, str] | None = None, url: str = ""
) -> Parsed:
    case = body(vendor.name, name)
    return read(
        vendor,
        Answer(
            body=case.body,
            status=case.status,
            fetched_at=NOW,
            symbols=case.symbols,
            url=url,
            headers=headers or {},
            secrets=(SECRET,),
        ),
    )


def refusal(
    vendor: Vendor, name: str, *, headers: dict[str, str] | None = None
) -> tuple[str, float | None]:
    """Return the code and the wait of the error that the body `name` is."""
    try:
        got = parsed(vendor, name, headers=headers)
    except ProviderError as error:
        return error.code, error.retry_after
    raise AssertionError(f"{vendor.name} took {name} for {got}")


def outcome(vendor: Vendor, name: str, *, url: str = "") -> list[str]:
    """Return the lines of the body `name`: quotes, refused symbols, or the error's code."""
    try:
        got = parsed(vendor, name, url=url)
    except ProviderError as error:
        return [error.code]
    refused = [f"{symbol} {error.code}" for symbol, error in got.refused.items()]
    return [quote_line(quote) for quote in got.quotes] + refused


def quote_line(quote: Quote) -> str:
    told = [quote.symbol, price_text(quote.price), _time(quote), quote.precision, quote.kind]
    told += [quote.currency or "", quote.exchange or ""]
    told += [] if quote.adjusted is None else ["adjusted" if quote.adjusted else "raw"]
    return " ".join(filter(None, told))


def bar_line(bar: Bar) -> str:
    prices = (price_text(price) for price in (bar.open, bar.high, bar.low, bar.close))
    at = f"{bar.timestamp:%Y-%m-%d}"
    if bar.precision is not Precision.DAY:
        at = f"{bar.timestamp:%Y-%m-%dT%H:%MZ}"
    return " ".join((bar.symbol, at, *prices))


def _time(quote: Quote) -> str:
    if quote.precision is Precision.NONE:
        assert quote.timestamp == NOW
        return ""
    digits = f".{quote.timestamp.microsecond:06}{quote.nanosecond:03}".rstrip("0").rstrip(".")
    return f"{quote.timestamp:%Y-%m-%dT%H:%M:%S}{digits}Z"
