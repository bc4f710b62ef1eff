"""What a checkpoint says of averages, made legible; pure, the composition root reads with it."""

from __future__ import annotations

from pricewire.domain.average import new_window, parse_average
from pricewire.services.averages import Explanation, InWindow
from pricewire.streams.averages import read_state
from pricewire.streams.partition import read_symbol


def explained(stored: bytes) -> dict[str, Explanation]:
    """Return the windows in a symbol's stored state, by the average's name."""
    symbol = read_symbol(stored)
    missing = [
        (gap.first, gap.last) for ledger in symbol.ledgers.values() for gap in ledger.missing
    ]
    found = {}
    for name, window in read_state(symbol.state).windows.items():
        entries = [
            InWindow(one.event_id, one.offset, one.price, one.timestamp, one.provider)
            for one in window.entries
        ]
        last = entries[-1].event_id if entries else None
        value = new_window(parse_average(name), window).value()
        found[name] = Explanation(last, value, entries, missing)
    return found
