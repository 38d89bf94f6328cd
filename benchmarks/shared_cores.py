"""What another process on the same cores costs a training.

    python benchmarks/shared_cores.py [--member cgcnn] [--epochs 1]

Torch's threads meet after each piece of work. OpenMP may let them wait actively, so that one whose partner has lost
its core to another process burns its own; or passively (OMP_WAIT_POLICY=passive, which matscout sets where it is not
set), so that they sleep. Trains one member on the data of the last `make repro` in both ways, alone and beside a
process that keeps one core busy. Writes benchmarks/results/shared_cores.json.
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

import torch
from threads import train, variant

from matscout.files import write_json
from matscout.params import load_params

RESULT = Path("benchmarks/results/shared_cores.json")
POLICIES = ("active", "passive")
THREADS = 2


def seconds(member: str, epochs: int) -> float:
    """Of one training, without the imports."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(variant(load_params(), member, epochs=epochs, threads=THREADS, seed_shift=0), member, Path(folder))
        return time.perf_counter() - started


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that never rests, where asked."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
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
        for policy in POLICIES:
            environment = os.environ | {"OMP_WAIT_POLICY": policy}
            with neighbour(busy):
                told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found.setdefault(policy, {})["beside another" if busy else "alone"] = float(told.stdout.split()[-1])
    settings = {"member": given.member, "epochs": given.epochs, "threads": THREADS, "cores": os.cpu_count()}
    write_json(RESULT, {**settings, "torch": torch.__version__, "seconds": found})
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
