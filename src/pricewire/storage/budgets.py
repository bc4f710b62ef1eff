"""What was asked of each provider in its windows; fulfils `services.spending.BudgetStore`.

Invariant: one transaction after the other reads a provider's counters, decides and writes them: a
row lock with PostgreSQL, the one writer with SQLite. So no two processes count the same call.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, select, update

from pricewire.domain.budget import Budget, Counters, Exhausted, Granted, Period, Remaining, Used
from pricewire.storage.database import Database, Rank
from pricewire.storage.tables import budgets

_Written = dict[Period, tuple[datetime, int]]


class SqlBudgets:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    async def spend(
        self, provider: str, budget: Budget, calls: int, now: datetime, *, least: int
    ) -> Granted | Exhausted:
        if provider not in self._known:
            await self._make_known(provider)

        def work(connection: Connection) -> Granted | Exhausted | None:
            counters = _read(connection, provider, lock=True)
            if counters is None:
                return None
            outcome = budget.spend(counters, now, calls, least=least)
            if isinstance(outcome, Granted):
                _write(connection, provider, outcome.counters)
            return outcome

        while (outcome := await self._database.write(Rank.DOOR, work)) is None:
            # The database went back to a time before this provider.
            await self._make_known(provider)
        return outcome

    async def remaining(
        self, provider: str, budget: Budget, now: datetime
    ) -> tuple[Remaining, ...]:
        counters = await self._database.read(
            lambda connection: _read(connection, provider, lock=False)
        )
        return budget.remaining(counters or {}, now)

    async def _make_known(self, provider: str) -> None:
        statement = self._database.insert(budgets).on_conflict_do_nothing()
        row = {"provider": provider, "counters": "{}"}
        await self._database.write(Rank.DOOR, lambda connection: connection.execute(statement, row))
        self._known.add(provider)


def _read(connection: Connection, provider: str, *, lock: bool) -> Counters | None:
    statement = select(budgets.c.counters).where(budgets.c.provider == provider)
    text = connection.scalar(statement.with_for_update() if lock else statement)
    if text is None:
        return None
    written = msgspec.json.decode(text, type=_Written)
    return {period: Used(begin, calls) for period, (begin, calls) in written.items()}


def _write(connection: Connection, provider: str, counters: Counters) -> None:
    written: _Written = {period: (used.begin, used.calls) for period, used in counters.items()}
    text = msgspec.json.encode(written).decode()
    connection.execute(update(budgets).where(budgets.c.provider == provider).values(counters=text))
