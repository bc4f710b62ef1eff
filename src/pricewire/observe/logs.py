"""Sets up logging, once, for a process; the composition root calls it.

Invariant: one line an event, named `noun.verb_past` with fields, on stderr; libraries' lines go the
same way, and those that would print a URL with a key are not let through.
"""

from __future__ import annotations

import logging
import sys

import structlog

_QUIET = {"aiohttp": logging.WARNING, "alembic": logging.WARNING, "uvicorn": logging.WARNING}
_SILENT = logging.CRITICAL + 1


def configure_logs(level: str, *, as_json: bool) -> None:
    """Log from `level` up, as text for people or JSON for machines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(floor)
    # librdkafka repeats "connection refused" for as long as a broker is away, and each producer
    # that a broker refuses calls that fatal; the relay says both, once.
    logging.getLogger("librdkafka").setLevel(_SILENT if level != "DEBUG" else level)
