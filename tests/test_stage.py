"""How a stage ends: mendable errors are one line, defects keep their traceback, foreign code is rejected."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import matscout
from matscout import stage
from matscout.engine.process_setup import ONE_THREAD
from matscout.errors import InputError

PACKAGE = Path(matscout.__file__).parent


def run_raising(monkeypatch, error):
    def main():
        raise error

    monkeypatch.setattr("sys.argv", ["stage"])
    stage.run(main)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("do this"), "error: do this"),
        (
            OSError(errno.ENOSPC, "No space left on device", "data/a"),
            "No space left on device: data/a; free some space",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "from/a", None, "to/a"),
            "No space left on device: to/a; free",
        ),
        (OSError(errno.EROFS, "Read-only file system", "data/a"), "make the file system writable"),
        (OSError(errno.EIO, "Input/output error", "data/a"), "Input/output error: data/a; the disk is failing"),
        (OSError(errno.ENOTDIR, "Not a directory", "data/a/b"), "Not a directory: data/a/b; a file is where"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "data/a"), "data/a; check that path and its disk"),
        (OSError("Cannot write\nto sink"), "Cannot write to sink; check"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, told, monkeypatch, capsys):
    with pytest.raises(SystemExit) as left:
        run_raising(monkeypatch, error)
    assert left.value.code == 1
    assert told in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch):
    with pytest.raises(OSError, match="odd"):
        run_raising(monkeypatch, OSError(errno.EBADF, "odd"))


def test_other_code_than_the_folder_s_is_rejected(tmp_path):
    here = tmp_path / "src/matscout"
    stage.check_code(PACKAGE, here)  # not there: a stage run elsewhere, as tests do
    shutil.copytree(PACKAGE, here, ignore=shutil.ignore_patterns("__pycache__"))
    stage.check_code(PACKAGE, here)
    (here / "columns.py").write_text("X = 1\n")
    with pytest.raises(InputError, match="git add"):
        stage.check_code(PACKAGE, here)


def test_a_stage_sums_on_one_core_so_that_its_bytes_do_not_depend_on_their_number(monkeypatch):
    threads = []
    for library in ONE_THREAD:
        monkeypatch.setenv(library, "2")

    def main():
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    monkeypatch.setattr("sys.argv", ["stage"])
    with threadpool_limits(2, user_api="blas"), pytest.raises(SystemExit):
        stage.run(main)
    assert threads
    assert set(threads) == {1}
    assert {os.environ[library] for library in ONE_THREAD} == {"1"}  # for what is loaded later
