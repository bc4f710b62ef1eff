"""Processes of `pricewire` that start in a moment: forked off one that has imported it already.

The tests of processors under any schedule use it: there processes come and go by the hundred, and
importing the program costs two seconds each time. Invariant: what runs is the command line's own
entry in a process of its own, with its own environment, that a signal reaches like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

_IMPORTED = ["pytest", "pricewire.cli.main", "pricewire.cli.service", "pricewire.bootstrap"]


def _forks() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_IMPORTED, __name__])
    return context


def warm() -> None:
    """Start the process that others are forked off: the first one waits for its imports."""
    first = _forks().Process(target=str)
    first.start()
    first.join()


def _run(arguments: tuple[str, ...], environment: dict[str, str], home: str) -> None:
    os.chdir(home)
    with Path(f"{arguments[0]}.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["pricewire", *arguments]
    from pricewire.cli.main import main  # noqa: PLC0415

    main()


@dataclass
class Forked:
    """One `pricewire COMMAND`; may be started again after it ended."""

    home: Path
    environment: dict[str, str]
    arguments: tuple[str, ...]
    process: BaseProcess | None = field(default=None, repr=False)

    @property
    def log(self) -> str:
        path = self.home / f"{self.arguments[0]}.log"
        return path.read_text() if path.exists() else ""

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.exitcode

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment}
        given = (self.arguments, environment, str(self.home))
        self.process = _forks().Process(target=_run, args=given, daemon=True)
        self.process.start()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join()

    def stop(self, seconds: float = 30) -> int | None:
        assert self.process is not None
        self.process.terminate()
        self.process.join(seconds)
        return self.process.exitcode
