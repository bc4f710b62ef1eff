"""Metrics for Prometheus, read off the parts when `/metrics` is asked.

Invariant: nothing on the hot way counts for metrics alone; counters live in the parts' statuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pricewire.observe.feed_metrics import feed_metrics
from pricewire.services.feeds.driver import Feeding
from pricewire.services.lag import PartitionLag
from pricewire.services.live.streaming import StreamStatus
from pricewire.services.outage import ShardStatus
from pricewire.services.polling import PollingStatus
from pricewire.services.processing import ProcessorStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a process tells of itself; None: what it does not run.

    Args:
        relay: statuses of the shards that this process relays, of all topics.
        recorded: how many prices passed the door here.
        processors: statuses of the processors that run here.
        polling: of jobs.
        lag: of all processors, wherever they run, as it was lately.
        feeds: that this process drives.
        streaming: of the live streams out.
    """

    relay: Callable[[], Sequence[ShardStatus]]
    recorded: Callable[[], int]
    processors: Callable[[], Sequence[ProcessorStatus]]
    polling: PollingStatus | None = None
    lag: Callable[[], Sequence[PartitionLag]] | None = None
    feeds: Feeding | None = None
    streaming: Callable[[], StreamStatus] | None = None


class Metrics:
    """One process's registry."""

    def __init__(self, watched: Watched) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Parts(watched))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Parts(Collector):
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        watched = self._watched
        recorded = CounterMetricFamily("pricewire_prices_recorded", "Prices recorded here.")
        recorded.add_metric([], watched.recorded())
        yield recorded
        yield from _relay_metrics(watched.relay())
        yield from _processor_metrics(watched.processors())
        if watched.polling is not None:
            yield from _polling_metrics(watched.polling)
        if watched.lag is not None:
            yield from _lag_metrics(watched.lag())
        if watched.feeds is not None:
            yield from feed_metrics(watched.feeds)
        if watched.streaming is not None:
            yield from _stream_metrics(watched.streaming())


def _lag_metrics(report: Sequence[PartitionLag]) -> Iterator[Metric]:
    labels = ["processor", "partition"]
    events = GaugeMetricFamily(
        "pricewire_processor_lag_events",
        "Records of its topic that a processor has not counted yet, by partition.",
        labels=labels,
    )
    seconds = GaugeMetricFamily(
        "pricewire_processor_lag_seconds",
        "Seconds since the last record that it counted was logged; 0 if none waits.",
        labels=labels,
    )
    for one in report:
        place = [one.processor, str(one.partition)]
        events.add_metric(place, one.behind)
        # Of a partition in which nothing was counted yet it is not known.
        if one.seconds or not one.behind:
            seconds.add_metric(place, one.seconds)
    return iter((events, seconds))


def _stream_metrics(status: StreamStatus) -> Iterator[Metric]:
    readers = GaugeMetricFamily(
        "pricewire_stream_readers",
        "Readers of live streams here, and how many of them are behind or catch up.",
        labels=["state"],
    )
    readers.add_metric(["connected"], status.readers)
    readers.add_metric(["behind"], status.behind)
    readers.add_metric(["catching_up"], status.catching_up)
    events = CounterMetricFamily(
        "pricewire_stream_events",
        "Events for readers of live streams, by what became of them.",
        labels=["outcome"],
    )
    events.add_metric(["given"], status.given)
    events.add_metric(["left_out"], status.left_out)
    cut = CounterMetricFamily("pricewire_stream_cut", "Readers that were too slow and cut.")
    cut.add_metric([], status.cut)
    return iter((readers, events, cut))


def _polling_metrics(status: PollingStatus) -> Iterator[Metric]:
    polls = CounterMetricFamily(
        "pricewire_polls", "Polls of jobs here, by what became of them.", labels=["outcome"]
    )
    for outcome in ("made", "failed", "late", "missed", "overtaken"):
        polls.add_metric([outcome], getattr(status, outcome))
    running = GaugeMetricFamily("pricewire_polls_running", "Polls under way here.")
    running.add_metric([], status.running)
    return iter((polls, running))


def _processor_metrics(statuses: Sequence[ProcessorStatus]) -> Iterator[Metric]:
    events = GaugeMetricFamily(
        "pricewire_processor_events",
        "Events of the partitions owned here, by what became of them, since their state began.",
        labels=["processor", "outcome"],
    )
    restarts = CounterMetricFamily(
        "pricewire_processor_restarts", "Times it began again.", labels=["processor"]
    )
    checkpoints = CounterMetricFamily(
        "pricewire_processor_checkpoints", "Checkpoints written.", labels=["processor"]
    )
    for status in statuses:
        for outcome in status.counters.__struct_fields__:
            events.add_metric([status.name, outcome], getattr(status.counters, outcome))
        restarts.add_metric([status.name], status.restarts)
        checkpoints.add_metric([status.name], status.checkpoints)
    return iter((events, restarts, checkpoints))


def _relay_metrics(statuses: Sequence[ShardStatus]) -> Iterator[Metric]:
    published = CounterMetricFamily(
        "pricewire_events_published", "Events that the broker confirmed.", labels=["topic", "shard"]
    )
    found = CounterMetricFamily(
        "pricewire_events_found_on_topic",
        "Events found on the topic after a crash or a rebuild, marked, not sent again.",
        labels=["topic", "shard"],
    )
    rebuilds = CounterMetricFamily(
        "pricewire_producer_rebuilds",
        "Producers given up after trouble.",
        labels=["topic", "shard"],
    )
    stuck = GaugeMetricFamily(
        "pricewire_shard_stuck",
        "1 while a shard's first event is stuck.",
        labels=["topic", "shard"],
    )
    attempts = GaugeMetricFamily(
        "pricewire_shard_failed_attempts",
        "Failed attempts of a shard's first event.",
        labels=["topic", "shard"],
    )
    for status in statuses:
        labels = [status.topic, str(status.shard)]
        published.add_metric(labels, status.published)
        found.add_metric(labels, status.found_on_topic)
        rebuilds.add_metric(labels, status.rebuilds)
        stuck.add_metric(labels, float(status.stuck is not None))
        attempts.add_metric(labels, status.attempts)
    return iter((published, found, rebuilds, stuck, attempts))
