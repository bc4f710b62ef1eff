"""From the cells of a row to a past price, or why it is none; pure.

Invariant: digits stay as the file has them, and a time without an offset is taken for none that it
may not be: the caller says of which zone it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from pricewire.domain.past import MarketTime, read_market_time
from pricewire.domain.quote import Precision, PriceKind, Quote
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import InvalidParameter, InvalidSymbol, NotAPrice
from pricewire.imports.columns import Columns

_NUMBER = re.compile(r"[+-]?([0-9]{1,100}(\.[0-9]{0,100})?|\.[0-9]{1,100})([eE][+-]?[0-9]{1,3})?")
_COUNT = re.compile(r"-?[0-9]{1,20}")
_TRADE_ID = re.compile(r"[\x20-\x7e]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "s": (1, Precision.SECOND),
    "ms": (10**3, Precision.MILLISECOND),
    "us": (10**6, Precision.MICROSECOND),
    "ns": (10**9, Precision.NANOSECOND),
}


class BadRow(ValueError):
    """Why a row is no price."""


class NoZone(BadRow):
    """The time has no offset, and nobody said of which zone it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the caller says of all rows.

    Args:
        time_format: None: ISO 8601; `s`, `ms`, `us` or `ns` since 1970; else as strptime has it.
        kind: None: a close where the column is called so or only the day is known, else a trade.
    """

    symbol: str | None = None
    timezone: ZoneInfo | None = None
    time_format: str | None = None
    currency: str | None = None
    kind: PriceKind | None = None


class RowReader:
    """Reads rows of one file."""

    def __init__(self, columns: Columns, rules: Rules) -> None:
        self._columns = columns
        self._rules = rules
        self._symbols: set[str] = set()
        self._close = columns.price_is_a_close
        if rules.symbol is not None:
            parse_symbol(rules.symbol)

    def quote(self, cells: Sequence[str]) -> Quote:
        """Return the price of a row.

        Raises:
            BadRow: says what is wrong with it.
        """
        columns = self._columns
        if len(cells) != len(columns.names):
            raise BadRow(f"has {len(cells)} values, the header has {len(columns.names)}")
        symbol = self._symbol(cells)
        time = self._time(cells[columns.time].strip())
        size = cells[columns.size].strip() if columns.size is not None else ""
        trade_id = cells[columns.trade_id].strip() if columns.trade_id is not None else ""
        if trade_id and not _TRADE_ID.fullmatch(trade_id):
            raise BadRow(f"{trade_id[:32]!r} is no trade id: 1 to 64 printable ASCII characters")
        try:
            return Quote(
                symbol=symbol,
                price=_number(cells[columns.price].strip(), "price"),
                timestamp=time.moment,
                nanosecond=time.nanosecond,
                precision=time.precision,
                kind=self._kind(time),
                currency=self._rules.currency,
                size=_size(size) if size else None,
                trade_id=trade_id or None,
            )
        except NotAPrice as error:
            raise BadRow(error.detail) from None

    def _symbol(self, cells: Sequence[str]) -> str:
        place = self._columns.symbol
        if place is None:
            assert self._rules.symbol is not None
            return self._rules.symbol
        symbol = cells[place].strip()
        if symbol not in self._symbols:
            try:
                parse_symbol(symbol)
            except InvalidSymbol as error:
                raise BadRow(error.detail) from None
            self._symbols.add(symbol)
        return symbol

    def _kind(self, time: MarketTime) -> PriceKind:
        if self._rules.kind is not None:
            return self._rules.kind
        daily = self._close or time.precision is Precision.DAY
        return PriceKind.CLOSE if daily else PriceKind.LAST

    def _time(self, text: str) -> MarketTime:
        pattern = self._rules.time_format
        if pattern in _UNITS:
            return _counted(text, *_UNITS[pattern])
        time = read_market_time(text) if pattern is None else _by_pattern(text, pattern)
        if time is None:
            hint = "; are these numbers since 1970? say --time-format" if text.isdigit() else ""
            raise BadRow(
                f"{text[:40]!r} is no time: write 2024-03-20T10:30:00.123Z, or say "
                f"--time-format{hint}"
            )
        return self._in_utc(time, text)

    def _in_utc(self, time: MarketTime, text: str) -> MarketTime:
        if time.moment.tzinfo is not None:
            return time
        zone = self._rules.timezone
        if zone is None:
            raise NoZone(
                f"{text[:40]!r} has no offset: say --timezone UTC, or America/New_York or so"
            )
        try:
            local = time.moment.replace(tzinfo=zone)
            offset = local.utcoffset()
            # An hour that the clocks skip or repeat names no instant.
            if offset is None or offset != local.replace(fold=1).utcoffset():
                raise BadRow(f"{text[:40]!r} names no single instant in {zone.key}")
            moment = (time.moment - offset).replace(tzinfo=UTC)
        except OverflowError:
            raise BadRow(f"{text[:40]!r} is out of range") from None
        return time._replace(moment=moment)


def _number(text: str, what: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise BadRow(f"{text[:40]!r} is no {what}: write digits, 112.1300")
    number = Decimal(text)
    if abs(number.adjusted()) > 100:
        raise BadRow(f"{text[:40]!r} is out of range")
    return number


def _size(text: str) -> Decimal:
    size = _number(text, "size")
    if size < 0:
        raise BadRow(f"{text[:40]!r} is no size: it is below zero")
    return size


def _counted(text: str, per_second: int, precision: Precision) -> MarketTime:
    if not _COUNT.fullmatch(text):
        raise BadRow(f"{text[:40]!r} is no whole number since 1970")
    nanoseconds = int(text) * (10**9 // per_second)
    try:
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        raise BadRow(f"{text[:40]!r} is out of range") from None
    return MarketTime(moment, nanoseconds % 1000, precision)


def _by_pattern(text: str, pattern: str) -> MarketTime | None:
    try:
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            return None
    if "%f" in pattern:
        precision = Precision.MICROSECOND
    elif "%S" in pattern or "%c" in pattern or "%X" in pattern or "%s" in pattern:
        precision = Precision.SECOND
    else:
        precision = Precision.MINUTE if "%H" in pattern or "%I" in pattern else Precision.DAY
    if precision is Precision.DAY:
        moment = moment.replace(tzinfo=UTC)
    return MarketTime(moment, 0, precision)


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidParameter: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise InvalidParameter(
            f"there is no time zone {name[:64]!r}; there is UTC, America/New_York and so on"
        ) from None
