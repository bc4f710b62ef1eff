"""Called by `make check`: fails when a lock file does not fit pyproject.toml any more."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILE = [
    str(Path(sys.executable).with_name("uv")),
    *["pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes"],
    *("--no-emit-index-url", "--custom-compile-command", "make lock", "pyproject.toml"),
]
LOCKS = {
    "requirements/all.txt": ["--all-extras", "--group", "dev"],
    "requirements/core.txt": ["--extra", "calendars", "-c", "requirements/all.txt"],
}


def main() -> int:
    stale = [path for path, options in LOCKS.items() if _is_stale(Path(path), options)]
    for path in stale:
        sys.stderr.write(f"{path} does not fit pyproject.toml: run make lock\n")
    return 1 if stale else 0


def _is_stale(lock: Path, options: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / lock.name
        shutil.copy(lock, copy)
        subprocess.run([*COMPILE, *options, "-o", str(copy)], check=True)  # noqa: S603
        return copy.read_bytes() != lock.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
