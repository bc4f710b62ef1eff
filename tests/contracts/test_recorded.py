"""Answers that providers really gave, beside what a correct parser makes of each.

They lie beside the checkout, where they are (`../shared/recorded`); without them all is skipped.
Through `pricewire parse`, and, for the endpoints in use, from a local server.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from pricewire.cli.main import app
from pricewire.domain.quote import Precision, Quote, price_text
from pricewire.errors import ProviderError
from pricewire.providers.catalogue import OTHER_NAMES, VENDORS
from pricewire.providers.rest import RestProvider
from tests.vendor_tools import CANARY, rest

RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded"
SAID_OTHERWISE = {"note", "headers", "retry_after", "first_receive", "last_receive"}
"""What is for people to read, and not printed in these words."""

Entry = dict[str, Any]


def entries() -> list[Entry]:
    expected = RECORDED / "expected.json"
    if not expected.exists():
        return []
    return [one for one in json.loads(expected.read_text()) if one["expect"] is not None]


def parameters(chosen: list[Entry]) -> list[Any]:
    if not chosen:
        reason = f"no recorded answers at {RECORDED}"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(one, id=one["file"]) for one in chosen]


def vendor_of(entry: Entry) -> str:
    name: str = entry["provider"]
    return OTHER_NAMES.get(name, name)


def statuses(entry: Entry) -> list[int]:
    """Return the statuses that the body comes with; 200 for a frame of a feed."""
    return [int(one) for one in str(entry["http_status"] or 200).split(" or ")]


def url(entry: Entry) -> str:
    address: str = entry["endpoint"].partition(" ")[0]
    return address if "://" in address else ""


def symbols(entry: Entry) -> tuple[str, ...]:
    expected = entry["expect"]
    named = [one["symbol"] for one in expected.get("items", [expected]) if "symbol" in one]
    return tuple(named) or VENDORS[vendor_of(entry)].asked(url(entry)) or ("ACME",)


def in_use(entry: Entry) -> bool:
    """Tell whether the service asks the endpoint that gave the body; refusals come from any."""
    if entry["http_status"] is None:
        return False
    if entry["expect"]["kind"] == "error":
        return True
    asked = VENDORS[vendor_of(entry)].request(symbols(entry))
    return urlsplit(url(entry)).path.rstrip("/") == asked.path.rstrip("/") and (
        "function=" not in url(entry) or f"function={asked.params['function']}" in url(entry)
    )


def check(printed: Entry, expected: Entry) -> None:
    for name, value in expected.items():
        if name == "items":
            assert len(printed["items"]) == len(value)
            for one, other in zip(printed["items"], value, strict=True):
                check(one, other)
        elif name not in SAID_OTHERWISE:
            assert printed[name] == value, name
    if expected["kind"] == "error":
        waits = expected["error_class"].startswith("rate_limited")
        assert (printed["retry_after"] is not None) is waits


@pytest.mark.parametrize("entry", parameters(entries()))
def test_what_is_printed_of_it_is_what_a_correct_parser_makes_of_it(entry: Entry) -> None:
    for status in statuses(entry):
        options = ["--status", str(status), *(["--url", url(entry)] if url(entry) else [])]
        file = str(RECORDED / entry["file"])
        result = CliRunner().invoke(app, ["parse", entry["provider"], file, *options])
        printed = json.loads(result.stdout)
        check(printed, entry["expect"])
        assert result.exit_code == (1 if entry["expect"]["kind"] == "error" else 0)


@pytest.mark.parametrize("entry", parameters([one for one in entries() if in_use(one)]))
async def test_a_provider_that_is_answered_so_gives_the_same(
    entry: Entry, httpserver: HTTPServer
) -> None:
    body = (RECORDED / entry["file"]).read_bytes()
    for status in statuses(entry):
        httpserver.clear()
        httpserver.expect_request(re.compile(".*")).respond_with_data(body, status)
        provider = rest(vendor_of(entry), httpserver.url_for(""))
        answered = await outcome(provider, symbols(entry))
        await provider.aclose()
        assert CANARY not in str(answered)
        expected = entry["expect"]
        for one, other in zip(answered, expected.get("items", [expected]), strict=True):
            check(one, other)


async def outcome(provider: RestProvider, asked: tuple[str, ...]) -> list[Entry]:
    """Return quotes or the error as `expected.json` writes them, digit by digit."""
    try:
        fetched = await (provider.fetch_many(asked) if len(asked) > 1 else provider.fetch(asked[0]))
    except ProviderError as error:
        return [
            {
                "kind": "error",
                "error_class": error.code,
                "retryable": error.retryable,
                "retry_after": error.retry_after,
                "detail": f"{error!r} {error.detail} {error.raw}",
            }
        ]
    assert fetched.raw.body
    return [written(quote) for quote in fetched.quotes]


def written(quote: Quote) -> Entry:
    digits = {Precision.MILLISECOND: 3, Precision.MICROSECOND: 6, Precision.NANOSECOND: 9}
    fraction = f"{quote.timestamp.microsecond:06}{quote.nanosecond:03}"
    fraction = fraction[: digits.get(quote.precision, 0)]
    time: str | None = quote.timestamp.strftime("%Y-%m-%dT%H:%M:%S")
    time = f"{time}.{fraction}Z" if fraction else f"{time}Z"
    if quote.precision in (Precision.DAY, Precision.NONE):
        time = f"{quote.timestamp:%Y-%m-%d}" if quote.precision is Precision.DAY else None
    return {
        "kind": "quote",
        "symbol": quote.symbol,
        "price": price_text(quote.price),
        "timestamp_utc": time,
        "timestamp_precision": quote.precision,
        "currency": quote.currency,
        "size": quote.size and price_text(quote.size),
        "bid": quote.bid and price_text(quote.bid),
        "ask": quote.ask and price_text(quote.ask),
    }


@pytest.mark.skipif(not entries(), reason=f"no recorded answers at {RECORDED}")
def test_every_provider_is_among_those_that_a_server_answers_for() -> None:
    prices = [one for one in entries() if in_use(one) and one["expect"]["kind"] != "error"]
    # Of these two, prices are recorded from other endpoints only than those that are asked.
    assert {vendor_of(one) for one in prices} == set(VENDORS) - {"twelve_data", "massive"}
    assert {vendor_of(one) for one in entries() if in_use(one)} == set(VENDORS)
