"""Metrics of the feeds that this process has; `metrics` gives them when `/metrics` is asked.

Invariant: a feed that another process has is not counted here: that one counts it.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from pricewire.services.feeds.driver import Feeding
from pricewire.services.feeds.tally import STREAMING

_COUNTERS = {
    "ticks": ("pricewire_feed_ticks", "Ticks that were recorded."),
    "repeats": ("pricewire_feed_repeats", "Ticks that came again and were dropped."),
    "conflated": ("pricewire_feed_conflated", "Ticks left out because jobs want fewer."),
    "gaps": ("pricewire_feed_gaps", "Times that trades were missing."),
    "filled": ("pricewire_feed_filled", "Missing trades that came late or were fetched."),
    "lost": ("pricewire_feed_lost", "Missing trades that are given up."),
    "frames": ("pricewire_feed_frames", "Frames that were received."),
    "unreadable": ("pricewire_feed_unreadable", "Frames that are not what the vendor sends."),
    "connections": ("pricewire_feed_connections", "Connections that were opened."),
    "reconnects": ("pricewire_feed_reconnects", "Connections that followed another."),
    "dropped_connections": (
        "pricewire_feed_dropped_connections",
        "Connections closed here since ticks could not be recorded fast enough.",
    ),
}


def feed_metrics(feeds: Feeding) -> Iterator[Metric]:
    counters = {
        member: CounterMetricFamily(name, text, labels=["feed"])
        for member, (name, text) in _COUNTERS.items()
    }
    streaming = _gauge("pricewire_feed_streaming", "1 while ticks come or may come.")
    rate = _gauge("pricewire_feed_rate", "Ticks a second, of the last ten.")
    lag = _gauge("pricewire_feed_lag_seconds", "From the market's time to ours, of the last tick.")
    missing = _gauge("pricewire_feed_missing", "Trades that never came, as far as looked out for.")
    waiting = _gauge("pricewire_feed_waiting_frames", "Frames that are read, not recorded yet.")
    for name, run in feeds.runs.items():
        status = run.status()
        if status is None:
            continue
        for member, family in counters.items():
            family.add_metric([name], getattr(status, member))
        streaming.add_metric([name], float(status.state == STREAMING))
        rate.add_metric([name], status.rate)
        missing.add_metric([name], status.missing)
        waiting.add_metric([name], run.waiting_frames)
        if status.lag_ms is not None:
            lag.add_metric([name], status.lag_ms / 1000)
    return iter((*counters.values(), streaming, rate, lag, missing, waiting))


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["feed"])
