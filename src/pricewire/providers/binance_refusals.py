"""Binance's ways to say no, by its codes and then by the status; `binance` calls this.

Invariant: a ban is never taken for a throttle of a minute, as calling on makes it longer.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pricewire.errors import (
    ProviderDown,
    ProviderError,
    ProviderRefused,
    Throttle,
    Throttled,
    UnknownSymbol,
)
from pricewire.providers.anatomy import Answer
from pricewire.providers.readers import Members
from pricewire.providers.refusals import by_status, detail, wait

_TITLE: Final = "Binance"
_SHORTEST_BAN_SECONDS: Final = 120
_LONGEST_BAN: Final = timedelta(days=3)
_UNTIL: Final = re.compile(r"until (\d{13})\b")
_UNKNOWN_SYMBOL: Final = -1121
_ILLEGAL_CHARACTERS: Final = -1100
_TOO_MANY: Final = (-1003, -1015, -1034)
_UNWELL: Final = (-1000, -1001, -1006, -1007, -1008, -1016)
_BAD_KEY: Final = (-1002, -1022, -2008, -2014, -2015)


def refusal(content: Members, words: str, answer: Answer) -> ProviderError:
    """Return the error that a body and its status amount to."""
    code, told = content.get("code"), detail(_TITLE, words, answer)
    if code == _UNKNOWN_SYMBOL or (code == _ILLEGAL_CHARACTERS and "symbol" in words):
        return UnknownSymbol(f"{_TITLE} knows no {answer.asked_for}")
    if answer.status == 451 or "restricted location" in words:
        return ProviderRefused(told, code="region_refused")
    # 403 is the firewall's word for calling too fast; 418 comes to who calls on after a 429.
    if answer.status in (403, 418) or "banned" in words:
        seconds = max(_until(words, answer), wait(answer, _SHORTEST_BAN_SECONDS))
        return Throttled(told, throttle=Throttle.BAN, retry_after=seconds)
    if code in _TOO_MANY or answer.status == 429:
        throttle = Throttle.MINUTE if "MINUTE" in words else Throttle.UNSPECIFIED
        return Throttled(told, throttle=throttle, retry_after=wait(answer, 60))
    return _by_code(code, words, answer)


def _by_code(code: object, words: str, answer: Answer) -> ProviderError:
    told = detail(_TITLE, words, answer)
    if code in _UNWELL:
        return ProviderDown(told)
    if code in _BAD_KEY:
        return ProviderRefused(told, code="invalid_key")
    return by_status(_TITLE, words, answer)


def _until(words: str, answer: Answer) -> float:
    """Return the seconds to the end of a ban that the text names, in milliseconds since 1970."""
    if (match := _UNTIL.search(words)) is None:
        return 0
    end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(match[1]))
    return min(end - answer.fetched_at, _LONGEST_BAN).total_seconds()
