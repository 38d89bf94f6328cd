"""Variants of a run: queued, in a folder of their own, compared, applied; each one run in MLflow."""

import re
import time

import pytest
from mlflow_runs import epochs_logged, pipeline_runs

from matscout.files import sha256_of

pytestmark = pytest.mark.slow

PATIENCE_S = 900
POLL_S = 4  # each look takes a second of processor
GRID_OF_FOUR = ("0.001", "0.003"), ("0.1", "0.3"), ("cgcnn", "composition")


def run_queue(clone, workers):
    """Start the queue and wait; the status lines of its variants."""
    clone.dvc("queue", "start", "--jobs", str(workers))
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        lines = clone.dvc("queue", "status").stdout.splitlines()
        variants = [line.split() for line in lines if re.match(r"[0-9a-f]{7} ", line)]
        if variants and all(status[-1] in {"Success", "Failed"} for status in variants):
            return {line[1]: line[-1] for line in variants}
        time.sleep(POLL_S)
    raise AssertionError(f"the queue is not done after {PATIENCE_S} s:\n" + "\n".join(lines))


@pytest.mark.parametrize(
    ("rates", "warmups", "members"),
    [(("0.001", "0.003"), ("0.1",), ("composition",)), pytest.param(*GRID_OF_FOUR, marks=pytest.mark.exhaustive)],
    ids=["two", "four"],
)
def test_a_queued_grid_with_two_workers_is_a_run_for_each_to_compare_and_apply(rates, warmups, members, copied):
    targets = [f"train@{member}" for member in members]
    axes = ("-S", f"model.lr={','.join(rates)}", "-S", f"model.warmup={','.join(warmups)}")
    copied.dvc("exp", "run", "--queue", *targets, *axes)
    done = run_queue(copied, workers=2)
    copied.dvc("queue", "stop", check=False)
    assert list(done.values()) == ["Success"] * (len(rates) * len(warmups))
    assert copied.run("git", "status", "--short").stdout == ""

    runs = {run.name: run for run in pipeline_runs(copied)}  # four writers met a fresh database
    assert set(runs) == set(done)
    grid = {(float(run.params["model.lr"]), float(run.params["model.warmup"])) for run in runs.values()}
    assert grid == {(float(lr), float(warmup)) for lr in rates for warmup in warmups}
    commit = copied.run("git", "rev-parse", "HEAD").stdout.strip()
    for name, run in runs.items():
        assert sorted(child.name for child in run.children) == sorted(members)
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
    assert copied.stages_run(copied.dvc("repro", *targets).stdout) == []


def test_a_variant_in_a_folder_of_its_own_leaves_the_workspace_alone(copied):
    change = "members.composition.training.seed=99"
    output = copied.dvc("exp", "run", "--temp", "--name", "elsewhere", "train@composition", "-S", change).stdout
    assert "train@composition" in copied.stages_run(output)
    assert copied.run("git", "status", "--short").stdout == ""
    assert copied.changed() == set()
    (run,) = pipeline_runs(copied)
    assert (run.name, [child.name for child in run.children]) == ("elsewhere", ["composition"])
