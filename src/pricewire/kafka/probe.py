"""Whether a broker answers, and if not, why: an admin client that is asked and listened to.

The topic makes one for each check, and one that lives as long as it does for health. Invariant: all
that the client says is taken each time, so that an outage of days piles up nothing.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pricewire.errors import KafkaUnavailable
from pricewire.kafka.client import Config, Connection
from pricewire.kafka.trouble import Complaint

ASK_SECONDS = 1.0


class Probe:
    """An admin client that can say why no broker answers it."""

    def __init__(self, connection: Connection, client: str) -> None:
        config: Config = connection.base(client)
        self._complaint = Complaint(config)
        listening: Config = {**config, "error_cb": self._complaint.note}
        self.admin = AdminClient(listening)

    def answers(self, seconds: float) -> None:
        """Return if a broker answers.

        Raises:
            KafkaUnavailable: says why not.
        """
        end = time.monotonic() + seconds
        while (error := self._ask(min(ASK_SECONDS, seconds))) is not None:
            # librdkafka goes on trying what a broker refuses: that needs no waiting for.
            if self._complaint.explained or time.monotonic() >= end:
                raise KafkaUnavailable(self._complaint.explain(error.args[0])) from error
        self._complaint.forget()

    def _ask(self, seconds: float) -> KafkaException | None:
        try:
            self.admin.list_topics(timeout=seconds)
        except KafkaException as error:
            return error
        finally:
            self._listen()
        return None

    def _listen(self) -> None:
        """Take all that the client said: what nobody takes piles up while the client lives."""
        while self.admin.poll(0):
            pass
