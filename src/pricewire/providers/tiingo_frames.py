"""Frames of Tiingo's sockets, whose data are arrays by position; read by `tiingo_answers`.

Invariant: a position is read only in the kind of update that has it.
"""

from __future__ import annotations

from typing import Final

from pricewire.domain.quote import PriceKind
from pricewire.errors import NotAPrice, ProviderRefused
from pricewire.providers.found import Found
from pricewire.providers.mids import file_mid
from pricewire.providers.readers import Members, members, rfc3339, rows, text
from pricewire.providers.refusals import detail

_KEY_WORDING: Final = ("token", "authoriz", "authentic")


def read_frame(frame: Members, found: Found) -> None:
    """File what one frame holds.

    Raises:
        ProviderError: it holds a refusal, or no price.
    """
    if frame.get("messageType") == "E":
        raise _refusal(frame, found)
    data = rows(frame.get("data"))
    if frame.get("messageType") != "A" or not data:
        raise NotAPrice("Tiingo sent a frame without a price")
    # Positions past the end read as None, as the vendor's own empty ones do.
    padded = [*data, *[None] * 16]
    service = text(frame.get("service"))
    if service == "crypto_data":
        _read_crypto(padded, found)
    elif service == "fx":
        _read_forex(padded, found)
    else:
        _read_iex(padded, found)


def _refusal(frame: Members, found: Found) -> NotAPrice | ProviderRefused:
    words = text(members(frame.get("response")).get("message"))
    said = detail(found.vendor, words, found.answer)
    if any(wording in words.lower() for wording in _KEY_WORDING):
        return ProviderRefused(said, code="invalid_key")
    return NotAPrice(said)


def _read_iex(data: list[object], found: Found) -> None:
    """Read a trade, a quote, or a reference price with its time in front."""
    reference = rfc3339(data[0])
    symbol = found.caller(text(data[1] if reference else data[3]).upper())
    if symbol is None:
        return
    if reference:
        found.quote(symbol, data[2], reference, exchange="IEX")
    elif data[0] == "T":
        found.quote(symbol, data[9], rfc3339(data[1]), exchange="IEX", size=data[10])
    elif data[0] == "Q":
        file_mid(found, symbol, (data[5], data[7]), rfc3339(data[1]), exchange="IEX")


def _read_crypto(data: list[object], found: Found) -> None:
    if (symbol := found.caller(text(data[1]).upper())) is None:
        return
    stamp, exchange = rfc3339(data[2]), text(data[3]) or None
    if data[0] == "T":
        found.quote(symbol, data[5], stamp, exchange=exchange, size=data[4])
    elif data[0] == "Q":
        file_mid(found, symbol, (data[5], data[8]), stamp, exchange=exchange)


def _read_forex(data: list[object], found: Found) -> None:
    if (symbol := found.caller(text(data[1]).upper())) is not None:
        stamp, bid, ask = rfc3339(data[2]), data[4], data[7]
        found.quote(symbol, data[5], stamp, kind=PriceKind.MID, bid=bid, ask=ask)
