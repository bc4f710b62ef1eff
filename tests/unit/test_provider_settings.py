"""Settings → providers: which are there, which are refused, what is told of them over HTTP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from pricewire.bootstrap import Services
from pricewire.bootstrap_latest import Guards, budget_of
from pricewire.bootstrap_providers import Listed, listed, made
from pricewire.errors import StartupError, Throttle, Throttled
from pricewire.providers.catalogue import VENDORS
from pricewire.settings import Settings, load_settings
from pricewire.web.app import create_app
from tests.fakes import in_virtual_time
from tests.vendor_fakes import Vendor, market

KEYED = {"alpha_vantage", "finnhub", "twelve_data", "massive", "alpaca", "tiingo"}
KEYLESS = {"history", "yahoo", "coinbase", "binance", "kraken"}


def settings(**given: str) -> Settings:
    return load_settings(_env_file=None, **given)


def keys() -> dict[str, str]:
    return {
        f"{vendor.name}_{need}": "S3CRET" for vendor in VENDORS.values() for need in vendor.needs
    }


def now() -> datetime:
    return datetime.now(UTC)


async def names(given: Settings) -> set[str]:
    providers = made(given, now)
    for name, provider in providers.items():
        assert provider.name == name
        await provider.aclose()
    return set(providers)


async def test_providers_without_a_key_are_always_there_and_others_once_theirs_is_set() -> None:
    assert await names(settings()) == KEYLESS
    assert await names(settings(finnhub_api_key="x")) == KEYLESS | {"finnhub"}
    assert await names(settings(**keys())) == KEYLESS | KEYED


async def test_alpaca_needs_both_halves_of_its_key() -> None:
    assert await names(settings(alpaca_api_key_id="x")) == KEYLESS
    assert await names(settings(alpaca_api_secret_key="x")) == KEYLESS
    both = settings(alpaca_api_key_id="x", alpaca_api_secret_key="y")
    assert await names(both) == KEYLESS | {"alpaca"}


def test_where_a_vendor_is_asked_by_default_is_its_origin() -> None:
    for vendor in VENDORS.values():
        assert getattr(settings(), f"{vendor.name}_base_url") == vendor.origin


@pytest.mark.parametrize("name", sorted(KEYED))
def test_a_default_provider_needs_its_keys(name: str) -> None:
    with pytest.raises(StartupError, match=f"DEFAULT_PROVIDER={name} needs {name.upper()}_API"):
        settings(default_provider=name)
    assert settings(default_provider=name, **keys()).provider == name


@pytest.mark.parametrize("name", sorted(KEYLESS))
def test_a_default_provider_without_keys_needs_nothing(name: str) -> None:
    assert settings(default_provider=name).provider == name


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"default_provider": "nosuch"}, "DEFAULT_PROVIDER is one of history"),
        ({"default_provider": "polygon"}, "massive"),
        ({"default_provider": "ccxt:kraken"}, "CCXT_EXCHANGES"),
        ({"ccxt_exchanges": "Kraken"}, "CCXT_EXCHANGES"),
        ({"ccxt_exchanges": "kraken,,x"}, "CCXT_EXCHANGES"),
        ({"kraken_base_url": "https://api.kraken.com/0"}, "KRAKEN_BASE_URL"),
    ],
)
def test_what_cannot_work_is_refused_at_start_up(given: dict[str, str], told: str) -> None:
    with pytest.raises(StartupError, match=told):
        settings(**given)


@dataclass(frozen=True)
class Running:
    """As much of the running services as the route asks for."""

    providers: tuple[Listed, ...]
    guards: Guards = field(default_factory=lambda: Guards({}))


async def answered(given: Settings | Running) -> dict[str, dict[str, Any]]:
    running = given if isinstance(given, Running) else Running(tuple(listed(given)))
    app = create_app(cast("Services", running))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/v1/providers", "headers": []}
    await app(scope | {"query_string": b"", "root_path": ""}, receive, send)
    [start, body] = sent[:2]
    assert (b"content-type", b"application/json") in start["headers"]
    assert b"S3CRET" not in body["body"]
    return {one["name"]: one for one in json.loads(body["body"])["providers"]}


async def test_the_route_lists_them_all_and_shows_no_key() -> None:
    told = await answered(settings(tiingo_api_key="S3CRET", default_provider="tiingo"))
    assert set(told) == KEYLESS | KEYED
    assert told["tiingo"] == {
        "name": "tiingo",
        "title": "Tiingo",
        "needs": ["TIINGO_API_KEY"],
        "configured": True,
        "default": True,
        "base_url": "https://api.tiingo.com",
        "batch": told["tiingo"]["batch"],
        "history": True,
        "feed": False,
        "guard": None,
    }
    assert [one["name"] for one in told.values() if one["default"]] == ["tiingo"]
    assert not told["alpaca"]["configured"]
    assert told["alpaca"]["feed"]
    assert told["alpaca"]["needs"] == ["ALPACA_API_KEY_ID", "ALPACA_API_SECRET_KEY"]
    assert told["yahoo"]["configured"]
    assert not told["yahoo"]["needs"]


@in_virtual_time
async def test_a_provider_in_use_tells_its_health_and_what_is_left_of_its_budget() -> None:
    vendor = Vendor("kraken")
    async with market(vendor, kraken="1/second,2/day") as made:
        running = Running(tuple(listed(settings())), Guards(made.guards))

        async def guard() -> dict[str, Any]:
            told = (await answered(running))["kraken"]["guard"]
            assert isinstance(told, dict)
            return told

        told = await guard()
        assert (told["health"], told["breaker"], told["last_error"]) == ("ready", "closed", None)
        await made.latest("A")
        [_, day] = (await guard())["budget"]
        assert (day["period"], day["calls"], day["left"]) == ("day", 2, 1)
        assert day["until"] == "2024-03-21T00:00:00Z"
        vendor.says = Throttled("enough", throttle=Throttle.MINUTE, retry_after=60)
        with pytest.raises(Throttled):
            await made.latest("B")
        told = await guard()
        assert (told["health"], told["last_error"]) == ("cooling", "enough")
        assert 59 < told["cooling_seconds"] <= 60
        await asyncio.sleep(61)
        assert (await guard())["health"] == "out_of_budget"


def test_the_default_budgets_are_those_of_the_vendors_own_addresses() -> None:
    own = load_settings(alpha_vantage_api_key="key")
    assert str(budget_of(own, "alpha_vantage")) == "1/second,25/day"
    mirror = {"alpha_vantage_api_key": "key", "alpha_vantage_base_url": "http://localhost:1"}
    assert budget_of(load_settings(**mirror), "alpha_vantage").unlimited
    kept = load_settings(**mirror, alpha_vantage_budget="3/day")
    assert str(budget_of(kept, "alpha_vantage")) == "3/day"
