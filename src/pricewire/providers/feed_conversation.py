"""The part of a conversation that all vendors share; each feed's file has its own below it.

Invariant: `read` raises nothing and returns something for every frame; the roster holds exactly
what is subscribed or asked for on this connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pricewire.domain.feed import Said
from pricewire.errors import ProviderError
from pricewire.providers.anatomy import Answer, Vendor
from pricewire.providers.feed_anatomy import refusal
from pricewire.providers.feed_heard import Heard
from pricewire.providers.feed_roster import Roster
from pricewire.providers.readers import NotJson, read_frame


class Conversation(ABC):
    """What is said on one connection.

    Args:
        keys: kept out of error texts, and said where the vendor wants to hear them.
        per_message: how many symbols one message may name.
        delayed: the whole feed is.
    """

    def __init__(
        self,
        vendor: Vendor,
        roster: Roster,
        keys: Mapping[str, str],
        *,
        per_message: int,
        delayed: bool = False,
    ) -> None:
        self.vendor = vendor
        self.roster = roster
        self.keys = keys
        self._per_message = per_message
        self._delayed = delayed
        self._frame, self._received_at = b"", datetime.min.replace(tzinfo=UTC)

    def opened(self) -> list[str]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        return self._each(self.roster.add(symbols), self.asking)

    def unsubscribe(self, symbols: Sequence[str]) -> list[str]:
        return self._each(self.roster.remove(symbols), self.leaving)

    def read(self, frame: bytes, received_at: datetime) -> list[Said]:
        self._frame, self._received_at = frame, received_at
        heard = Heard(self.vendor.title, self.roster, delayed=self._delayed)
        try:
            body = read_frame(frame)
        except NotJson:
            heard.unreadable("a frame that is no JSON")
        else:
            self.hear(body, heard)
        return heard.result()

    def answer(self, callers: Sequence[str] = ()) -> Answer:
        """Return the frame that is being read, as it is said about these in error texts."""
        return Answer(
            body=self._frame,
            status=200,
            fetched_at=self._received_at,
            symbols=callers,
            secrets=tuple(self.keys.values()),
        )

    def refusal(self, callers: Sequence[str] = ()) -> ProviderError:
        """Return the error that the frame amounts to, without the keys."""
        return refusal(self.vendor, self.answer(callers))

    @abstractmethod
    def asking(self, own: Sequence[str]) -> str:
        """Return the message that subscribes the vendor's forms."""

    @abstractmethod
    def leaving(self, own: Sequence[str]) -> str:
        """Return the message that ends them."""

    @abstractmethod
    def hear(self, body: object, heard: Heard) -> None:
        """File what a frame says."""

    def _each(self, own: Sequence[str], message: Callable[[Sequence[str]], str]) -> list[str]:
        step = self._per_message
        return [message(own[place : place + step]) for place in range(0, len(own), step)]
