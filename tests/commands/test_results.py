"""What `matscout results` and the README say is what metrics/*.json say."""

import importlib.util
import json
import subprocess

import pytest
from imports import ROOT

from matscout.commands.results import PLACES, is_to_commit, lines_of_results
from matscout.errors import InputError

ENSEMBLE = {
    target: {
        f"MAE ({unit})": 0.25,
        f"best member: MAE ({unit})": 0.3,
        "test crystals": 600,
    }
    for target, unit in (("band_gap", "eV"), ("formation_energy_per_atom", "eV/atom"))
}


def test_results_name_places_and_figures(tmp_path):
    (tmp_path / "params.yaml").touch()
    for _, path, _ in PLACES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "metrics/ensemble.json").write_text(json.dumps(ENSEMBLE))
    screening = {"candidates": 10000, "meet the goal": 12, "on the Pareto front": 5}
    (tmp_path / "metrics/screening.json").write_text(json.dumps(screening))
    text = "\n".join(lines_of_results(tmp_path))
    assert all(path in text for _, path, _ in PLACES)
    assert "0.250 on 600 real test crystals (best single member 0.300)" in text
    assert "10000 candidates, 12 meet the goal, 5 on the Pareto front" in text


def test_a_run_that_is_not_committed_is_told_so(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y.z", *arguments], cwd=tmp_path, check=True)

    assert not is_to_commit(tmp_path)  # no repository
    git("init", "-q")
    (tmp_path / "dvc.lock").write_text("stages: {}")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    assert not is_to_commit(tmp_path)
    (tmp_path / "dvc.lock").write_text("stages: {train: {}}")
    assert is_to_commit(tmp_path)


def test_another_folder_is_told_apart_from_a_run_that_was_not_made(tmp_path):
    with pytest.raises(InputError, match="repository root"):
        list(lines_of_results(tmp_path))


def test_missing_results_are_named_with_the_command_that_makes_them(tmp_path):
    (tmp_path / "params.yaml").touch()
    with pytest.raises(InputError, match=r"data/report/index\.html.*make repro"):
        list(lines_of_results(tmp_path))


def committed(name):
    """A file as the last commit has it; without one, as it lies here, unless a run on this machine rewrote it."""
    shown = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=ROOT, capture_output=True, text=True, check=False)
    if shown.returncode == 0:
        return shown.stdout
    if (ROOT / "data/ensemble").exists():
        pytest.skip("no commit here to compare with, and metrics/ may be those of a run on this machine")
    return (ROOT / name).read_text()


def test_the_readme_s_figures_are_those_of_the_metrics():
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "docs" / "results_table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    figures = [json.loads(committed(f"metrics/{name}.json")) for name in ("ensemble", "members")]
    if table.HYPOTHETICAL.exists():
        figures.append(json.loads(committed("benchmarks/results/hypothetical.json")))
    readme = committed("README.md")
    assert table.updated(readme, table.table_of(*figures)) == readme, "run: python docs/results_table.py"
    page = (ROOT / "docs" / "relaxation.md").read_text()
    properties = table.properties_table(json.loads(table.PROPERTIES.read_text()))
    assert table.updated(page, properties) == page, "run: python docs/results_table.py"
    relaxed = table.relaxation_table(json.loads(table.RELAXATION.read_text()))
    assert table.updated(page, relaxed, "wbm") == page, "run: python docs/results_table.py"
