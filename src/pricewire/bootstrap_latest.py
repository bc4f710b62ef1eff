"""Composes the main job: each provider behind its guard, the order of fallbacks, stored prices.

`bootstrap` calls it. Invariant: whatever asks somebody over a network is guarded, and all guards of
one provider, in whatever process, count against one budget.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog

from pricewire.domain.budget import Budget, parse_budget
from pricewire.domain.quote import Fetched, RawResponse
from pricewire.errors import StoreError
from pricewire.services.asking import Asking
from pricewire.services.fetching import Provider, Source, Unguarded
from pricewire.services.guard import Guard, GuardState, Keep
from pricewire.services.latest import LatestPrice
from pricewire.services.receipts import Receipts
from pricewire.services.recording import Door
from pricewire.services.sessions import Sessions
from pricewire.services.spending import Spending
from pricewire.services.stored import Stored
from pricewire.settings import CCXT, Settings
from pricewire.storage.budgets import SqlBudgets
from pricewire.storage.database import Database
from pricewire.storage.stored_prices import SqlStoredPrices

UNGUARDED = "history"
# Whose midnight ends a day; everybody else's is UTC's.
_ZONES = {"alpha_vantage": ZoneInfo("America/New_York")}
_CREDIT_PER_SYMBOL = frozenset({"twelve_data"})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Guards:
    """What is known of the providers in use; the web lists it."""

    by_name: Mapping[str, Guard]

    async def states(self) -> dict[str, GuardState]:
        """Return each guard's state.

        Raises:
            StoreError: the budgets cannot be read.
        """
        return {name: await guard.state() for name, guard in self.by_name.items()}


@dataclass(frozen=True, slots=True)
class Main:
    """The main job and what it is made of.

    Args:
        sources: who can be asked, by name.
    """

    latest: LatestPrice
    guards: Guards
    asking: Asking
    sources: Mapping[str, Source]


def budget_of(settings: Settings, provider: str) -> Budget:
    """Return what a provider's plan allows.

    The defaults are the vendors' free plans: what stands at another address than the vendor's own,
    such as a paid mirror or a server for tests, has no budget unless one is set.
    """
    name = "ccxt" if provider.startswith(CCXT) else provider
    zone = _ZONES.get(name, ZoneInfo("UTC"))
    given = settings.model_fields_set
    if f"{name}_base_url" in given and f"{name}_budget" not in given:
        return parse_budget("off", zone)
    return parse_budget(getattr(settings, f"{name}_budget"), zone)


@asynccontextmanager
async def latest_prices(  # noqa: PLR0913
    settings: Settings,
    providers: Mapping[str, Provider],
    *,
    database: Database,
    door: Door,
    receipts: Receipts,
    sessions: Sessions,
    shard_of: Callable[[str], int],
    clock: Callable[[], datetime],
) -> AsyncIterator[Main]:
    """Give the main job; leaving stops what is under way."""
    budgets = SqlBudgets(database)
    allowed = {name: budget_of(settings, name) for name in providers if name != UNGUARDED}
    guards = {
        name: Guard(
            providers[name],
            spending=Spending(name, budget, store=budgets, clock=clock),
            keep=_keeping(door),
            timeout_seconds=settings.provider_timeout_seconds,
            credit_per_symbol=name in _CREDIT_PER_SYMBOL,
            cools_off=not budget.unlimited,
        )
        for name, budget in allowed.items()
    }
    sources: dict[str, Source] = {
        name: guards.get(name) or Unguarded(provider) for name, provider in providers.items()
    }
    stored = Stored(door, SqlStoredPrices(database, shard_of))
    asking = Asking(
        sources,
        (settings.provider, *settings.fallbacks),
        door=door,
        currency=stored.currency,
        seconds=settings.provider_total_seconds,
    )
    async with AsyncExitStack() as stack:
        for guard in guards.values():
            stack.push_async_callback(guard.aclose)
        latest = LatestPrice(
            asking, stored=stored, receipts=receipts, sessions=sessions, clock=clock
        )
        stack.push_async_callback(latest.aclose)
        yield Main(latest, Guards(guards), asking, sources)


def _keeping(door: Door) -> Keep:
    async def keep(raw: RawResponse) -> None:
        try:
            await door.record(Fetched(raw, ()))
        except StoreError as error:
            # Whoever asked for a price is told why there is none, not that this was not kept.
            log.warning("raw_response.not_kept", provider=raw.provider, error=error.detail)

    return keep
