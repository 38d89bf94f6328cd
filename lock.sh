#!/bin/sh
# Regenerates requirements.txt: the newest versions that pyproject.toml allows, for Python 3.11 to 3.13 on any system, all
# packages but torch and what it brings for GPUs. Usage: make lock
set -eu
cd "$(dirname "$0")"
folder=$(mktemp -d)
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet uv==0.13.9  # as in setup.sh
"$folder/venv/bin/uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet --upgrade \
  --no-header --no-annotate --no-emit-package torch -o "$folder/lock.txt"
{
  echo "# The exact lock for Python 3.11 to 3.13: every package but torch (setup.sh installs that first) and its CUDA packages."
  echo "# Regenerate: make lock"
  grep -v -E '^(nvidia-|cuda-|triton)' "$folder/lock.txt"
} > "$folder/requirements.txt"
mv "$folder/requirements.txt" requirements.txt
