"""Values out of JSON and URLs, for every vendor's parser.

Invariant: numbers never pass through a float, times are aware UTC with the precision that was
given, nothing raises but `read_json`, and what cannot be read is None (text: empty): whether that
is an error is the caller's decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

import msgspec

from pricewire.domain.quote import Precision

Members = Mapping[str, Any]

MAX_TEXT: Final = 64
_MOST: Final = 2**63

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,80}(\.[0-9]{1,80})?([eE][+-]?[0-9]{1,3})?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LOCAL: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{3})?)?")
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_FINE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_PER_SECOND: Final = {
    Precision.SECOND: 1,
    Precision.MILLISECOND: 10**3,
    Precision.MICROSECOND: 10**6,
    Precision.NANOSECOND: 10**9,
}
_BY_DIGITS: Final = tuple(_PER_SECOND)
_EXACT: Final = Context(prec=256)
_QUICK: Final = msgspec.json.Decoder(float_hook=Decimal)


class Stamp(NamedTuple):
    """A market's time; `nanosecond` is what `moment` cannot hold, 0 to 999."""

    moment: datetime
    precision: Precision
    nanosecond: int = 0

    def coarser(self, precision: Precision) -> Stamp:
        """Return the same time, known only to `precision`."""
        return Stamp(self.moment, precision)

    def before(self, seconds: int) -> Stamp:
        """Return the time so many seconds earlier."""
        return Stamp(self.moment - timedelta(seconds=seconds), self.precision, self.nanosecond)


class NotJson(ValueError):
    """The body is no JSON."""


def read_json(body: bytes) -> object:
    """Return the value in `body`: whole numbers as int, others as Decimal.

    Raises:
        NotJson: it is none.
    """
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, ArithmeticError, RecursionError):
        raise NotJson from None


def read_frame(frame: bytes) -> object:
    """Return what `read_json` does, in a fifth of its time; for feeds, which bring thousands.

    Raises:
        NotJson: it is none.
    """
    try:
        return _QUICK.decode(frame)
    except (ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError):
        # The slow one knows halves of surrogate pairs, which are JSON and no UTF-8.
        return read_json(frame)


def whole(value: object) -> int | None:
    """Return a JSON number that counts something: above zero, without a fraction."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST:
        return value
    return None


def identity(value: object) -> str | None:
    """Return what the vendor calls something, a number or a short text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return text(value) or None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def members(value: object) -> Members:
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def at(value: object, place: int) -> object:
    """Return an element of a list; None where it has none there."""
    listed = rows(value)
    return listed[place] if place < len(listed) else None


def text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def number(value: object) -> Decimal | None:
    """Return a JSON number, or one in a string, with its digits."""
    if isinstance(value, str):
        value = Decimal(value) if _NUMBER.fullmatch(value) else None
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= 100:
        return value
    return None


def mid(bid: object, ask: object) -> Decimal | None:
    """Return the exact middle; None where a side is missing or the two are crossed."""
    low, high = number(bid), number(ask)
    if low is None or high is None or not 0 < low <= high:
        return None
    return _EXACT.divide(_EXACT.add(low, high), Decimal(2))


def epoch(value: object, unit: Precision, *, shown: Precision | None = None) -> Stamp | None:
    """Return a time counted in whole `unit`s since 1970, known to `shown`; zero is no time."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    seconds, rest = divmod(value, _PER_SECOND[unit])
    nanoseconds = rest * (10**9 // _PER_SECOND[unit])
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
    # Nobody stamped in fractions before: it is seconds, taken for something finer.
    if unit is not Precision.SECOND and moment < _FIRST_FINE:
        return None
    return Stamp(moment, shown or unit, nanoseconds % 1000)


def epoch_seconds(value: object) -> Stamp | None:
    """Return a time in seconds since 1970 with a fraction, as precise as it has digits."""
    seconds = number(value)
    if seconds is None or seconds <= 0 or seconds.adjusted() > 12:
        return None
    digits = max(0, -int(seconds.as_tuple().exponent))
    if digits > 9:
        return None
    precision = _BY_DIGITS[(digits + 2) // 3]
    return epoch(int(seconds.scaleb(9)), Precision.NANOSECOND, shown=precision)


def rfc3339(value: object) -> Stamp | None:
    """Return a time with an offset, as precise as it has digits."""
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    digits = match[3] or ""
    nanoseconds = int(digits.ljust(9, "0"))
    try:
        local = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4]}")
        utc = local if local.tzinfo is UTC else local.astimezone(UTC)
        moment = utc + timedelta(microseconds=nanoseconds // 1000)
    except (ValueError, OverflowError):
        return None
    return Stamp(moment, _BY_DIGITS[(len(digits) + 2) // 3], nanoseconds % 1000)


def day(value: object) -> Stamp | None:
    """Return a bare date, which is a trading day and no instant."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return None
    try:
        return Stamp(datetime.fromisoformat(value).replace(tzinfo=UTC), Precision.DAY)
    except ValueError:
        return None


def local_time(value: object, zone: str) -> Stamp | None:
    """Return a local time without an offset, where it names one instant in `zone`."""
    match = _LOCAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    precision = Precision.MILLISECOND if match[2] else Precision.SECOND
    try:
        # The package tzdata knows US/Eastern where the system's zones leave it out.
        moment = datetime.fromisoformat(match[0]).replace(tzinfo=ZoneInfo(zone))
        # An hour that the clocks skip or repeat names no instant.
        if moment.utcoffset() == moment.replace(fold=1).utcoffset():
            return Stamp(moment.astimezone(UTC), precision if match[1] else Precision.MINUTE)
    except (ValueError, KeyError, OSError, OverflowError):
        pass
    return None


def local_minute(value: object, zone: str) -> Stamp | None:
    """Return a local time that names a minute, whatever seconds it is written with."""
    stamp = local_time(value, zone)
    return stamp.coarser(Precision.MINUTE) if stamp else None


def day_at_midnight(stamp: Stamp, zone: str) -> Stamp | None:
    """Return the day that begins at `stamp` in `zone`; None where it is no midnight."""
    try:
        local = stamp.moment.astimezone(ZoneInfo(zone))
    except OverflowError:
        return None
    if stamp.nanosecond or (local.hour, local.minute, local.second, local.microsecond) != (0,) * 4:
        return None
    return Stamp(local.replace(tzinfo=UTC), Precision.DAY)


def segments(url: str) -> list[str]:
    """Return the path of a URL in its parts, decoded."""
    try:
        return [unquote(part) for part in urlsplit(url).path.split("/") if part]
    except ValueError:
        return []


def parameter(url: str, name: str) -> str:
    """Return a parameter of a URL's query, empty where it has none."""
    try:
        return dict(parse_qsl(urlsplit(url).query)).get(name, "")
    except ValueError:
        return ""


def after(url: str, *names: str) -> str:
    """Return the part of a URL's path that follows these parts, empty where it has none."""
    parts = segments(url)
    for index in range(len(parts) - len(names)):
        if tuple(parts[index : index + len(names)]) == names:
            return parts[index + len(names)]
    return ""
