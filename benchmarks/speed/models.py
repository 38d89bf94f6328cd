"""Throughput of every architecture on prebuilt graphs, of all of them together, and of the published CGCNN beside them.

    python -m benchmarks.speed.models [--cells sample|bench6k] [--threads 2] [--crystals 2048] [--seconds 3]

Writes benchmarks/results/models.json. `bench6k` are the cells of ../shared/data/mp_36k that the accuracy
benchmark trains on; `sample` are the bundled ones. Training is forward, backward and one step of the optimiser.
"""

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.shared_rows import ROOT, file_of
from benchmarks.speed.graphs import load_cells, machine
from benchmarks.speed.published_cgcnn import PublishedCGCNN, dense_batches
from matscout.crystal import Crystal
from matscout.engine.process_setup import keep_freed_memory
from matscout.files import write_json
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import embed
from matscout.models.model import build_model
from matscout.params import Params, load_params
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

PUBLISHED_BATCH = 256  # the published code's default


def cells_of(name: str, n: int) -> list[Crystal]:
    """The first `n` cells of a set."""
    if name == "sample":
        records = (r for r in read_snapshot(ROOT / "data" / "sample" / "materials_project") if isinstance(r, Record))
        return [record.crystal for record in records][:n]
    if not file_of("mp_36k").is_file():
        sys.exit(f"{file_of('mp_36k')} is absent; use --cells sample")
    return [crystal for _, crystal in load_cells()[1][:n]]


def per_second(step: Callable[[], object], n_crystals: int, seconds: float) -> int:
    """Crystals per second: the best of repeated passes over all batches, the one that other work disturbed least."""
    step()
    rates = []
    deadline = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < deadline:
        start = time.perf_counter()
        step()
        rates.append(n_crystals / (time.perf_counter() - start))
    return round(max(rates))


def forward_rate(model: torch.nn.Module, batches: list[Any], n_crystals: int, seconds: float) -> int:
    """Predictions per second."""
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    return per_second(step, n_crystals, seconds)


def training_rate(model: torch.nn.Module, batches: list[Any], n_crystals: int, seconds: float) -> int:
    """Training examples per second: forward, backward, step."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            outputs = model(batch)
            sum(values.sum() for values in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()
            optimizer.step()

    return per_second(step, n_crystals, seconds)


def measure_members(params: Params, crystals: list[Crystal], seconds: float) -> dict[str, dict[str, float]]:
    """Each member of `params.yaml`: inference as `predict` does it, training on prebuilt batches."""
    store = GraphStore.from_crystals([str(i) for i in range(len(crystals))], crystals, params.graphs)
    results = {}
    for name, member in params.members.items():
        torch.manual_seed(member.training.seed)
        model, settings = build_model(member, params.targets), member.graph.model_dump()
        small = np.array_split(np.arange(len(crystals)), max(len(crystals) // params.model.batch_size, 1))
        rows, edges = np.arange(len(crystals)), int(store.edge_counts(**settings).sum())
        results[name] = {
            "n_parameters": model.n_parameters,
            "edges_per_crystal": round(edges / len(crystals), 1),
            "inference_per_s": per_second(partial(embed, model, store, rows, **settings), len(crystals), seconds),
            "training_per_s": training_rate(
                model, [store.batch(rows, **settings) for rows in small], len(crystals), seconds
            ),
        }
        print(f"{name:14s}", *[f"{key} {value}" for key, value in results[name].items()], sep="  ")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = "bench6k" if file_of("mp_36k").is_file() else "sample"
    parser.add_argument("--cells", choices=("sample", "bench6k"), default=usual)
    parser.add_argument("--crystals", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as all predictions do
    params = load_params(ROOT / "params.yaml")
    crystals = cells_of(arguments.cells, arguments.crystals)
    members = measure_members(params, crystals, arguments.seconds)
    dense = dense_batches(crystals, PUBLISHED_BATCH)
    published = {
        "inference_per_s": forward_rate(PublishedCGCNN(), dense, len(crystals), arguments.seconds),
        "training_per_s": training_rate(PublishedCGCNN(), dense, len(crystals), arguments.seconds),
    }
    results = {
        "setting": {
            "cells": arguments.cells,
            "crystals": len(crystals),
            "mean_atoms": round(float(np.mean([crystal.n_atoms for crystal in crystals])), 1),
            "threads": arguments.threads,
            **machine(),
            "matscout": importlib.metadata.version("matscout"),
        },
        "members": members,
        "ensemble": {"inference_per_s": round(1 / sum(1 / figures["inference_per_s"] for figures in members.values()))},
        "published_cgcnn": published,
        "cgcnn_over_published": {
            key: round(members["cgcnn"][key] / published[key], 2) for key in published if "cgcnn" in members
        },
    }
    write_json(ROOT / "benchmarks" / "results" / "models.json", results)
    print(results["ensemble"], results["published_cgcnn"], results["cgcnn_over_published"])


if __name__ == "__main__":
    main()
