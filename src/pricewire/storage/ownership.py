"""One process to a SQLite file: the composition root takes this lock before it opens one.

Invariant: the lock is the kernel's and ends with the process, however it ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pricewire.errors import StartupError


@contextmanager
def owned(database: Path) -> Iterator[None]:
    """Own `database` while inside.

    Raises:
        StartupError: another process has it, or the folder cannot be written.
    """
    lock = database.with_name(database.name + ".lock")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise StartupError(f"cannot write in {database.parent}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupError(
                f"another pricewire uses {database}: one process serves a SQLite database; "
                "stop it, set another PRICEWIRE_HOME, or use PostgreSQL by DATABASE_URL"
            ) from None
        yield
