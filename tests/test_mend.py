"""`matscout mend` puts back DVC's own files where a kill left them half-written, and touches nothing else."""

import fcntl
import os
import random
import subprocess

import pytest
from imports import ROOT
from typer.testing import CliRunner

from matscout.cli import app
from matscout.errors import InputError
from matscout.mend import damaged_files, mend

LOCK = (ROOT / "dvc.lock").read_bytes()
RUNNING = b'{"write": {}, "read": {"/data/raw": [{"pid": 12, "cmd": "dvc repro"}]}}'


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with dvc.lock in Git and DVC's note of what runs."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "dvc.lock").write_bytes(LOCK)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".dvc/tmp/rwlock").write_bytes(RUNNING)
    for command in ("init -q", "add dvc.lock", "-c user.name=t -c user.email=t@example.invalid commit -q -m lock"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def test_what_dvc_can_read_is_left_alone(root):
    newer = LOCK.replace(b"schema: '2.0'", b"schema: '2.0'\n# not committed")
    (root / "dvc.lock").write_bytes(newer)
    assert damaged_files(root) == list(mend(root)) == []
    assert (root / "dvc.lock").read_bytes() == newer
    assert (root / ".dvc/tmp/rwlock").read_bytes() == RUNNING


def test_a_conflict_is_left_to_who_merges(root):
    conflict = b"<<<<<<< HEAD\n" + LOCK + b"=======\n>>>>>>> theirs\n"
    (root / "dvc.lock").write_bytes(conflict)
    assert list(mend(root)) == []
    assert (root / "dvc.lock").read_bytes() == conflict


def test_wherever_the_lock_file_is_cut_dvc_can_read_what_is_put_back(root):
    chance = random.Random(3)
    for cut in [0, 1, 8192, *(chance.randrange(len(LOCK)) for _ in range(6))]:
        (root / "dvc.lock").write_bytes(LOCK[:cut])
        damaged = damaged_files(root)
        said = list(mend(root))
        assert len(said) == len(damaged)
        assert (root / "dvc.lock").read_bytes() == (LOCK if damaged else LOCK[:cut])
        assert damaged_files(root) == []


@pytest.mark.parametrize("left", [b"", LOCK[: LOCK.rindex(b"md5:") + 2], b"schema: '2.0'\nstages:\n  split:\n"])
def test_these_are_damaged(root, left):
    (root / "dvc.lock").write_bytes(left)
    assert damaged_files(root) == ["dvc.lock"]


def test_a_file_that_git_does_not_have_is_removed(root):
    subprocess.run(["git", "rm", "-q", "--cached", "dvc.lock"], cwd=root, check=True)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, "commit", "-q", "-m", "none"], cwd=root, check=True)
    (root / "dvc.lock").write_bytes(b"")
    (root / ".dvc/tmp/rwlock").write_bytes(RUNNING[:20])
    assert damaged_files(root) == ["dvc.lock", ".dvc/tmp/rwlock"]
    assert all(line.endswith("was half-written: removed") for line in mend(root))
    assert not (root / "dvc.lock").exists()
    assert not (root / ".dvc/tmp/rwlock").exists()


def test_a_command_at_work_is_not_disturbed(root):
    (root / "dvc.lock").write_bytes(b"")
    with (root / ".dvc/tmp/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="a dvc command at work here; wait for its end"):
            list(mend(root))
    assert (root / "dvc.lock").read_bytes() == b""


def test_the_command_says_what_it_did_and_the_doctor_sends_there(root, monkeypatch):
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (root / "dvc.lock").write_bytes(b"")
    monkeypatch.chdir(root)
    assert "dvc.lock half-written; run: matscout mend" in CliRunner().invoke(app, ["doctor"]).output
    assert "dvc.lock was half-written: it is again as in the last commit" in CliRunner().invoke(app, ["mend"]).output
    assert CliRunner().invoke(app, ["mend"]).output == ""
