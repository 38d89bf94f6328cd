"""`matscout mend` puts back files of DVC and MLflow that a kill left half-written, and touches nothing else."""

import fcntl
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from imports import ROOT
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from matscout.cli import app
from matscout.commands.doctor import damaged_files, mend
from matscout.errors import InputError

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


PIPELINE = """
stages:
  one:
    cmd: python -c "import time; open('one.out', 'w').write(str(time.time_ns()))" && echo one >> ran
    params: [x]
    outs: [one.out]
  two:
    cmd: python -c "x = open('one.out').read(); assert {fails}; open('two.out', 'w').write(x)" && echo two >> ran
    params: [y]
    deps: [one.out]
    outs: [two.out]
"""


@pytest.fixture
def experimented(tmp_path, monkeypatch):
    """A repository whose outputs are this machine's, not those of the commit, and how to run DVC there."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    fails = "int(open('params.yaml').read().split()[-1]) > 0"
    (tmp_path / "dvc.yaml").write_text(PIPELINE.format(fails=fails))
    (tmp_path / "params.yaml").write_text("x: 1\ny: 1\n")

    def run(*words, check=True):
        command = [sys.executable, "-m", "dvc"] if words[0] == "dvc" else [words[0]]
        return subprocess.run([*command, *words[1:]], cwd=tmp_path, check=check, capture_output=True, text=True)

    run("git", "init", "-q")
    run("git", "config", "user.name", "t")
    run("git", "config", "user.email", "t@example.invalid")
    run("dvc", "init", "-q")
    (tmp_path / ".gitignore").write_text("ran\n")
    run("dvc", "repro", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "another machine's")
    shutil.rmtree(tmp_path / ".dvc/cache")
    for file in ("one.out", "two.out", "ran"):
        (tmp_path / file).unlink()
    run("dvc", "repro", "-q")
    return tmp_path, run


def test_the_way_back_from_an_experiment_loses_nothing(experimented):
    """Outputs of this machine come back from its cache, after a failed experiment and after one that went well."""
    root, run = experimented
    before = [(root / name).read_bytes() for name in ("one.out", "two.out", "dvc.lock")]
    failed = run("dvc", "exp", "run", "-S", "x=2", "-S", "y=-1", check=False)
    assert failed.returncode
    assert not (root / "two.out").exists()
    (root / "params.yaml").write_text("x: 1\ny: 1\n")
    run("dvc", "repro", "-q")
    assert [(root / name).read_bytes() for name in ("one.out", "two.out", "dvc.lock")] == before
    assert (root / "ran").read_text().split() == ["one", "two", "one"]  # nothing ran again
    run("dvc", "exp", "save", "--name", "before", "--force")
    run("dvc", "exp", "run", "-S", "x=3")
    run("dvc", "exp", "apply", "before")
    assert [(root / name).read_bytes() for name in ("one.out", "two.out", "dvc.lock")] == before


@pytest.mark.filterwarnings("ignore:The ``noload``")  # MLflow's own
def test_a_database_that_mlflow_had_only_begun_is_removed_and_a_whole_one_stays(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.executescript("CREATE TABLE alembic_version (version_num TEXT); CREATE TABLE experiments (name TEXT);")
    assert damaged_files(tmp_path) == ["mlflow.db"]
    assert list(mend(tmp_path)) == ["mlflow.db was half-written: removed"]
    assert not (tmp_path / "mlflow.db").exists()
    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db").get_experiment_by_name("any")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert list(mend(tmp_path)) == []
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_an_empty_database_is_left_to_mlflow(tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert damaged_files(tmp_path) == []
