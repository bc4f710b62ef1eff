"""Frames of Massive's sockets, each an array of events; read by `massive_answers`.

Invariant: every time on a socket counts milliseconds, also of trades, which REST stamps in
nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pricewire.domain.quote import Precision
from pricewire.errors import NotAPrice, ProviderRefused, Throttle, Throttled
from pricewire.providers.bar_times import minute
from pricewire.providers.found import Found
from pricewire.providers.massive_symbols import answered_forms
from pricewire.providers.mids import file_mid
from pricewire.providers.readers import Members, epoch, text
from pricewire.providers.refusals import detail

_MS: Final = Precision.MILLISECOND


def read_frames(frames: Sequence[Members], found: Found) -> None:
    """File what the events of one frame hold.

    Raises:
        ProviderError: the frame holds a refusal, or no price at all.
    """
    for frame in frames:
        kind = text(frame.get("ev"))
        if kind == "status":
            _refuse(frame, found)
        elif kind in _READERS and (symbol := _caller(frame, found)) is not None:
            _READERS[kind](symbol, frame, found)
    if not any(text(frame.get("ev")) in _READERS for frame in frames):
        raise NotAPrice("Massive sent a frame without a price")


def _caller(frame: Members, found: Found) -> str | None:
    names = (frame.get(name) for name in ("sym", "pair", "T", "p"))
    named = next((name for name in names if isinstance(name, str)), None)
    forms = (found.caller(form) for form in answered_forms(named))
    return next((form for form in forms if form), None)


def _refuse(frame: Members, found: Found) -> None:
    status, words = text(frame.get("status")), text(frame.get("message"))
    said = detail(found.vendor, words or status, found.answer)
    if status in ("auth_failed", "auth_timeout"):
        raise ProviderRefused(said, code="invalid_key")
    if "not authorized" in words.lower():
        raise ProviderRefused(said, code="premium_required")
    if status == "max_connections":
        raise Throttled(said, throttle=Throttle.UNSPECIFIED, retry_after=60)


def _read_trade(symbol: str, frame: Members, found: Found) -> None:
    size, stamp = frame.get("s"), epoch(frame.get("t"), _MS)
    found.quote(symbol, frame.get("p"), stamp, size=size, trade_id=frame.get("i"))


def _read_value(symbol: str, frame: Members, found: Found) -> None:
    found.quote(symbol, frame.get("val"), epoch(frame.get("t"), _MS))


def _read_quote(symbol: str, frame: Members, found: Found) -> None:
    bid, ask = frame.get("bp", frame.get("b")), frame.get("ap", frame.get("a"))
    file_mid(found, symbol, (bid, ask), epoch(frame.get("t"), _MS))


def _read_bar(symbol: str, frame: Members, found: Found) -> None:
    stamp = minute(epoch(frame.get("s"), _MS))
    prices = [frame.get(side) for side in "ohlc"]
    found.bar(symbol, stamp, prices, volume=frame.get("v"))


_READERS: Final[Mapping[str, Callable[[str, Members, Found], None]]] = {
    "T": _read_trade,
    "XT": _read_trade,
    "V": _read_value,
    "Q": _read_quote,
    "XQ": _read_quote,
    "C": _read_quote,
    "A": _read_bar,
    "AM": _read_bar,
    "XA": _read_bar,
    "CA": _read_bar,
}
