"""A training that several processes share takes the steps of one, and goes on where it was killed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.numpy
from tiny_training import EPOCHS, MEMBER, tiny_params, train

from matscout.errors import TrainingError
from matscout.files import sha256_of

pytestmark = pytest.mark.slow
SHARED = {"compute__processes": 2}
TRAIN = """
import sys, tiny_training as t
from pathlib import Path
paths = dict(zip(("materials", "split", "graphs"), map(Path, sys.argv[3:])))
t.train(paths, Path(sys.argv[2]), t.tiny_params(compute__processes=2), dvc_root=sys.argv[1])
"""


def weights(folder):
    return safetensors.numpy.load((folder / "weights.safetensors").read_bytes())


def assert_near(one, other):
    for name, value in weights(one).items():
        np.testing.assert_allclose(value, weights(other)[name], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def shared(tiny_inputs, tmp_path_factory):
    """Folder of a member that two processes trained without a break."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        train(tiny_inputs, folder / "member", tiny_params(**SHARED), dvc_root=folder)
    return folder / "member"


def test_two_processes_give_the_weights_of_one(shared, uninterrupted):
    assert_near(shared, uninterrupted[0])


def test_a_process_without_rows_in_a_batch_changes_nothing(tiny_inputs, tmp_path, dvc_root):
    changes = {"model__batch_size": 1, "members__tiny__training__epochs": 1}
    train(tiny_inputs, tmp_path / "one", tiny_params(**changes), dvc_root=dvc_root)
    train(tiny_inputs, tmp_path / "two", tiny_params(**changes, **SHARED), dvc_root=dvc_root)
    assert_near(tmp_path / "two", tmp_path / "one")


def test_killed_it_goes_on_and_ends_in_the_same_bytes(shared, tiny_inputs, tmp_path, dvc_root):
    inputs = [str(tiny_inputs[key]) for key in ("materials", "split", "graphs")]
    command = [sys.executable, "-c", TRAIN, str(dvc_root), str(tmp_path / "member"), *inputs]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    for _ in range(5):  # on a busy machine the kill may come after the last epoch
        shutil.rmtree(dvc_root / ".checkpoints", ignore_errors=True)
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        while not list((dvc_root / ".checkpoints").glob(f"{MEMBER}/*/epoch-*.ckpt")) and process.poll() is None:
            time.sleep(0.001)
        _kill(process)
        left = max(
            int(file.name.split(".")[0][-6:]) for file in (dvc_root / ".checkpoints").glob(f"{MEMBER}/*/epoch-*.ckpt")
        )
        if left < EPOCHS:
            break
    assert 1 <= left < EPOCHS
    train(tiny_inputs, tmp_path / "member", tiny_params(**SHARED), dvc_root=dvc_root)
    assert sha256_of(tmp_path / "member" / "weights.safetensors") == sha256_of(shared / "weights.safetensors")


def _kill(process):
    """The one that started them; the processes that share the training then end by themselves."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_what_one_process_complains_of_is_told(tiny_inputs, tmp_path, dvc_root):
    with pytest.raises(
        TrainingError, match=r"train tiny in 2 processes: train tiny: (loss|gradient norm) = .*model\.lr"
    ):
        train(tiny_inputs, tmp_path / "member", tiny_params(model__lr=1e9, **SHARED), dvc_root=dvc_root)
    assert not (tmp_path / "member").exists()
