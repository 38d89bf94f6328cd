"""Members trained side by side by one command, killed, broken or unfit; on Ray too in test_engine_on_ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_clone import tiny_params

pytestmark = pytest.mark.slow

LOST = list(tiny_params()["members"])[:2]  # the others stay as they are


def test_one_command_goes_on_after_a_kill_and_ends_in_the_bytes_of_a_serial_run(copied):
    serial = copied.lock()
    copied.lose_members(LOST)
    copied.environment["MATSCOUT_WORKERS"] = "2"
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
    not_activated = os.pathsep.join(copied.environment["PATH"].split(os.pathsep)[1:])
    told = copied.run(str(Path(sys.executable).parent / "matscout"), "repro", PATH=not_activated)
    assert set(copied.members_trained(told)) <= set(LOST)  # one may have been ready
    assert copied.lock() == serial
    told = copied.run("matscout", "repro")
    assert not copied.members_trained(told)
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
