"""What another process on the same cores costs a training.

    python benchmarks/shared_cores.py [--member cgcnn] [--epochs 1]

Torch's threads meet after each piece of work. One whose partner has lost its core to another process may wait actively,
for a while (OpenMP by itself) or for less, and so keep a core that the partner needs; or it sleeps. Trains one member
on the data of the last `make repro` in each way, alone and beside a process that multiplies matrices on all cores.
Writes benchmarks/results/shared_cores.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch  # before matscout, which would have its threads sleep in every case
from threads import train, variant

from matscout.files import write_json
from matscout.params import load_params

RESULT = Path("benchmarks/results/shared_cores.json")
POLICIES: dict[str, dict[str, str]] = {
    "for a while, as OpenMP does by itself": {},
    "for 10,000 turns": {"GOMP_SPINCOUNT": "10000"},
    "asleep": {"OMP_WAIT_POLICY": "passive"},
}
THREADS = 2
MULTIPLY = f"""
import torch
torch.set_num_threads({THREADS})
a = torch.rand(400, 400)
while True:
    a = (a @ a).softmax(0)
"""
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def seconds(member: str, epochs: int) -> float:
    """Of one training, without the imports."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(variant(load_params(), member, epochs=epochs, threads=THREADS, seed_shift=0), member, Path(folder))
        return time.perf_counter() - started


@contextmanager
def neighbour(busy: bool, environment: dict[str, str]) -> Iterator[None]:
    """A process that never rests, where asked."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", MULTIPLY], env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="cgcnn")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(seconds(given.member, given.epochs))
        return
    command = [sys.executable, __file__, "--once", "--member", given.member, "--epochs", str(given.epochs)]
    found: dict[str, dict[str, float]] = {}
    for busy in (False, True):
        for policy, own in POLICIES.items():
            clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
            environment = clean | own
            with neighbour(busy, environment):
                told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found.setdefault(policy, {})["beside another" if busy else "alone"] = float(told.stdout.split()[-1])
    settings = {"member": given.member, "epochs": given.epochs, "threads": THREADS, "cores": os.cpu_count()}
    write_json(RESULT, {**settings, "torch": torch.__version__, "seconds": found})
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
