"""`dvc repro` killed in every stage, elsewhere on disk, ends in the bytes of a run that nobody touched."""

import contextlib
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from blast_radius import expanded_stages
from kill_table import note
from tiny_clone import copy_clone, make_clone

pytestmark = pytest.mark.slow

MARK = "Running stage '"


def next_stage(lines, timeout=None):
    """The next stage that starts, None at the end; queue.Empty where none does within `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while (line := lines.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))) is not None:
        if line.startswith(MARK):
            return line.split("'")[1]
    return None


def read_lines(stream):
    """Lines as they come, then None."""
    lines = queue.Queue()

    def read():
        with stream:
            for line in stream:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def repro_and_kill(clone, spared, chance, errors):
    """Run until the first stage that is not in `spared` has run for a moment, and kill everything.

    Returns (stage, moment, exit status); stage and moment are None where the run ended by itself. What it says on
    standard error is in the file `errors`.
    """
    with errors.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=clone.root,
            env=clone.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    lines = read_lines(process.stdout)
    while (stage := next_stage(lines)) is not None:
        if stage not in spared:
            seconds = chance.uniform(0.0, 6.0)
            try:
                next_stage(lines, timeout=seconds)
                moment = "as it ended"
            except queue.Empty:
                moment = f"{seconds:.1f} s after its start"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return stage, moment, process.wait()
    return None, None, process.wait()


def forget(clone, stages):
    """Let these stages run again, and no other."""
    lock = yaml.safe_load(clone.lock())
    for stage in stages:
        del lock["stages"][stage]
    (clone.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(clone.root / ".dvc/cache/runs")


@pytest.mark.parametrize("kills", [3, pytest.param("in every stage", marks=pytest.mark.exhaustive)])
def test_killed_in_stages_it_ends_in_the_same_bytes_elsewhere(kills, pristine, tmp_path):
    """A fresh clone, killed in every stage; or a copy of a run that has three stages, drawn by lot, to do again."""
    chance, killed, errors = random.Random(11), {}, tmp_path / "errors.txt"
    everything = set(expanded_stages(pristine.root))
    if kills == "in every stage":
        clone, wanted = make_clone(tmp_path / "elsewhere"), everything
    else:
        clone, wanted = copy_clone(pristine, tmp_path / "elsewhere"), set(chance.sample(sorted(everything), kills))
        forget(clone, wanted)
    while len(killed) < len(wanted):
        stage, moment, left = repro_and_kill(clone, set(killed), chance, errors)
        if stage is not None:
            killed[stage] = moment
        elif left == 0:
            break  # a kill came after its stage had ended: nothing is left to do
        else:  # the kill fell into DVC's writing of a file of its own
            assert "was half-written" in clone.run("matscout", "mend").stdout, errors.read_text()[-3000:]
    clone.run("matscout", "mend")  # the last kill may have fallen there too
    clone.dvc("repro")
    for stage, moment in killed.items():
        note(f"`dvc repro` in `{stage}`", moment, "runs again; same bytes in the end")
    assert set(killed) == wanted
    assert yaml.safe_load(clone.lock()) == yaml.safe_load(pristine.lock())
    assert clone.changed() == set()
