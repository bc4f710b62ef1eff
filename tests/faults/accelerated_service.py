"""`pricewire` with a clock that runs faster; the same in all processes with the same start.

`ACCELERATED` takes the place of the command `pricewire`; it wants `CLOCK_START` (ISO 8601) and
`CLOCK_FACTOR`. Invariant: the product knows nothing of it: its clock is given by the composition
root (`bootstrap.now`), and what it waits for by the event loop's time is shortened alike.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from pricewire import bootstrap
from pricewire.cli.main import main
from pricewire.services import polling

ACCELERATED = (sys.executable, __file__)


def accelerated(start: datetime, factor: float) -> datetime:
    """What the clock shows now."""
    return start + (datetime.now(UTC) - start) * factor


def run() -> None:
    start = datetime.fromisoformat(os.environ["CLOCK_START"])
    factor = float(os.environ["CLOCK_FACTOR"])

    def now() -> datetime:
        return accelerated(start, factor)

    bootstrap.now = now
    polling.LOOK_SECONDS /= factor
    polling.RENEW_SECONDS /= factor
    main()


if __name__ == "__main__":
    run()
