"""`pricewire` whose processors stop reading a second after a checkpoint was begun, not ten.

`IMPATIENT` takes the place of the command `pricewire`. Invariant: nothing else differs, so that a
lag that a test can afford outlasts what they read until then.
"""

from __future__ import annotations

import sys
from functools import partial

from pricewire import bootstrap_streams
from pricewire.cli.main import main
from pricewire.streams.runner import Rules

IMPATIENT = (sys.executable, __file__)


def run() -> None:
    bootstrap_streams.Rules = partial(Rules, behind_seconds=1.0)  # type: ignore[attr-defined,assignment]
    main()


if __name__ == "__main__":
    run()
