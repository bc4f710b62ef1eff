"""A service whose clock is off by as many seconds as a file says, read at every look at it.

`SKEWED` takes the place of the command `pricewire` and wants the file's name in `SKEW_FILE`.
Invariant: only the service's own clock (`bootstrap.now`) is moved; brokers, the client library and
the tests keep the true time.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pricewire import bootstrap
from pricewire.cli.main import main

SKEWED = (sys.executable, __file__)


def run() -> None:
    file = Path(os.environ["SKEW_FILE"])

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(file.read_text()))

    bootstrap.now = now
    main()


if __name__ == "__main__":
    run()
