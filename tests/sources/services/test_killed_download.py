"""SIGKILL at random moments, then again until it ends: nothing lost, nothing doubled, the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from replay import Fault, slow
from sample_rows import ROOT

ACQUIRE = """
import json, sys
from pathlib import Path
from matscout.params import Database
from matscout.sources.acquire import acquire
name, block, destination = sys.argv[1:]
acquire(name, Database.model_validate(json.loads(block)), Path(destination))
"""
MAX_KILLS = 3


def start_process(service, destination):
    block = service.database.model_dump_json()
    command = [sys.executable, "-c", ACQUIRE, service.name, block, str(destination)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_again_and_again_the_bytes_are_those_of_an_undisturbed_run(service):
    rng = random.Random(service.name)
    undisturbed = {path.name: path.read_bytes() for path in service.acquire().iterdir()}
    journal = next((service.root / ".downloads").rglob("journal.jsonl"))
    journal.unlink()
    destination = service.root / "killed"
    service.server.faults = [Fault(slow(0.05), times=10**6)]  # room for a kill between and within requests
    n_killed = 0
    while n_killed < MAX_KILLS:
        n_before, process = len(service.server.asked), start_process(service, destination)
        n_wanted = n_before + rng.randint(2, 6)
        while process.poll() is None and len(service.server.asked) < n_wanted:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.06)
        if process.poll() is not None:
            process.stderr.close()
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        n_killed += 1
    assert n_killed
    final = start_process(service, destination)
    _, errors = final.communicate(timeout=120)
    assert final.returncode == 0, errors.decode()
    assert {path.name: path.read_bytes() for path in destination.iterdir()} == undisturbed


@pytest.mark.parametrize("keep", range(0, 100, 7))
def test_a_journal_torn_at_any_byte_resumes_to_the_same_bytes(start_service, keep):
    """What a kill or a power cut can leave of an append: a prefix."""
    service = start_service("aflow", n_rows=30, page_size=10)
    undisturbed = {path.name: path.read_bytes() for path in service.acquire().iterdir()}
    journal = next((service.root / ".downloads").rglob("journal.jsonl"))
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) * keep // 100])
    folder = service.acquire()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == undisturbed
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
