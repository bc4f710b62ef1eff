"""Spends a provider's budget until it is told to stop: a process that tests can kill -9.

`python -m tests.budget_process DATABASE_URL BUDGET NOW` prints a line for each call that it would
make then, after the call is counted, and `used up` at the end.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

from pricewire.domain.budget import parse_budget
from pricewire.errors import Throttled
from pricewire.services.spending import Spending
from pricewire.storage.budgets import SqlBudgets
from tests.conftest import open_database


async def main(url: str, budget: str, now: str) -> None:
    database = open_database(url)
    clock = datetime.fromisoformat(now)
    spending = Spending(
        "vendor", parse_budget(budget), store=SqlBudgets(database), clock=lambda: clock
    )
    try:
        while True:
            await spending.spend()
            print("call", flush=True)
    except Throttled:
        print("used up", flush=True)
    await database.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
