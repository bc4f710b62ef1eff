"""Composes live feeds: streaming jobs, and what drives their vendors' feeds.

`bootstrap` calls it. Invariant: a feed whose keys are not set is never connected, and its ticks go
through the door of every other price.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from pricewire.bootstrap_latest import Main
from pricewire.bootstrap_providers import keys_of
from pricewire.providers.feed_anatomy import Feed
from pricewire.providers.feed_catalogue import FEEDS
from pricewire.providers.live_feed import LiveFeed, Rest
from pricewire.providers.rest import RestProvider
from pricewire.services.feeds.driver import Feeding
from pricewire.services.feeds.owner import FeedMeans, FeedRules
from pricewire.services.feeds.run import FeedRun
from pricewire.services.fetching import Provider
from pricewire.services.recording import Door
from pricewire.services.stream_jobs import Streamable, StreamJobs
from pricewire.settings import Settings
from pricewire.storage.database import Database
from pricewire.storage.feeds import SqlFeeds
from pricewire.storage.reads import SqlReads
from pricewire.storage.stream_jobs import SqlStreamJobs

ONLY_PROCESS = "the one process of this store"


@dataclass(frozen=True, slots=True)
class Live:
    """What the web may use of feeds; `feeding` drives them once it is run."""

    streams: StreamJobs
    feeding: Feeding


def live_feeds(
    settings: Settings,
    providers: Mapping[str, Provider],
    main: Main,
    *,
    database: Database,
    door: Door,
    clock: Callable[[], datetime],
) -> Live:
    """Return the streaming jobs, and what drives their feeds once it is run."""
    store, feeds = SqlStreamJobs(database), SqlFeeds(database)
    reads = SqlReads(database)

    async def waiting() -> int:
        return (await reads.outbox_depth()).waiting

    rules = FeedRules(
        owner=_owner(settings),
        most_waiting=settings.feeds_most_waiting_events,
        grace_seconds=settings.shutdown_seconds / 2,
    )
    means = FeedMeans(store=feeds, door=door, waiting=waiting, rules=rules, clock=clock)
    runs = {}
    for feed in FEEDS.values():
        rest, guard = providers.get(feed.name), main.guards.by_name.get(feed.name)
        keys = keys_of(settings, feed.name, feed.needs)
        if keys is not None and isinstance(rest, RestProvider) and guard is not None:
            live = LiveFeed(feed, keys, _url(settings, feed), Rest(rest, guard))
            runs[feed.name] = FeedRun(live, means)
    feeding = Feeding(runs, store, feeds)
    streams = StreamJobs(
        store,
        feeds={feed.name: _streamable(settings, feed) for feed in FEEDS.values()},
        clock=clock,
        changed=feeding.look,
    )
    return Live(streams, feeding)


def _streamable(settings: Settings, feed: Feed) -> Streamable:
    configured = keys_of(settings, feed.name, feed.needs) is not None
    return Streamable(
        feed.name,
        feed.limits.symbols,
        partial(feed.covers, _url(settings, feed)),
        () if configured else tuple(f"{feed.name}_{need}".upper() for need in feed.needs),
    )


def _url(settings: Settings, feed: Feed) -> str:
    return str(getattr(settings, f"{feed.name}_ws_url"))


def _owner(settings: Settings) -> str:
    """Return how feeds know this process.

    SQLite serves one process: what an earlier one has left is taken over at once.
    """
    if settings.uses_sqlite:
        return ONLY_PROCESS
    return f"{socket.gethostname()}/{uuid4().hex[:12]}"
