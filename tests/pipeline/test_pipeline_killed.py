"""`dvc repro` killed in every stage, elsewhere on disk, ends in the bytes of a run that nobody touched."""

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from blast_radius import expanded_stages
from kill_table import note
from tiny_clone import make_clone, tiny_params, tiny_records

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


def test_killed_in_every_stage_it_ends_in_the_same_bytes_elsewhere(pristine, tmp_path):
    clone, chance, killed = make_clone(tmp_path / "elsewhere", tiny_params(), tiny_records()), random.Random(11), {}
    errors = tmp_path / "errors.txt"
    while len(killed) < len(expanded_stages(clone.root)):
        stage, moment, left = repro_and_kill(clone, set(killed), chance, errors)
        if stage is not None:
            killed[stage] = moment
        elif left == 0:
            break  # a kill came after its stage had ended: nothing is left to do
        else:  # the kill fell into DVC's writing of a file of its own
            assert "was half-written" in clone.run("matscout", "mend").stdout, errors.read_text()[-3000:]
    clone.dvc("repro")
    for stage, moment in killed.items():
        note(f"`dvc repro` in `{stage}`", moment, "runs again; same bytes in the end")
    assert set(killed) == set(expanded_stages(clone.root))
    assert clone.lock() == pristine.lock()
    assert clone.dvc("status").stdout.strip() == "Data and pipelines are up to date."
