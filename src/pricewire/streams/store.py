"""Lets a processor's thread use `Checkpoints`, which live on the event loop; fulfils `Store`.

Invariant: a database that is away or busy is waited for here, in place: what is to be written stays
in order, and the processor decides for how long it goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

import structlog

from pricewire.errors import StoreBusy, StoreError, StoreUnavailable
from pricewire.services.processing import (
    Checkpoint,
    Checkpoints,
    Claim,
    Drop,
    PartitionStart,
    Row,
    RowKey,
    Wanted,
)

BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

log = structlog.get_logger()

T = TypeVar("T")


class LoopStore:
    """Checkpoints of one processor, from its thread."""

    def __init__(
        self, checkpoints: Checkpoints, processor: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._checkpoints = checkpoints
        self._processor = processor
        self._loop = loop

    def claim(self, claim: Claim) -> Future[PartitionStart]:
        work = self._patiently(lambda: self._checkpoints.claim(claim))
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def write(self, checkpoints: Sequence[Checkpoint]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self._write(checkpoints), self._loop)

    def drops(self) -> Future[Sequence[Drop]]:
        work = self._patiently(lambda: self._checkpoints.drops(self._processor))
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def load(self, table: str, wanted: Sequence[Wanted]) -> Future[Sequence[Mapping[RowKey, Row]]]:
        work = self._patiently(lambda: self._checkpoints.load(self._processor, table, wanted))
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _write(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Write one partition after the other: each is whole in itself."""
        for checkpoint in checkpoints:
            await self._patiently(lambda: self._checkpoints.write(self._processor, checkpoint))  # noqa: B023

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await call()
            except (StoreUnavailable, StoreBusy) as error:
                self._tell(error, failures)
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1

    def _tell(self, error: StoreError, failures: int) -> None:
        if failures == 0:
            log.warning("processor.store_awaited", processor=self._processor, reason=error.detail)
