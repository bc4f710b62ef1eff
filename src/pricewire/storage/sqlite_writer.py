"""SQLite's one writing connection in its thread; `storage.sqlite` hands it transactions.

Invariants: who writes next is decided by rank, and within a rank by order of arrival; an outcome
is told after its commit; relay's marks that wait together are one transaction, and yet an error
of one fails no other.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sqlalchemy import Engine

from pricewire.storage.database import Rank, T, Work, translated


@dataclass(order=True, slots=True)
class _Waiting:
    rank: Rank
    number: int
    work: Work[Any] = field(compare=False)
    outcome: Future[Any] = field(compare=False, default_factory=Future)


class SqliteWriter:
    """See the module.

    Args:
        engine: its only connection is this thread's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._numbers = itertools.count()
        self._waiting: list[_Waiting] = []
        self._lock = Lock()

    async def write(self, rank: Rank, work: Work[T]) -> T:
        """Run `work` in a transaction; of rank RELAY it may be rolled back and run again."""
        waiting = _Waiting(rank, next(self._numbers), work)
        with self._lock:
            heapq.heappush(self._waiting, waiting)
        self._thread.submit(self._serve)
        outcome: T = await asyncio.wrap_future(waiting.outcome)
        return outcome

    async def aclose(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    def _serve(self) -> None:
        """Write what is first now; there may be nothing, where others went with those before."""
        group = [one for one in self._take() if one.outcome.set_running_or_notify_cancel()]
        if len(group) > 1 and self._write_together(group):
            return
        for one in group:
            self._write_alone(one)

    def _take(self) -> list[_Waiting]:
        with self._lock:
            if not self._waiting:
                return []
            group = [heapq.heappop(self._waiting)]
            while self._waiting and self._waiting[0].rank == group[0].rank == Rank.RELAY:
                group.append(heapq.heappop(self._waiting))
            return group

    def _write_together(self, group: Sequence[_Waiting]) -> bool:
        """Tell whether all of it is committed: where one fails, none is."""
        try:
            with self._engine.begin() as connection:
                results = [one.work(connection) for one in group]
        except Exception:  # noqa: BLE001  Whose it is, is found by each for itself.
            return False
        for one, result in zip(group, results, strict=True):
            one.outcome.set_result(result)
        return True

    def _write_alone(self, one: _Waiting) -> None:
        try:
            with translated(), self._engine.begin() as connection:
                result = one.work(connection)
        except BaseException as error:  # noqa: BLE001  It is the caller's, who waits for it.
            one.outcome.set_exception(error)
        else:
            one.outcome.set_result(result)
