"""One shard's producer: idempotent, gapless, told never to give up; fulfils `Publisher`.

The relay makes one for each spell of publishing and closes it when anything went wrong. One thread
of ours polls it, and hands delivery reports to the event loop in batches. Invariants: nothing here
blocks the event loop, every delivery report reaches the relay, and after `aclose` nothing of this
producer can reach the topic any more but what was in flight.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pricewire.domain.event import Source, WaitingEvent
from pricewire.errors import KafkaTrouble
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.codec import Record, record_headers
from pricewire.kafka.trouble import explain
from pricewire.services.publishing import Report

POLL_SECONDS = 0.1
PURGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProducerRules:
    """Settings of the producer that users may turn."""

    compression: str = "snappy"
    linger_ms: float = 5
    batch_bytes: int = 1_000_000


def producer_config(connection: Connection, rules: ProducerRules, *, single: bool) -> Config:
    """Return librdkafka's properties (facts of its CONFIGURATION, 2.16).

    `message.timeout.ms=0` and librdkafka's unlimited retries: a finite limit with requests in
    flight lets a later event succeed before an earlier one comes again, out of order.
    """
    return {
        **connection.base("relay"),
        "acks": "all",
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
        # With more, a topic that is deleted and made anew meanwhile takes the second request where
        # it refused the first: its log knows no sequence numbers of this producer yet.
        "max.in.flight.requests.per.connection": 1,
        # A broker that hangs is left for the next leader after this, not after a minute.
        "socket.timeout.ms": 15_000,
        # A topic is made before a producer: what is unknown for longer was deleted.
        "topic.metadata.propagation.max.ms": 5_000,
        "allow.auto.create.topics": connection.in_memory,
        "compression.type": rules.compression,
        "linger.ms": rules.linger_ms,
        "batch.size": rules.batch_bytes,
        "batch.num.messages": 1 if single else 10_000,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 10_000,
        "queue.buffering.max.kbytes": 131_072,
    }


class ShardProducer:
    """See the module. Must be made on the event loop that the reports are for."""

    def __init__(
        self,
        config: Config,
        *,
        topic: str,
        shard: int,
        reported: Callable[[list[Report]], None],
    ) -> None:
        self._config = config
        self._topic = topic
        self._shard = shard
        self._reported = reported
        self._loop = asyncio.get_running_loop()
        self._delivered: deque[tuple[int, KafkaError | None, Message]] = deque()
        self._closing = threading.Event()
        self._last_error: str | None = None
        self._failure: str | None = None
        self._producer = Producer({**config, "error_cb": self._on_error})
        self._thread = threading.Thread(
            target=self._poll_until_closed, name=f"producer-{shard}", daemon=True
        )
        self._thread.start()

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def last_error(self) -> str | None:
        return self._last_error

    def hand_over(self, event: WaitingEvent, source: Source) -> None:
        record = Record(
            event.event_id.symbol, event.value, record_headers(event, source), event.recorded_at
        )
        self.send(event.outbox_id, record)

    def send(self, number: int, record: Record) -> None:
        """Queue a record that is reported by `number`; never blocks.

        Raises:
            KafkaTrouble: the producer refuses it and is of no use any more.
        """

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            # Nothing else: the client calls this with a fatal error pending, and whatever looks
            # for an error then finds that one and gives up.
            self._delivered.append((number, error, message))

        try:
            self._producer.produce(
                self._topic,
                record.value,
                record.key,
                self._shard,
                on_delivery,
                timestamp=int(record.recorded_at.timestamp() * 1000),
                headers=record.headers,
            )
        except KafkaException as error:
            # What refuses everything from now on may be told already, but not have been heard.
            self._serve(self._producer.poll, 0)
            raise KafkaTrouble(self._failure or self._explain(error.args[0])) from error
        except BufferError as error:
            raise KafkaTrouble(f"the producer refused a record of {record.key}: {error}") from error

    async def flush(self, seconds: float) -> None:
        await asyncio.to_thread(self._serve, self._producer.flush, seconds)

    async def aclose(self) -> None:
        # Shielded: a cancelled shutdown must not let go of a producer that still sends.
        await asyncio.shield(asyncio.to_thread(self._close))

    def _close(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        give_up = time.monotonic() + PURGE_SECONDS
        # A fatal error ends a flush before its time.
        while len(self._producer) and (left := give_up - time.monotonic()) > 0:
            self._serve(self._producer.flush, left)
        self._closing.set()
        self._thread.join()
        # Only with an empty queue: it would wait without end for a broker that is away.
        if len(self._producer) == 0:
            self._producer.close()
        self._pass_on()

    def _poll_until_closed(self) -> None:
        while not self._closing.is_set():
            if not self._serve(self._producer.poll, POLL_SECONDS):
                self._closing.wait(POLL_SECONDS)
            self._pass_on()

    def _serve(self, call: Callable[[float], object], seconds: float) -> bool:
        """Let `call` serve callbacks; it raises what is fatal, once the others are served."""
        try:
            call(seconds)
        except KafkaException as error:
            self._failure = self._failure or self._explain(error.args[0])
            return False
        except SystemError as error:
            # What becomes of a fatal error when a callback is called behind it.
            cause = error.__cause__
            reason = self._explain(cause.args[0]) if isinstance(cause, KafkaException) else error
            self._failure = self._failure or str(reason)
            return False
        return True

    def _pass_on(self) -> None:
        """Hand on what was reported; callbacks add to it at the same time, in any thread."""
        batch = [self._delivered.popleft() for _ in range(len(self._delivered))]
        if batch:
            reports = [self._report(*delivered) for delivered in batch]
            self._loop.call_soon_threadsafe(self._reported, reports)

    def _on_error(self, error: KafkaError) -> None:
        """Remember; callbacks must neither raise nor block."""
        # "All brokers are down" follows the error that says why, and says less.
        if self._last_error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._last_error = self._explain(error)
        if error.fatal():
            self._failure = self._explain(error)

    def _explain(self, error: KafkaError) -> str:
        return explain(error, self._config, topic=self._topic, right="Write")

    def _report(self, outbox_id: int, error: KafkaError | None, message: Message) -> Report:
        if error is None:
            offset = message.offset()
            # A duplicate that the broker recognised is a success without an offset.
            return Report(outbox_id, offset if offset is not None and offset >= 0 else None)
        too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        return Report(outbox_id, error=self._explain(error), too_large=too_large)
