"""One reader of the live stream: what it asked for, its connection, and how it stands.

`broadcast` and `catching_up` write to it, `web` makes it. Invariants: a reader's connection holds
at most `ROOM_BYTES` and one piece that was not taken yet; once ended nothing is written to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from pricewire.services.live.events import LiveEvent, Slow, Subscription

ROOM_BYTES = 65_536

_encode = msgspec.json.Encoder().encode


class EndReason(StrEnum):
    """Why the service ends a stream; `web` has a status for each."""

    TOO_SLOW = "too_slow"
    SHUTTING_DOWN = "shutting_down"
    TOPICS_CHANGED = "topics_changed"
    BROKEN = "broken"


class Framing(Protocol):
    """How events are written to a kind of connection; pure."""

    def block(self, name: str, position: str | None, data: bytes) -> bytes: ...

    def heartbeat(self, position: str) -> bytes: ...

    def frame(self, blocks: Sequence[bytes]) -> bytes:
        """Return what is written to the connection for so many blocks."""
        ...


class Wire(Protocol):
    """A reader's connection."""

    @property
    def waiting(self) -> int:
        """Bytes that were written and that the network has not taken yet."""
        ...

    def write(self, frame: bytes) -> None:
        """Hand over without waiting."""
        ...

    def end(self, reason: EndReason, detail: str) -> None:
        """Tell why, and close; what cannot be told soon is given up."""
        ...


@dataclass(slots=True)
class Behind:
    """A reader that is left out of what is new until it took what it has.

    Args:
        index: of the first event that it has not been given.
        matched: how many events its group had got when it fell behind, and
        sent: how many of them since it was given all the same.
        told: how many were left out, as it was told so far.
        waiting: what its connection held when it was last seen to take something, and
        since: when that was.
    """

    index: int
    matched: int
    waiting: int
    since: float
    sent: int = 0
    told: int = 0


class Reader:
    """See the module."""

    def __init__(
        self, wire: Wire, framing: Framing, wanted: Subscription, slow: Slow = Slow.CONFLATE
    ) -> None:
        self.framing = framing
        self.wanted = wanted
        self.slow = slow
        self.ended = False
        self.behind: Behind | None = None
        self.first_index = 0
        """Of the first event that it gets from its group."""
        self.position: Callable[[], str] = str
        """Where it is, while it catches up."""
        self.spoken_at = 0.0
        self._wire = wire

    @property
    def has_room(self) -> bool:
        return self._wire.waiting <= ROOM_BYTES

    @property
    def waiting(self) -> int:
        return self._wire.waiting

    def write(self, frame: bytes, now: float) -> None:
        if not self.ended:
            self.spoken_at = now
            self._wire.write(frame)

    def give(self, events: Sequence[LiveEvent], now: float) -> None:
        """Write events with the positions that they have for everybody."""
        if events:
            self.write(framed(self.framing, self.wanted, events), now)

    def tell(self, name: str, position: str | None, data: object, now: float) -> None:
        block = self.framing.block(name, position, _encode(data))
        self.write(self.framing.frame([block]), now)

    def end(self, reason: EndReason, detail: str) -> None:
        if not self.ended:
            self.ended = True
            self._wire.end(reason, detail)

    def gone(self) -> None:
        """Note that nobody is there any more."""
        self.ended = True


def framed(framing: Framing, wanted: Subscription, events: Sequence[LiveEvent]) -> bytes:
    return framing.frame(
        [framing.block(one.name, wanted.position(one), one.data) for one in events]
    )
