#!/usr/bin/env bash
# Called by `make install`: a .venv with exactly the locked packages, and pricewire itself.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PYTHON:=python3}" "${VENV:=.venv}"

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "pricewire needs Python 3.11 or newer; set PYTHON=/path/to/it" >&2; exit 1; }

echo "installing the locked packages into $VENV (once, about half a minute) ..."
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV" ||
  { echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
"$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
export VIRTUAL_ENV="$PWD/$VENV"
if ! "$VENV/bin/uv" pip sync -q --require-hashes --compile-bytecode requirements/all.txt; then
  echo "uv could not reach its packages; trying with pip ..."
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/all.txt
fi
"$VENV/bin/uv" pip install -q --offline --no-deps --no-build-isolation -e .
echo "installed."
