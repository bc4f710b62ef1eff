"""Budgets in the database: shared by processes, counted before the call, never overspent."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from pricewire.domain.budget import parse_budget
from pricewire.errors import Throttle, Throttled
from pricewire.services.spending import Spending
from pricewire.storage.budgets import SqlBudgets
from pricewire.storage.database import Database
from pricewire.storage.tables import budgets
from tests.builders import execute, on_postgres, opened

NOW = datetime(2024, 3, 20, 12, 0, tzinfo=UTC)


def spending(database: Database, budget: str = "25/day", now: datetime = NOW) -> Spending:
    return Spending("vendor", parse_budget(budget), store=SqlBudgets(database), clock=lambda: now)


async def calls_made(callers: list[Spending]) -> int:
    """Let each caller spend one call, all at once; return how many may make it."""
    outcomes = await asyncio.gather(*(one.spend() for one in callers), return_exceptions=True)
    refused = [one for one in outcomes if one is not None]
    assert all(isinstance(one, Throttled) for one in refused), refused
    return len(outcomes) - len(refused)


async def test_of_100_at_the_same_moment_at_24_one_makes_the_25th_call(
    database: Database,
) -> None:
    shared = spending(database)
    for _ in range(24):
        await shared.spend()
    assert await calls_made([shared] * 100) == 1
    with pytest.raises(Throttled, match="25 calls a day") as refused:
        await shared.spend()
    assert refused.value.throttle is Throttle.DAY
    assert refused.value.retry_after == timedelta(hours=12).total_seconds()


@on_postgres
async def test_processes_share_a_budget(database: Database, database_url: str) -> None:
    async with opened(database_url) as second, opened(database_url) as third:
        each = [spending(one) for one in (database, second, third)]
        # In step, so that their transactions overlap.
        assert sum([await calls_made(each) for _ in range(20)]) == 25
        tomorrow = NOW + timedelta(days=1)
        each = [spending(one, now=tomorrow) for one in (database, second, third)]
        assert await calls_made(each * 40) == 25


async def test_it_goes_on_where_it_was_after_a_restart(
    database: Database, database_url: str
) -> None:
    assert await calls_made([spending(database)] * 20) == 20
    async with opened(database_url) as again:
        assert await calls_made([spending(again)] * 20) == 5
        tomorrow = NOW + timedelta(days=1)
        assert await calls_made([spending(again, now=tomorrow)] * 30) == 25


async def test_another_plan_counts_what_was_spent(database: Database) -> None:
    assert await calls_made([spending(database, "25/day")] * 20) == 20
    assert await calls_made([spending(database, "8/minute,30/day")] * 20) == 8
    [minute, day] = await spending(database, "8/minute,30/day").remaining()
    assert (minute.calls, day.calls) == (0, 2)


async def test_a_call_that_costs_several_is_counted_whole_or_not_at_all(
    database: Database,
) -> None:
    shared = spending(database, "8/minute")
    await shared.spend(5)
    with pytest.raises(Throttled):
        await shared.spend(5)
    await shared.spend(3)
    [left] = await shared.remaining()
    assert left.calls == 0


async def test_who_gives_up_does_not_hold_up_the_others(database: Database) -> None:
    shared = spending(database)
    impatient = asyncio.create_task(shared.spend())
    others = asyncio.create_task(calls_made([shared] * 30))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await others in (24, 25)
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await shared.aclose()


async def test_a_database_that_lost_a_provider_counts_it_anew(database: Database) -> None:
    shared = spending(database)
    await shared.spend()
    await execute(database, delete(budgets))
    assert await calls_made([shared] * 30) == 25


async def test_kill_9_never_gives_a_call_twice(database: Database, database_url: str) -> None:
    """Each killed process may lose the call that it had counted, and only that."""
    made = killed = 0
    command = [sys.executable, "-m", "tests.budget_process", database_url, "25/day"]
    while killed < 4:
        process = subprocess.Popen([*command, NOW.isoformat()], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(3 + killed):
            assert await asyncio.to_thread(process.stdout.readline) == "call\n"
        process.send_signal(signal.SIGKILL)
        made += 3 + killed + process.communicate()[0].count("call\n")
        killed += 1
    made += await calls_made([spending(database)] * 30)
    assert 25 - killed <= made <= 25
