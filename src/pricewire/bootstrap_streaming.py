"""The composition root's half for live streams: settings in, what `web` gives readers to out.

`bootstrap` calls it in processes with an API. Invariant: nothing is asked of Kafka before the first
reader comes.
"""

from __future__ import annotations

import time

from pricewire.bootstrap_relay import topic_plan
from pricewire.domain.position import StreamTopic
from pricewire.kafka.client import Connection
from pricewire.kafka.live import LiveFollower
from pricewire.kafka.live_topics import LiveTopics
from pricewire.kafka.topic import KafkaTopic
from pricewire.services.live.broadcast import Pace
from pricewire.services.live.events import Slow
from pricewire.services.live.following import Follower, Listener
from pricewire.services.live.streaming import Streaming
from pricewire.settings import Settings


def live_streams(settings: Settings, connection: Connection, partitions: int) -> Streaming:
    """Return the streams of this process; somebody must close them."""
    names = {
        StreamTopic.PRICES: settings.kafka_price_events_topic,
        StreamTopic.AVERAGES: settings.kafka_moving_averages_topic,
        StreamTopic.CANDLES: settings.kafka_candles_topic,
    }

    def open_follower(listener: Listener) -> Follower:
        topics = {
            topic: KafkaTopic(connection, topic_plan(settings, partitions, name))
            for topic, name in names.items()
        }
        return LiveFollower(connection, LiveTopics(connection, topics), listener)

    return Streaming(
        open_follower,
        most=settings.stream_readers,
        slow=Slow(settings.stream_slow),
        pace=Pace(settings.stream_heartbeat_seconds, settings.stream_stalled_seconds),
        clock=time.monotonic,
    )
