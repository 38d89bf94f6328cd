"""Members trained side by side, on cores or on Ray, are those of a serial run."""

import shutil
import signal
import subprocess
import time

import pytest
import yaml
from mlflow_runs import epochs_logged, pipeline_runs
from tiny_clone import tiny_params

pytestmark = pytest.mark.slow

MEMBERS = list(tiny_params()["members"])
LOCAL, ON_RAY = MEMBERS[:2], MEMBERS[2:4]
LOST = [*LOCAL, *ON_RAY]  # the others stay as they are: each costs half a minute


def forget(clone, names):
    """Members that are neither there nor in DVC's cache."""
    stages = yaml.safe_load(clone.lock())["stages"]
    for name in names:
        digest = stages[f"train@{name}"]["outs"][0]["md5"]
        (clone.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()
        shutil.rmtree(clone.root / "data/members" / name)


def trained(told):
    return {name for name in MEMBERS if f"train: {name} trained" in told.stderr}


def test_parallel_members_are_finished_by_dvc_with_the_bytes_of_a_serial_run(copied):
    pytest.importorskip("ray")
    serial = copied.lock()
    forget(copied, LOST)
    assert trained(copied.run("matscout", "train", *LOCAL, "--workers", "2")) == set(LOCAL)
    assert trained(copied.run("matscout", "train", "--workers", "2", "--engine", "ray")) == set(ON_RAY)
    assert "all members are trained already" in copied.run("matscout", "train").stdout
    told = copied.dvc("repro")
    assert copied.stages_run(told.stdout) == [f"train@{name}" for name in LOST]
    assert "step/s" not in told.stderr  # they were only put in their places
    assert copied.lock() == serial
    assert copied.dvc("status").stdout.strip().endswith("up to date.")
    runs = pipeline_runs(copied)
    assert len(runs) == 1
    assert sorted(run.name for run in runs[0].children) == sorted(LOST)  # the stages began no run of their own
    assert all(epochs_logged(run) == [1, 2] for run in runs[0].children)
    shutil.rmtree(copied.root / "data/members" / LOST[0])
    assert "all members are trained already" in copied.run("matscout", "train").stdout  # it is in the cache


def test_one_command_goes_on_after_a_kill_and_ends_in_the_bytes_of_a_serial_run(copied):
    serial = copied.lock()
    forget(copied, LOCAL)
    running = subprocess.Popen(
        ["matscout", "repro"],
        cwd=copied.root,
        env=copied.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(copied.root.glob(".checkpoints/*/*/epoch-*.ckpt")):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    told = copied.run("matscout", "repro")
    assert trained(told) <= set(LOCAL)  # one may have been ready
    assert copied.lock() == serial
    told = copied.run("matscout", "repro")
    assert not trained(told)
    assert not copied.stages_run(told.stdout)


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
    assert "dvc repro featurize" in done.stderr
