#!/bin/sh
# Creates .venv and installs matscout into it; does nothing where that is done already.
# Usage: sh setup.sh       (or: make setup)      PYTHON=/path/to/python3 TORCH_ARGS="--index-url URL" are respected
set -eu
cd "$(dirname "$0")"

fail() { printf 'setup: error: %s\n' "$1" >&2; exit 1; }

command -v git >/dev/null 2>&1 || fail "git is not installed; matscout needs git 2.20 or newer (Debian: apt-get install git)"
command -v make >/dev/null 2>&1 || fail "make is not installed; matscout needs GNU make 3.82 or newer (Debian: apt-get install make)"
git_version=$(git --version | sed 's/[^0-9.]*\([0-9]*\.[0-9]*\).*/\1/')
[ "${git_version%%.*}" -gt 2 ] || { [ "${git_version%%.*}" -eq 2 ] && [ "${git_version#*.}" -ge 20 ]; } ||
  fail "git $git_version is too old; matscout needs 2.20 or newer"

python=""
for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3 python; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
    python=$candidate
    break
  fi
  [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13"
done
[ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 was not found ($(python3 --version 2>&1 || echo 'no python3 at all')); \
the exact lock is made for these. Install one (pyenv install 3.12, conda create -n py312 python=3.12, or your system's \
packages) and run again, or name it: make setup PYTHON=/path/to/python3"

# The stamp holds the hash of what was installed: a changed lock installs again, a killed installation starts again.
wanted=$(cat requirements.txt pyproject.toml setup.sh | git hash-object --stdin)
[ "$(cat .venv/installed 2>/dev/null || true)" != "$wanted" ] || exit 0

if ! .venv/bin/python -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
  "$python" -m venv --clear .venv || fail "could not create .venv; on Debian the package python3-venv is needed"
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
echo "setup: installing into .venv (2.8 GB; a few minutes the first time)" >&2
# torch first, and pinned: an open range, or a dependency's, would pull another build with gigabytes of CUDA packages
# shellcheck disable=SC2086
pip install --quiet torch==2.13.0 ${TORCH_ARGS:-} || fail "torch 2.13.0 could not be installed; see the message above"
pip install --quiet --requirement requirements.txt || fail "the exact lock could not be installed; see the message above"
pip install --quiet --no-deps --no-build-isolation --editable . || fail "matscout itself could not be installed"
# here, once, and not in the first run; numba keeps it in __pycache__
.venv/bin/python -m matscout.machine_code || fail "what matscout compiles could not be compiled; see the message above"
printf '%s' "$wanted" > .venv/installed
echo "setup: done" >&2
