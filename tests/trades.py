"""500,000 real trades of one future, from the data file inside the package mlfinpy 0.1.2.

The package is neither a dependency (it pins old numerical libraries) nor a part of this project:
the wheel alone is installed by uv, by its hash, into a folder of its own. `PRICEWIRE_TRADES` names
a file that is there already instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.kafka_tools import CHECKOUT

REQUIREMENTS = CHECKOUT / "tests" / "data" / "trades.txt"
ROWS = 500_000
SYMBOL = "ES"


def trades_file(folder: Path) -> Path:
    """Return the CSV file (DateTime, Price, Volume; local times); skip where it cannot be had."""
    if (named := os.environ.get("PRICEWIRE_TRADES")) is not None:
        return Path(named)
    uv = str(Path(sys.executable).with_name("uv"))
    done = subprocess.run(
        [
            *(uv, "pip", "install", "-q", "--no-deps", "--require-hashes"),
            *("--target", str(folder), "-r", str(REQUIREMENTS)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"the trades cannot be installed: {done.stderr[-300:]}")
    return folder / "mlfinpy" / "dataset" / "data" / "tick_data.csv"


def first_rows(file: Path, count: int, target: Path) -> Path:
    """Copy the header and the first `count` rows into a file of the test's own."""
    with file.open("rb") as source, target.open("wb") as copy:
        copy.writelines(islice(source, count + 1))
    return target


def lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Give time, price and size as the file has them."""
    with file.open(encoding="utf-8") as content:
        next(content)
        for line in content:
            time, price, size = line.rstrip("\r\n").split(",")
            yield time, price, size
