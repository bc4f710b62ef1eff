"""The shape of a case: what is subscribed, what comes, and what is heard in it, line by line."""

from __future__ import annotations

import json
from typing import NamedTuple

from pricewire.domain.feed import (
    Alive,
    Ended,
    Ready,
    Refused,
    Reply,
    Said,
    Subscribed,
    Tick,
    Unreadable,
)
from pricewire.providers.feed_anatomy import FeedProtocol
from pricewire.providers.feed_catalogue import FEEDS
from tests.stock_outcomes import SECRET, quote_line

KEYS = {
    "api_key": SECRET,
    "api_key_id": SECRET,
    "api_secret_key": f"secret-of-{SECRET}",
}


class FeedCase(NamedTuple):
    """Frames in their order; `expected`: what is heard in all of them."""

    provider: str
    name: str
    frames: list[bytes]
    expected: list[str]
    symbols: tuple[str, ...]
    url: str

    def protocol(self) -> FeedProtocol:
        """Return a conversation in which the case's symbols are asked for."""
        return conversation(self.provider, self.symbols, self.url)


def feed_case(
    provider: str, name: str, frames: object, *expected: str, symbols: str = "", url: str = ""
) -> FeedCase:
    """Make a case; `frames` is one frame, or several as a tuple."""
    several = frames if isinstance(frames, tuple) else (frames,)
    bodies = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in several]
    asked = tuple(symbols.split(",")) if symbols else ()
    return FeedCase(provider, name, bodies, list(expected), asked, url)


def conversation(provider: str, symbols: tuple[str, ...] = (), url: str = "") -> FeedProtocol:
    feed = FEEDS[provider]
    protocol = feed.protocol(url or feed.url, {name: KEYS[name] for name in feed.needs})
    protocol.opened()
    protocol.subscribe(symbols)
    return protocol


def line(said: Said) -> str:
    match said:
        case Tick():
            told = [quote_line(said.quote)]
            told += [f"size={said.quote.size:f}"] if said.quote.size is not None else []
            told += [f"id={said.quote.trade_id}"] if said.quote.trade_id else []
            told += [f"#{said.number}"] if said.number is not None else []
            return " ".join(told + (["old"] if said.old else []))
        case Subscribed():
            return f"subscribed {' '.join(said.symbols)}"
        case Refused():
            return f"refused {said.symbol} {said.error.code}"
        case Ended():
            again = (
                f"again after {said.error.retry_after:g}" if said.error.retryable else "for good"
            )
            return f"ended {said.error.code} {again}"
        case Reply():
            return f"reply {said.text}"
        case Ready() | Alive() | Unreadable():
            return type(said).__name__.lower()
