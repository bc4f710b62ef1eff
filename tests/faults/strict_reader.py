"""`pricewire` with a defect: its reader takes no value over 100 bytes; see `test_poison`."""

from __future__ import annotations

import importlib

from pricewire.cli.main import main

records = importlib.import_module("pricewire.kafka.records")
assert records.MAX_VALUE_BYTES > 100
vars(records)["MAX_VALUE_BYTES"] = 100

if __name__ == "__main__":
    main()
