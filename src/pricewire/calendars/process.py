"""Runs the worker that knows the exchanges' trading days; fulfils `services.sessions.Calendars`.

Invariant: the process is given days and names of exchanges and nothing else, no setting and no
environment of ours; it ends in time, and with whoever asked for it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from pricewire.domain.exchange import EXCHANGES
from pricewire.domain.session import Timetable, TradingDay
from pricewire.errors import CalendarsUnavailable

PACKAGE: Final = "exchange-calendars"
SECONDS: Final = 120.0
_WORKER: Final = "pricewire.calendars.worker"


class _Made(msgspec.Struct):
    first: date
    last: date
    days: list[tuple[date, int, int, int | None, int | None, bool]]


class WorkerCalendars:
    """See the module.

    Args:
        seconds: after which the process is ended.
        program: what is run, but for the days and the names.
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS,
        program: Sequence[str] = (sys.executable, "-I", "-m", _WORKER),
    ) -> None:
        self._seconds = seconds
        self._program = tuple(program)

    @property
    def version(self) -> str | None:
        """The version of what knows the days, None where it is not installed."""
        if importlib.util.find_spec("exchange_calendars") is None:
            return None
        return importlib.metadata.version(PACKAGE)

    async def timetables(
        self, names: Sequence[str], first: date, last: date
    ) -> Mapping[str, Timetable]:
        """Return what is known of the exchanges (MICs) from `first` to at most `last`.

        Raises:
            CalendarsUnavailable: the process failed.
        """
        told = await self._told([first.isoformat(), last.isoformat(), *names])
        try:
            made = msgspec.json.decode(told, type=dict[str, _Made])
            return {name: _timetable(name, one) for name, one in made.items()}
        except (msgspec.MsgspecError, KeyError, ValueError, OverflowError) as error:
            raise CalendarsUnavailable(f"{PACKAGE} gave no trading days: {error}") from None

    async def _told(self, arguments: Sequence[str]) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._program, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={}, cwd="/"
            )
        except OSError as error:
            raise CalendarsUnavailable(f"no process for {PACKAGE}: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._seconds):
                told, trouble = await process.communicate()
        except TimeoutError:
            raise CalendarsUnavailable(
                f"{PACKAGE} gave no trading days within {self._seconds:g} s"
            ) from None
        finally:
            await _ended(process)
        if process.returncode != 0:
            words = trouble.decode("utf-8", "replace").strip().splitlines() or [""]
            raise CalendarsUnavailable(f"{PACKAGE} failed: {words[-1][:300]}")
        return told


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _timetable(name: str, made: _Made) -> Timetable:
    days = [
        TradingDay(
            day,
            _moment(opens),
            _moment(closes),
            None if begins is None or ends is None else (_moment(begins), _moment(ends)),
            early,
        )
        for day, opens, closes, begins, ends, early in made.days
    ]
    return Timetable(EXCHANGES[name], days, first=made.first, last=made.last)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
