"""Lets those who want the same thing at the same time share one piece of work; `asking` does.

Invariant: the work is a task of its own: whoever stops waiting for it takes nothing from the
others, and what nobody waits for any more still ends, at the latest with `aclose`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """See the module."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the work for `key` gives; begin it unless it is under way."""
        task = self._tasks.get(key)
        if task is None:
            task = self.begin(key, work())
        return await asyncio.shield(task)

    def begin(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._landed(key, done))
        return task

    async def aclose(self) -> None:
        """Stop what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            # Where nobody waits any more an error is nobody's; asked for, it is not logged.
            task.exception()
