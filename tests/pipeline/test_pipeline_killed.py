"""`dvc repro` killed in every stage, elsewhere on disk, ends in the bytes of a run that nobody touched."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from blast_radius import expanded_stages
from kill_table import note
from tiny_clone import make_clone, tiny_params, tiny_records

pytestmark = pytest.mark.slow

MARK = "Running stage '"


def repro_and_kill(clone, spared, chance):
    """Run until the first stage that is not in `spared` has run for a moment, and kill everything; (stage, seconds)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=clone.root,
        env=clone.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    stage = seconds = None
    with process:
        for line in process.stdout:
            stage = line.split("'")[1] if line.startswith(MARK) else None
            if stage and stage not in spared:
                seconds = chance.uniform(0.0, 6.0)
                time.sleep(seconds)
                os.killpg(process.pid, signal.SIGKILL)
                break
            stage = None
    return stage, seconds, process.wait()


def test_killed_in_every_stage_it_ends_in_the_same_bytes_elsewhere(tiny, tmp_path):
    clone, chance, killed = make_clone(tmp_path / "elsewhere", tiny_params(), tiny_records()), random.Random(11), {}
    while len(killed) < len(expanded_stages(clone.root)):
        stage, seconds, left = repro_and_kill(clone, set(killed), chance)
        if stage is None:
            assert left == 0  # a kill came after its stage had ended: nothing is left to do
            break
        killed[stage] = seconds
    clone.dvc("repro")
    for stage, seconds in killed.items():
        note(f"`dvc repro` in `{stage}`", f"{seconds:.1f} s after its start", "runs again; same bytes in the end")
    assert set(killed) == set(expanded_stages(clone.root))
    assert clone.lock() == tiny.lock()
    assert clone.dvc("status").stdout.strip() == "Data and pipelines are up to date."
