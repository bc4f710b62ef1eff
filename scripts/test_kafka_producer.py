"""Checks that this Kafka takes our events: the same as `.venv/bin/pricewire kafka check`.

Publishes test events (header `pw-test`) through the service's own producer, with the service's own
settings, reads them back and compares. Any Python may start it: it goes on in the checkout's .venv.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"


def main() -> None:
    """Run the check, in another Python if this one has no pricewire."""
    if importlib.util.find_spec("pricewire") is None:
        if Path(sys.prefix) == PYTHON.parents[1] or not PYTHON.exists():
            sys.exit("pricewire is not installed in .venv: run `make install` first")
        os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])  # noqa: S606
    from pricewire.cli.main import main as pricewire  # noqa: PLC0415

    sys.argv = ["pricewire", "kafka", "check", *sys.argv[1:]]
    pricewire()


if __name__ == "__main__":
    main()
