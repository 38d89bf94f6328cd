"""How far the number of threads moves a member, held against another seed: python benchmarks/threads.py

Trains one member on the data of the last `make repro`: with 1 thread, with 2, with 2 again, and with 2 and
another seed. Writes benchmarks/results/threads.json.
"""

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from matscout.files import sha256_of, write_json
from matscout.params import Params, check_params, load_params
from matscout.train import INPUTS
from matscout.training.member import METRICS_FILE, train_member

RESULT = Path("benchmarks/results/threads.json")
RUNS = {"1 thread": (1, 0), "2 threads": (2, 0), "2 threads again": (2, 0), "2 threads, another seed": (2, 100)}


def variant(params: Params, member: str, *, epochs: int, threads: int, seed_shift: int) -> Params:
    tree = params.model_dump(mode="json")
    tree["compute"] |= {"threads": threads}
    training = tree["members"][member]["training"]
    training |= {"epochs": epochs, "seed": training["seed"] + seed_shift}
    return check_params(tree)


def train(params: Params, member: str, folder: Path) -> dict:
    os.environ |= {"DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    train_member(member, params=params, destination=folder / member, **INPUTS)
    weights = load_file(folder / member / "weights.safetensors")
    mae = json.loads((folder / member / METRICS_FILE).read_text())["test"]["mae"]
    return {"weights": weights, "sha256": sha256_of(folder / member / "weights.safetensors"), "test_mae": mae}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--member", default="cgcnn")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    runs = {}
    for name, (threads, shift) in RUNS.items():
        changed = variant(load_params(), given.member, epochs=given.epochs, threads=threads, seed_shift=shift)
        with TemporaryDirectory() as folder:
            runs[name] = train(changed, given.member, Path(folder))
    reference = runs["2 threads"]
    table = {
        name: {
            "same_bytes_as_2_threads": run["sha256"] == reference["sha256"],
            "largest_difference_of_a_weight": furthest(run["weights"], reference["weights"]),
            "test_mae": run["test_mae"],
        }
        for name, run in runs.items()
    }
    write_json(RESULT, {"member": given.member, "epochs": given.epochs, "torch": torch.__version__, "runs": table})
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
