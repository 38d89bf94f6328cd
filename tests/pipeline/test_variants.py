"""Variants of a run: queued, in a folder of their own, compared, applied; each one run in MLflow."""

import re
import time

import pytest
from mlflow_runs import epochs_logged, pipeline_runs

from matscout.files import sha256_of

pytestmark = pytest.mark.slow

MEMBERS = ("cgcnn", "composition")
TARGETS = [f"train@{member}" for member in MEMBERS]
PATIENCE_S = 900


def run_queue(clone, workers):
    """Start the queue and wait; the status lines of its variants."""
    clone.dvc("queue", "start", "--jobs", str(workers))
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        lines = clone.dvc("queue", "status").stdout.splitlines()
        variants = [line.split() for line in lines if re.match(r"[0-9a-f]{7} ", line)]
        if variants and all(status[-1] in {"Success", "Failed"} for status in variants):
            return {line[1]: line[-1] for line in variants}
        time.sleep(2)
    raise AssertionError(f"the queue is not done after {PATIENCE_S} s:\n" + "\n".join(lines))


def test_a_queued_grid_of_four_with_two_workers_is_four_runs_to_compare_and_apply(copied):
    axes = ("-S", "model.lr=0.001,0.003", "-S", "model.warmup=0.1,0.3")
    copied.dvc("exp", "run", "--queue", *TARGETS, *axes)
    done = run_queue(copied, workers=2)
    copied.dvc("queue", "stop", check=False)
    assert list(done.values()) == ["Success"] * 4
    assert copied.run("git", "status", "--short").stdout == ""

    runs = {run.name: run for run in pipeline_runs(copied)}  # four writers met a fresh database
    assert set(runs) == set(done)
    grid = {(float(run.params["model.lr"]), float(run.params["model.warmup"])) for run in runs.values()}
    assert grid == {(lr, warmup) for lr in (0.001, 0.003) for warmup in (0.1, 0.3)}
    commit = copied.run("git", "rev-parse", "HEAD").stdout.strip()
    for name, run in runs.items():
        assert sorted(child.name for child in run.children) == sorted(MEMBERS)
        for child in run.children:
            assert child.status == "FINISHED"
            assert child.tags["dvc.experiment"] == name
            assert child.tags["mlflow.source.git.commit"] == commit
            assert {"matscout.sha256.code", "matscout.sha256.graphs", "matscout.sha256.split"} <= set(child.tags)
            assert float(child.params["model.lr"]) == float(run.params["model.lr"])
            assert epochs_logged(child) == [1, 2]

    one, other = sorted(done)[:2]
    assert "model." in copied.dvc("exp", "diff", one, other).stdout
    before = sha256_of(copied.root / "data/members/composition")
    copied.dvc("exp", "apply", one)
    assert sha256_of(copied.root / "data/members/composition") != before
    assert float(runs[one].params["model.lr"]) in {0.001, 0.003}
    assert copied.stages_run(copied.dvc("repro", *TARGETS).stdout) == []


def test_a_variant_in_a_folder_of_its_own_leaves_the_workspace_alone(copied):
    change = "members.composition.training.seed=99"
    output = copied.dvc("exp", "run", "--temp", "--name", "elsewhere", "train@composition", "-S", change).stdout
    assert "train@composition" in copied.stages_run(output)
    assert copied.run("git", "status", "--short").stdout == ""
    assert copied.dvc("status").stdout.strip() == "Data and pipelines are up to date."
    (run,) = pipeline_runs(copied)
    assert (run.name, [child.name for child in run.children]) == ("elsewhere", ["composition"])
