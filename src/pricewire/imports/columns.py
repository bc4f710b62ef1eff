"""Which column of a file is what: named by the caller, else guessed from the header; pure.

Invariant: a guess is only made where exactly one column fits, and whatever was chosen can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pricewire.errors import InvalidParameter

_GUESSES = {
    "time": ("timestamp", "datetime", "time", "date", "ts"),
    "price": ("price", "last", "close", "px"),
    "symbol": ("symbol", "ticker", "instrument"),
    "size": ("size", "volume", "quantity", "qty", "amount"),
    "trade_id": ("trade_id", "tradeid"),
}
_OPTIONS = {name: f"--{name.replace('_', '-')}-column" for name in _GUESSES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Columns as the caller named them; `symbol_of_all`: one symbol for every row."""

    time: str | None = None
    price: str | None = None
    symbol: str | None = None
    size: str | None = None
    trade_id: str | None = None
    symbol_of_all: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Places in a row, counted from 0; None where the file has no such column."""

    time: int
    price: int
    symbol: int | None
    size: int | None
    trade_id: int | None
    names: Sequence[str]

    @property
    def told(self) -> str:
        """Say which column is taken for what."""
        return ", ".join(
            f"{name.replace('_', ' ')} from {self.names[place]!r}"
            for name in _GUESSES
            if (place := getattr(self, name)) is not None
        )

    @property
    def price_is_a_close(self) -> bool:
        return _plain(self.names[self.price]) == "close"


def choose(header: Sequence[str], wanted: Wanted) -> Columns:
    """Return the columns.

    Raises:
        InvalidParameter: one that is needed is not there, or cannot be guessed.
    """
    found = {name: _place(header, name, getattr(wanted, name)) for name in _GUESSES}
    if wanted.symbol_of_all is not None:
        found["symbol"] = None
    elif found["symbol"] is None:
        raise _missing("symbol", header, "--symbol AAPL if the whole file is of one, or ")
    for name in ("time", "price"):
        if found[name] is None:
            raise _missing(name, header)
    time, price = found["time"], found["price"]
    assert time is not None
    assert price is not None
    return Columns(
        time=time,
        price=price,
        symbol=found["symbol"],
        size=found["size"],
        trade_id=found["trade_id"],
        names=tuple(header),
    )


def _place(header: Sequence[str], name: str, given: str | None) -> int | None:
    if given is not None:
        exact = [place for place, column in enumerate(header) if column.strip() == given.strip()]
        if len(exact) != 1:
            raise InvalidParameter(
                f"{_OPTIONS[name]}={given[:64]!r} names {len(exact)} columns; {_listed(header)}"
            )
        return exact[0]
    plain = [_plain(column) for column in header]
    for guess in _GUESSES[name]:
        if plain.count(guess) == 1:
            return plain.index(guess)
    return None


def _plain(column: str) -> str:
    return column.strip().lower().replace(" ", "_")


def _missing(name: str, header: Sequence[str], other: str = "") -> InvalidParameter:
    return InvalidParameter(
        f"no column is known to be the {name}: give {other}{_OPTIONS[name]}; {_listed(header)}"
    )


def _listed(header: Sequence[str]) -> str:
    names = ", ".join(repr(column[:32]) for column in header[:12])
    more = f" and {len(header) - 12} more" if len(header) > 12 else ""
    return f"the columns are {names}{more}"
