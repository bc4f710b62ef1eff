"""`pricewire up`, `api` and `relay`: the service in the foreground, whole or in parts.

Invariant: SIGTERM or Ctrl-C stops cleanly and exits 0; a part that dies of a bug stops the whole
process, and its trace is the last thing that is printed.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import typer
import uvloop

from pricewire.bootstrap import (
    ALL_PARTS,
    PROCESSORS,
    Connection,
    Parts,
    Services,
    running,
    start_logs,
)
from pricewire.bootstrap_kafka import kafka_ready, named_kafka
from pricewire.settings import Settings, load_settings, mask_url
from pricewire.web.server import bind, serve


@dataclass(frozen=True, slots=True)
class _Run:
    settings: Settings
    connection: Connection
    parts: Parts
    listening: socket.socket | None


def up() -> None:
    """Run everything in the foreground: a local Kafka if none is named, the API, the relay."""
    settings = _prepare()
    with ExitStack() as stack:
        listening = stack.enter_context(bind(settings.api_host, settings.api_port))
        connection = stack.enter_context(kafka_ready(settings, _say))
        _run(_Run(settings, connection, ALL_PARTS, listening))
    _say("stopped")


def api() -> None:
    """Run the API alone; needs PostgreSQL, and `pricewire relay` somewhere."""
    settings = _prepare()
    with bind(settings.api_host, settings.api_port) as listening:
        parts = Parts(api=True)
        _run(_Run(settings, named_kafka(settings), parts, listening))


def relay() -> None:
    """Run the relay alone; needs PostgreSQL. Several share the shards."""
    settings = _prepare()
    _run(_Run(settings, named_kafka(settings), Parts(relay=True), None))


def processor(
    name: Annotated[str, typer.Argument(help=", ".join(PROCESSORS))],
) -> None:
    """Run a processor alone; needs PostgreSQL. Several share the partitions."""
    if name not in PROCESSORS:
        raise typer.BadParameter(
            f"there is no processor {name!r}; there is {', '.join(PROCESSORS)}"
        )
    settings = _prepare()
    _run(_Run(settings, named_kafka(settings), Parts(processors=(name,)), None))


def _prepare() -> Settings:
    settings = load_settings()
    start_logs(settings)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    return settings


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Unwind what was begun while starting; once it runs, the event loop has the signals."""
    sys.exit(0)


def _run(run: _Run) -> None:
    uvloop.run(_serve(run))


async def _serve(run: _Run) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(run.settings, run.connection, run.parts) as services:
        services.crashed.add_done_callback(lambda _: stop.set())
        _spare_the_collector()
        _announce(run, services)
        if run.listening is None:
            await stop.wait()
        else:
            from pricewire.web.app import create_app  # noqa: PLC0415

            grace = run.settings.shutdown_seconds
            streaming = services.streaming
            assert streaming is not None
            await serve(
                create_app(services),
                run.listening,
                stop,
                grace_seconds=grace,
                before_stop=streaming.stop,
            )
        _say("stopping ...")
    if services.crashed.done():
        services.crashed.result()


def _spare_the_collector() -> None:
    """Keep what lives as long as the process out of every garbage collection.

    Requests leave next to no cycles behind, and a full collection would stop them for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _announce(run: _Run, services: Services) -> None:
    settings = run.settings
    _say(f"kafka      {run.connection.servers}, topic {services.topic}")
    _say(f"database   {mask_url(settings.database)}")
    _say(f"source     {services.source}")
    if run.listening is not None:
        _say(f"provider   {settings.provider}")
        host, port = settings.api_host, settings.api_port
        _say(f"api        http://{host}:{port}  (docs: /docs, health: /health/ready)")
        _say(f'try        curl "http://localhost:{port}/v1/prices/latest?symbol=AAPL"')


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()
