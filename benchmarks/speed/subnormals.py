"""What subnormal numbers and the compiled passes over edges cost or save each member, in one run.

    python -m benchmarks.speed.subnormals [--cells sample|bench6k] [--crystals 512] [--passes 5]

Writes benchmarks/results/subnormals.json: crystals per second of processor, one thread, for the plain layers with
Gaussians to their end, the same flushed, the plain layers with Gaussians that end four steps from their centre, and
these with kernels. Passes over all four are interleaved and the best of each counts.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.shared_rows import ROOT, file_of
from benchmarks.speed.graphs import machine
from benchmarks.speed.models import cells_of
from matscout.engine.process_setup import keep_freed_memory
from matscout.files import write_json
from matscout.graphs.crystal_graph import inference_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import plan_inference
from matscout.models.layers import distances_and_angles
from matscout.models.model import CrystalModel, build_model
from matscout.params import load_params

VARIANTS = {  # kernels, Gaussians to their end, flushed
    "tails": (False, True, False),
    "tails_flushed": (False, True, True),
    "plain": (False, False, False),
    "kernels": (True, False, False),
}


@contextmanager
def variant(name: str) -> Iterator[None]:
    """The encoders as one of `VARIANTS`."""
    kernels, tails, flushed = VARIANTS[name]
    end, off = distances_and_angles.LARGEST_SQUARE, numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    distances_and_angles.LARGEST_SQUARE = float("inf") if tails else end
    numba.config.DISABLE_JIT = off or not kernels  # type: ignore[attr-defined]
    torch.set_flush_denormal(flushed)
    try:
        yield
    finally:
        distances_and_angles.LARGEST_SQUARE, numba.config.DISABLE_JIT = end, off  # type: ignore[attr-defined]
        torch.set_flush_denormal(False)


def predict(model: CrystalModel, batches: list[Any]) -> None:
    """All batches once."""
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            model.encoder(batch)


def train(model: CrystalModel, batches: list[Any]) -> None:
    """Forward, backward and step on all batches."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        sum(values.sum() for values in model(batch).values()).backward()  # type: ignore[union-attr]
        optimizer.step()


def rates(step: Callable[[], None], n_crystals: int, passes: int) -> dict[str, int]:
    """Crystals per second of processor by variant."""
    best = dict.fromkeys(VARIANTS, float("inf"))
    for _ in range(passes):
        for name in VARIANTS:
            with variant(name):
                start = time.process_time()
                step()
                best[name] = min(best[name], time.process_time() - start)
    return {name: round(n_crystals / seconds) for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = "bench6k" if file_of("mp_36k").is_file() else "sample"
    parser.add_argument("--cells", choices=("sample", "bench6k"), default=usual)
    parser.add_argument("--crystals", type=int, default=512)
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    params = load_params(ROOT / "params.yaml")
    crystals = cells_of(arguments.cells, arguments.crystals)
    store = GraphStore.from_crystals([str(n) for n in range(len(crystals))], crystals, params.graphs)
    members = {}
    for name, member in params.members.items():
        torch.manual_seed(member.training.seed)
        model, settings = build_model(member, params.targets), member.graph.model_dump()
        large = inference_batches(store.edge_counts(**settings), max_edges=plan_inference("cpu").max_edges)
        small = np.array_split(np.arange(len(crystals)), max(len(crystals) // params.model.batch_size, 1))
        members[name] = {
            what: rates(
                partial(step, model, [store.batch(rows, **settings) for rows in batches]),
                len(crystals),
                arguments.passes,
            )
            for what, step, batches in (("inference_per_s", predict, large), ("training_per_s", train, small))
        }
        print(name, members[name])
    ensemble = {
        which: round(1 / sum(1 / member["inference_per_s"][which] for member in members.values())) for which in VARIANTS
    }
    setting = {"cells": arguments.cells, "crystals": len(crystals), "threads": 1, **machine()}
    write_json(
        ROOT / "benchmarks" / "results" / "subnormals.json",
        {"setting": setting, "members": members, "ensemble_inference_per_s": ensemble},
    )
    print("ensemble", ensemble)


if __name__ == "__main__":
    main()
