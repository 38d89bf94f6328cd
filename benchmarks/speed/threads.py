"""Threads of a training and trainings side by side, alone and beside a busy process: python -m benchmarks.speed.threads

Trains one member on the data of the last `make repro`: on one thread, on as many as there are cores, and once a core at
the same time; each alone, and beside one process that multiplies matrices without a rest. Then compares the bytes
of one and two threads with what another seed changes. Writes benchmarks/results/threads.json.
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

from safetensors.torch import load_file

from benchmarks.speed.graphs import machine
from matscout.commands.train import INPUTS
from matscout.engine.process_setup import n_cores
from matscout.files import sha256_of, write_json
from matscout.params import Params, check_params, load_params
from matscout.training.train_member import METRICS_FILE, train_member

RESULT = Path("benchmarks/results/threads.json")
RUNS = {"1 thread": (1, 0), "2 threads": (2, 0), "2 threads, another seed": (2, 100)}
MULTIPLY = """
import torch
torch.set_num_threads(1)
a = torch.rand(400, 400)
while True:
    a = (a @ a).softmax(0)
"""


def variant(params: Params, member: str, *, epochs: int, threads: int, seed_shift: int = 0) -> Params:
    tree = params.model_dump(mode="json")
    tree["compute"] |= {"threads": threads}
    training = tree["members"][member]["training"]
    training |= {"epochs": epochs, "seed": training["seed"] + seed_shift}
    return check_params(tree)


def train(params: Params, member: str, folder: Path) -> None:
    os.environ["DVC_ROOT"] = str(folder)
    train_member(member, params=params, destination=folder / member, **vars(INPUTS))


def seconds(member: str, epochs: int, threads: int) -> float:
    """Of one training in this process, without the imports."""
    with TemporaryDirectory() as folder:
        params = variant(load_params(), member, epochs=epochs, threads=threads)
        started = time.perf_counter()
        train(params, member, Path(folder))
        return time.perf_counter() - started


def slowest(member: str, epochs: int, *, threads: int, at_once: int) -> float:
    """Seconds of the slowest of some trainings that run at once, each in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--member", member, "--epochs", str(epochs), "--once", str(threads)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(at_once)]
    return max(float(process.communicate()[0].split()[-1]) for process in processes)


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that never rests, where asked."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", MULTIPLY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def speeds(member: str, epochs: int) -> dict[str, dict[str, float]]:
    cores = n_cores()
    ways = {"one training, 1 thread": (1, 1), f"one training, {cores} threads": (cores, 1)}
    ways[f"{cores} trainings side by side, 1 thread each"] = (1, cores)
    found: dict[str, dict[str, float]] = {way: {} for way in ways}
    for busy in (False, True):
        for way, (threads, at_once) in ways.items():
            with neighbour(busy):
                found[way]["beside a busy process" if busy else "alone"] = slowest(
                    member, epochs, threads=threads, at_once=at_once
                )
    return found


def bytes_of_threads(member: str, epochs: int) -> dict[str, dict]:
    """By run: whether the bytes are those of one thread, the largest difference of a weight, the test errors."""
    weights, found = {}, {}
    for name, (threads, shift) in RUNS.items():
        with TemporaryDirectory() as folder:
            params = variant(load_params(), member, epochs=epochs, threads=threads, seed_shift=shift)
            train(params, member, Path(folder))
            file = Path(folder) / member / "weights.safetensors"
            weights[name] = load_file(file)
            errors = json.loads((file.parent / METRICS_FILE).read_text())["test"]["mae"]
            found[name] = {"sha256": sha256_of(file), "test_mae": errors}
    reference = weights["1 thread"]
    for name, run in found.items():
        differences = [(weights[name][key].double() - tensor.double()).abs().max() for key, tensor in reference.items()]
        run["largest_difference_of_a_weight"] = max(difference.item() for difference in differences)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="cgcnn")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--once", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(seconds(given.member, given.epochs, given.once))
        return
    content = {
        "member": given.member,
        "epochs": given.epochs,
        "cores": n_cores(),
        **machine(),
        "seconds": speeds(given.member, given.epochs),
        "bytes": bytes_of_threads(given.member, given.epochs),
    }
    write_json(RESULT, content)
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
