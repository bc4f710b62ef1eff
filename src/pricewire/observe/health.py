"""Health: each part by name, and whether the service is ready; `/health/ready` answers it.

Invariant: `ready` means that a price asked for now would be recorded. Kafka being away makes the
service degraded, not unready: prices are recorded and wait in the outbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from pricewire.errors import StoreError
from pricewire.services.feeds.driver import Feeding
from pricewire.services.feeds.tally import STREAMING
from pricewire.services.outage import KAFKA_AWAY, TOPIC_MISMATCH, ShardStatus
from pricewire.services.polling import PollingStatus
from pricewire.services.processing import ProcessorStatus


class Depth(Protocol):
    @property
    def waiting(self) -> int: ...

    @property
    def oldest(self) -> datetime | None: ...


class Health:
    """Gathers what the parts say.

    Args:
        outbox: what waits in it; `history_outbox`: past prices.
        kafka: why no broker answers, None while one does.
        relay: statuses of the shards that this process relays; empty if it does not;
            `history_relay`: those of past prices.
        processors: statuses of the processors that run here.
        polling: of jobs; None where this process polls none.
        feeds: those that this process has; None where it drives none.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        outbox: Callable[[], Awaitable[Depth]],
        history_outbox: Callable[[], Awaitable[Depth]],
        kafka: Callable[[], Awaitable[str | None]],
        relay: Callable[[], Sequence[ShardStatus]],
        history_relay: Callable[[], Sequence[ShardStatus]],
        processors: Callable[[], Sequence[ProcessorStatus]],
        polling: PollingStatus | None = None,
        feeds: Feeding | None = None,
        clock: Callable[[], datetime],
    ) -> None:
        self._outbox = outbox
        self._history_outbox = history_outbox
        self._kafka = kafka
        self._relay = relay
        self._history_relay = history_relay
        self._processors = processors
        self._polling = polling
        self._feeds = feeds
        self._clock = clock

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the service is ready, and the parts."""
        parts: dict[str, Any] = {}
        ready = True
        try:
            depth, history_depth = await self._outbox(), await self._history_outbox()
        except StoreError as error:
            ready = False
            parts["database"] = {"status": "down", "error": error.detail}
        else:
            parts["database"] = {"status": "up"}
            parts["outbox"] = self._outbox_part(depth)
            parts["history_outbox"] = self._outbox_part(history_depth)
        trouble = await self._kafka()
        parts["kafka"] = {"status": "down", "error": trouble} if trouble else {"status": "up"}
        for name, relay in (("relay", self._relay), ("history_relay", self._history_relay)):
            if statuses := relay():
                parts[name] = _relay_part(statuses)
        for processor in self._processors():
            parts[processor.name] = _processor_part(processor)
        if self._polling is not None:
            parts["polling"] = _polling_part(self._polling)
        if self._feeds is not None:
            parts["feeds"] = _feeds_part(self._feeds)
        return ready, {"status": _overall(parts, ready=ready), "parts": parts}

    def _outbox_part(self, depth: Depth) -> dict[str, Any]:
        age = (self._clock() - depth.oldest).total_seconds() if depth.oldest else 0.0
        return {"status": "up", "waiting": depth.waiting, "oldest_seconds": round(max(age, 0), 3)}


def _relay_part(statuses: Sequence[ShardStatus]) -> dict[str, Any]:
    stuck = [status for status in statuses if status.stuck is not None]
    away = [status for status in statuses if status.phase in (KAFKA_AWAY, TOPIC_MISMATCH)]
    word = "stuck" if stuck else "degraded" if away else "up"
    return {
        "status": word,
        "shards": [
            {
                "shard": status.shard,
                "phase": status.phase,
                "generation": status.generation,
                "published": status.published,
                "attempts": status.attempts,
                "stuck": str(status.stuck) if status.stuck else None,
                "last_error": status.last_error,
            }
            for status in statuses
        ],
    }


def _processor_part(status: ProcessorStatus) -> dict[str, Any]:
    return {
        "status": "up" if status.phase in ("starting", "running") else "degraded",
        "phase": status.phase,
        "partitions": sorted(status.partitions),
        "restarts": status.restarts,
        "last_error": status.last_error,
    }


def _polling_part(status: PollingStatus) -> dict[str, Any]:
    return {"status": "degraded" if status.last_error else "up", **asdict(status)}


def _feeds_part(feeds: Feeding) -> dict[str, Any]:
    """Return the feeds that this process has; one that does not stream makes it degraded."""
    own = [status for run in feeds.runs.values() if (status := run.status())]
    broken = feeds.status.broken or feeds.status.last_error is not None
    streaming = all(status.state == STREAMING for status in own)
    return {
        "status": "up" if streaming and not broken else "degraded",
        "last_error": feeds.status.last_error,
        "broken": list(feeds.status.broken),
        "feeds": [
            {
                "provider": status.provider,
                "state": status.state,
                "subscribed": status.subscribed,
                "rate": status.rate,
                "last_error": status.last_error,
            }
            for status in own
        ],
    }


def _overall(parts: dict[str, Any], *, ready: bool) -> str:
    if not ready:
        return "down"
    return "up" if all(part["status"] == "up" for part in parts.values()) else "degraded"
