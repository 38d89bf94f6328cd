#!/bin/sh
# Regenerates requirements.txt: the newest versions that pyproject.toml allows, all packages but torch. Usage: make lock
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# shellcheck disable=SC2086
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 ${TORCH_ARGS:-}
"$folder/venv/bin/python" -m pip install --quiet --editable ".[dev]"
{
  echo "# The exact lock for Python 3.11: every package but torch (setup.sh installs that first). Regenerate: make lock"
  "$folder/venv/bin/python" -m pip freeze --exclude-editable --exclude torch --exclude pip
} > "$folder/requirements.txt"
mv "$folder/requirements.txt" requirements.txt
