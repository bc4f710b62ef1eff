"""How this room reaches a database: the interface over PostgreSQL and SQLite, and their errors.

Every module here gives `read` or `write` a function over a plain connection; `postgres` runs it on
asyncpg, `sqlite` in the one writing thread (docs/decisions/0005). Invariant: every driver error
leaves this room as a StoreError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ProgrammingError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pricewire.errors import RecordRefused, StoreBusy, StoreError, StoreUnavailable

T = TypeVar("T")
Work = Callable[[Connection], T]


class Rank(IntEnum):
    """Who writes first where only one can: the door, the relay's marks, the rest, then bulk."""

    DOOR = 0
    RELAY = 1
    OTHER = 2
    BULK = 3


class Snapshot(Protocol):
    """The database as it was at one moment."""

    async def read(self, work: Work[T]) -> T: ...


class Session(Protocol):
    """What holds a shard's lock; reads and writes go over it."""

    async def read(self, work: Work[T]) -> T: ...

    async def write(self, rank: Rank, work: Work[T]) -> T: ...


class Database(ABC):
    """One database; all of it raises `StoreError`."""

    is_sqlite: bool
    insert: Any
    """The dialect's `insert`, which knows ON CONFLICT."""

    @abstractmethod
    async def read(self, work: Work[T]) -> T:
        """Run `work`, each statement for itself."""

    @abstractmethod
    async def write(self, rank: Rank, work: Work[T]) -> T:
        """Run `work` in a transaction; commit it, or roll it back on an error."""

    @abstractmethod
    def shard_session(
        self, lock_class: int, shard: int
    ) -> AbstractAsyncContextManager[Session | None]:
        """Hold a shard's lock while inside; gives None if another process has it.

        Args:
            lock_class: tells shards of one topic from those of another.
        """

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Read the database as it was when it was first read from, while inside."""

    @abstractmethod
    async def aclose(self) -> None: ...


@contextmanager
def translated() -> Iterator[None]:
    """Turn the drivers' errors into StoreErrors.

    Raises:
        StoreError: see `store_error`; an error that is none of the database's passes as it is.
    """
    try:
        yield
    except DBAPIError as error:
        raise store_error(error) from error
    except (
        *(OSError, TimeoutError, PoolTimeoutError),
        *(ResourceClosedError, PendingRollbackError),
    ) as error:
        raise StoreUnavailable(f"no connection to the database: {_brief(error)}") from error


def store_error(error: DBAPIError) -> StoreError:
    """Return the StoreError for a driver's error.

    By SQLSTATE (PostgreSQL, appendix A): 55P03 lock not available, 40… deadlock or serialization,
    57014 cancelled; 22… and 23… say that the data can never be stored. SQLite has texts only.
    """
    state = getattr(error.orig, "sqlstate", None) or ""
    text = _brief(error.orig)
    if state == "55P03" or state.startswith("40") or "database is locked" in text:
        return StoreBusy(f"the database is busy: {text}")
    if state.startswith(("22", "23")) or type(error).__name__ in ("IntegrityError", "DataError"):
        return RecordRefused(f"the database refused the record: {text}")
    if state.startswith(("42", "P0")) or isinstance(error, ProgrammingError):
        return StoreError(f"the database refused the statement: {text}")
    return StoreUnavailable(f"the database failed: {text}")


def _brief(error: BaseException | None) -> str:
    return str(error).split("\n", 1)[0][:300] or type(error).__name__
