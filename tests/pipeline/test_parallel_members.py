"""Members trained side by side, on cores or on Ray, are those of a serial run."""

import shutil

import pytest
from mlflow_runs import epochs_logged, pipeline_runs
from tiny_clone import tiny_params

pytestmark = pytest.mark.slow

MEMBERS = list(tiny_params()["members"])
LOCAL, ON_RAY = MEMBERS[:2], MEMBERS[2:4]
LOST = [*LOCAL, *ON_RAY]  # the others stay as they are: each costs half a minute


def test_parallel_members_are_finished_by_dvc_with_the_bytes_of_a_serial_run(copied):
    pytest.importorskip("ray")
    serial = copied.lock()
    for name in LOST:
        shutil.rmtree(copied.root / "data/members" / name)
    told = copied.run("matscout", "train", *LOCAL, "--workers", "2")
    assert all(f"train: {name} trained" in told.stderr for name in LOCAL)
    told = copied.run("matscout", "train", "--workers", "2", "--engine", "ray")
    assert {name for name in MEMBERS if f"train: {name} trained" in told.stderr} == set(ON_RAY)
    assert "all members are trained already" in copied.run("matscout", "train").stdout
    copied.dvc("repro", "--force", "--single-item", *(f"train@{name}" for name in LOST))
    assert copied.lock() == serial
    assert copied.dvc("status").stdout.strip().endswith("up to date.")
    runs = pipeline_runs(copied)
    assert len(runs) == 1
    assert sorted(run.name for run in runs[0].children) == sorted(LOST)  # the stages began no run of their own
    assert all(epochs_logged(run) == [1, 2] for run in runs[0].children)
    assert "all members are trained already" in copied.run("matscout", "train").stdout


def test_a_failing_member_is_named_and_unfit_inputs_are_refused(copied):
    def break_two(tree):
        tree["members"]["composition"]["training"] |= {"lr_scale": 1e30}
        tree["members"]["cgcnn"]["training"] |= {"seed": 99}

    copied.edit_params(break_two)
    done = copied.run("matscout", "train", "composition", "cgcnn", "--workers", "2", check=False)
    assert done.returncode == 1
    assert "1 of 2 members failed" in done.stderr
    assert "composition: train composition: " in done.stderr
    assert "lower model.lr" in done.stderr
    assert "train: cgcnn trained" in done.stderr
    done = copied.run("matscout", "train", "magnet", check=False)
    assert "choose from" in done.stderr
    copied.edit_params(lambda tree: tree["split"].update(seed=5))
    done = copied.run("matscout", "train", check=False)
    assert "dvc repro featurize split" in done.stderr
