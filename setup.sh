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

TORCH=torch==2.13.0
UV=uv==0.13.9
# Whether pip's choice of torch brings CUDA packages, as its default build for Linux does.
brings_cuda() {
  [ "$(uname -s)" = Linux ] && pip install --quiet --dry-run --no-deps --report - "$TORCH" 2>/dev/null | grep -q -E '"(nvidia|cuda)-'
}
# uv knows the index that has the builds for CPUs. The lock holds what torch depends on.
install_cpu_torch() {
  tools=$(mktemp -d)
  pip install --quiet --target "$tools" "$UV" &&
    UV_HTTP_RETRIES=1 "$tools/bin/uv" pip install --quiet --python .venv/bin/python --no-deps --torch-backend=cpu "$TORCH"
  status=$?
  rm -rf "$tools"
  return $status
}
install_torch() {
  if [ -z "${TORCH_ARGS:-}" ] && brings_cuda && ! nvidia-smi -L >/dev/null 2>&1; then
    echo "setup: no NVIDIA GPU is here, so torch is installed in its build for CPUs" >&2
    install_cpu_torch && return
    echo "setup: that build could not be had (see above), so pip's default build is installed instead: it works on CPUs too, \
but its CUDA packages make .venv 6.7 GB; TORCH_ARGS=\"--index-url URL\" names an index with builds for CPUs" >&2
  fi
  # shellcheck disable=SC2086
  pip install --quiet "$TORCH" ${TORCH_ARGS:-}
}
echo "setup: installing into .venv (2.9 GB, with CUDA packages 6.7 GB; a few minutes the first time)" >&2
# torch first, and pinned: an open range, or a dependency's, would pull another build with gigabytes of CUDA packages
install_torch || fail "torch could not be installed; see the message above"
pip install --quiet --requirement requirements.txt || fail "the exact lock could not be installed; see the message above"
pip install --quiet --no-deps --no-build-isolation --editable . || fail "matscout itself could not be installed"
# here, once, and not in the first run; numba keeps it in __pycache__
echo "setup: compiling (about a minute)" >&2
TQDM_DELAY=3600 .venv/bin/python -m matscout.machine_code || fail "what matscout compiles could not be compiled; see the message above"
printf '%s' "$wanted" > .venv/installed
echo "setup: done" >&2
