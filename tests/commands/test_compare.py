"""`matscout compare`: what metrics/ and params.yaml hold, in Git and in DVC's experiments, as one table."""

import json
import subprocess

import pytest
import yaml
from typer.testing import CliRunner

from matscout.cli import app
from matscout.commands.results import compare
from matscout.errors import InputError

HASH = "ab" + "c" * 38


def write_run(root, gap, lr, members=("cgcnn", "megnet")):
    (root / "metrics").mkdir(exist_ok=True)
    ensemble = {
        "band_gap": {"MAE (eV)": gap, "best member: MAE (eV)": gap + 0.1, "coverage of 90 % intervals": 0.912},
        "formation_energy_per_atom": {"MAE (eV/atom)": 0.05},
    }
    figures = {}
    for place, name in enumerate(members):
        errors = {"band gap: test MAE (eV)": gap + 0.1 - place / 50, "formation energy: test MAE (eV/atom)": 0.06}
        figures[name] = {**errors, "band gap: validation MAE (eV)": 9.0, "epochs": 9}
    (root / "metrics/ensemble.json").write_text(json.dumps(ensemble))
    (root / "metrics/members.json").write_text(json.dumps(figures))
    (root / "params.yaml").write_text(yaml.safe_dump({"model": {"lr": lr}, "pretrained": {}}))


def git(root, *arguments):
    who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits, an experiment after the second, and DVC's own refs beside it."""
    git(tmp_path, "init", "-q", "-b", "main")
    for gap, lr in ((0.5, 0.1), (0.4, 0.2)):
        write_run(tmp_path, gap, lr)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", f"lr {lr}")
    head = git(tmp_path, "rev-parse", "HEAD")
    write_run(tmp_path, 0.3, 0.3)
    git(tmp_path, "commit", "-q", "-a", "-m", "experiment")
    git(tmp_path, "update-ref", f"refs/exps/{HASH[:2]}/{HASH[2:]}/bold-owl", "HEAD")
    git(tmp_path, "update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    git(tmp_path, "reset", "-q", "--hard", head)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_this_run_and_the_experiments_stand_with_their_members_in_one_table(repository):
    table = compare()
    assert table["variant"].tolist() == ["workspace", "", "", "bold-owl", "", ""]
    assert table["model"].tolist() == ["ensemble", "megnet", "cgcnn"] * 2  # members: best first
    assert table["band gap, eV"].tolist() == ["0.400 (91 %)", "0.480", "0.500", "0.300 (91 %)", "0.380", "0.400"]
    assert table["formation energy, eV/atom"].tolist() == ["0.050", "0.060", "0.060"] * 2
    assert table["epochs"].tolist() == ["", "9", "9"] * 2
    assert table["changed"].tolist() == ["", "", "", "model.lr=0.3", "", ""]


def test_a_changed_workspace_stands_beside_the_commit_that_it_began_with(repository):
    write_run(repository, 0.2, 0.9, members=("cogn",))
    table = compare(members=False)
    assert table["variant"].tolist() == ["workspace", "HEAD", "bold-owl"]
    assert table["changed"].tolist() == ["model.lr=0.9", "", "model.lr=0.3"]


def test_revisions_are_compared_by_name_and_an_unknown_one_is_told(repository):
    table = compare(["HEAD~1"], members=False)
    assert table["variant"].tolist() == ["workspace", "HEAD~1"]
    assert table["band gap, eV"].tolist() == ["0.400 (91 %)", "0.500 (91 %)"]
    for name in ("calm-eel", "--all"):
        with pytest.raises(InputError, match=f"'{name}' is neither a revision of Git nor an experiment.*bold-owl"):
            compare([name])


def test_the_table_fits_a_terminal_of_eighty_columns(repository, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = CliRunner().invoke(app, ["compare"], catch_exceptions=False)
    assert told.exit_code == 0
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "model.lr=0.3" in told.stdout


def test_outside_of_a_repository_and_without_metrics_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no Git repository: run from the repository root"):
        compare(root=tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match=r"no variant has .*; run `make repro`"):
        compare(root=tmp_path)
