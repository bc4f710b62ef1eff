"""Called by `make contract`: writes the files of docs/contract anew."""

from __future__ import annotations

from pathlib import Path

from pricewire.bootstrap_tools import contract

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "contract"


def main() -> None:
    """Write each file."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in contract().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
