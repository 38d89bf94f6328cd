"""The fastest batch on one core, by edges: python -m benchmarks.speed.batch_sizes -> results/batch_sizes.json.

Processor time of one thread, passes over all sizes interleaved; the best of each counts.
"""

import time
from pathlib import Path

import torch

from benchmarks.speed.graphs import load_cells, machine
from matscout.engine.process_setup import keep_freed_memory
from matscout.files import write_json
from matscout.graphs.crystal_graph import inference_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.model import build_model
from matscout.params import Member, Params, load_params

ROOT = Path(__file__).parents[2]
SIZES = (500, 1000, 2000, 4000, 8000, 16_000, 40_000)
N_CRYSTALS = 1024
PASSES = 4


def measure(member: Member, params: Params, store: GraphStore) -> dict[str, int]:
    """Crystals per second by edges per batch."""
    settings = member.graph.model_dump()
    model = build_model(member, params.targets).eval()
    counts = store.edge_counts(**settings)
    batches = {
        size: [store.batch(rows, **settings) for rows in inference_batches(counts, max_edges=size)] for size in SIZES
    }
    best = dict.fromkeys(SIZES, float("inf"))
    with torch.inference_mode():
        for _ in range(PASSES):
            for size, graphs in batches.items():
                start = time.process_time()
                for graph in graphs:
                    model.encoder(graph)
                best[size] = min(best[size], time.process_time() - start)
    return {str(size): round(len(store) / seconds) for size, seconds in best.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()  # as all predictions do
    parameters = load_params(ROOT / "params.yaml")
    name, cells = load_cells()
    names, crystals = zip(*cells[:N_CRYSTALS], strict=True)
    graphs = GraphStore.from_crystals(names, crystals, parameters.graphs)
    results = {name: measure(member, parameters, graphs) for name, member in parameters.members.items()}
    setting = {"cells": name, "crystals": N_CRYSTALS, "threads": 1, **machine()}
    write_json(ROOT / "benchmarks" / "results" / "batch_sizes.json", {"setting": setting, "crystals_per_s": results})
    for member_name, rates in results.items():
        print(member_name, rates)
