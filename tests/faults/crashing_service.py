"""`pricewire`, killed at a named step between a provider's answer and the mark of its outbox row.

Run as a program by `test_crash_points`: CRASH_AT names the step, and the process dies there, as by
`kill -9`, the first time it gets there once the file CRASH_WHEN exists. Invariant: the product
knows nothing of it; its functions are wrapped from outside.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from pricewire.cli.main import main
from pricewire.kafka.producer import ShardProducer
from pricewire.providers.history import History
from pricewire.services.relay import ShardRelay
from pricewire.storage import outbox, recording
from pricewire.storage.outbox import SqlShardStore
from pricewire.storage.recording import SqlRecordingStore

Holds = Callable[..., bool]


def always(*_: Any) -> bool:
    return True


def marks_something(_store: object, published: dict[int, object], *_: object) -> bool:
    """The relay keeps its position with the very call that marks."""
    return bool(published)


BEFORE, AFTER = "before", "after"

POINTS: dict[str, tuple[Any, str, str, Holds]] = {
    "after the provider's answer": (History, "fetch", AFTER, always),
    "before the symbols are locked": (recording, "_lock", BEFORE, always),
    "after the symbols are locked": (recording, "_lock", AFTER, always),
    "after the inserts, before their commit": (recording, "_insert", AFTER, always),
    "after the commit, before the answer": (SqlRecordingStore, "record", AFTER, always),
    "before the hand-over": (ShardProducer, "hand_over", BEFORE, always),
    "after the hand-over, before the delivery": (ShardProducer, "hand_over", AFTER, always),
    "after the broker's answer, before its report is taken": (
        *(ShardRelay, "_take_reports", BEFORE),
        always,
    ),
    "before the mark": (SqlShardStore, "mark", BEFORE, marks_something),
    "inside the mark's transaction": (outbox, "delete_by_key", AFTER, always),
    "after the mark": (SqlShardStore, "mark", AFTER, marks_something),
}


def crash_if(holds: bool) -> None:
    if holds and Path(os.environ["CRASH_WHEN"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)


def crash_at(point: str) -> None:
    """Wrap the point's function so that the process dies before or after it."""
    owner, name, when, holds = POINTS[point]
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        crash_if(when == BEFORE and holds(*args))
        result = original(*args, **kwargs)
        crash_if(when == AFTER and holds(*args))
        return result

    @functools.wraps(original)
    async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
        crash_if(when == BEFORE and holds(*args))
        result = await original(*args, **kwargs)
        crash_if(when == AFTER and holds(*args))
        return result

    setattr(owner, name, wrapped_async if iscoroutinefunction(original) else wrapped)


if __name__ == "__main__":
    crash_at(os.environ["CRASH_AT"])
    main()
