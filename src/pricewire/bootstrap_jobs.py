"""Composes polling jobs: what keeps and plans them, and the loop that polls them.

`bootstrap` calls it. Invariant: jobs are planned with the very budgets, batches and credits that
the guards count with, and their prices go the way of every other price.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pricewire.bootstrap_latest import Main
from pricewire.domain.budget import Budget
from pricewire.services.fetching import Source
from pricewire.services.guard import Guard
from pricewire.services.jobs import Jobs, Plannable
from pricewire.services.polling import Polling
from pricewire.services.sessions import Sessions
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.jobs import SqlJobs


def polling_jobs(
    settings: Settings,
    main: Main,
    *,
    database: Database,
    sessions: Sessions,
    clock: Callable[[], datetime],
) -> tuple[Jobs, Polling]:
    """Return the jobs, and what polls them once it is run."""
    store = SqlJobs(database)
    polling = Polling(
        store,
        main.asking,
        sessions=sessions,
        clock=clock,
        grace_seconds=settings.shutdown_seconds / 2,
    )
    jobs = Jobs(
        store,
        providers={name: _plannable(name, source) for name, source in main.sources.items()},
        default=settings.provider,
        clock=clock,
        changed=polling.look,
    )
    return jobs, polling


def _plannable(name: str, source: Source) -> Plannable:
    if isinstance(source, Guard):
        return Plannable(name, source.budget, source.batch, source.credit_per_symbol)
    return Plannable(name, Budget(), source.batch, credit_per_symbol=False)
