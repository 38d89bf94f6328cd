"""Would bfloat16 or torch.compile pay on this machine? python -m benchmarks.speed.precision -> results/precision.json.

For each member of the last `dvc repro`: how far its point estimates move (largest and mean shift, in their standard
deviations) and how fast its encoder runs, against plain float32 in the same run, one thread, processor time; and what
compiling costs (its first pass over all batches, the compiler's processes and every later shape included, less a usual
pass), and so from how many crystals on it would pay.
A faster way is used by `models/inference.py` only if no estimate moves by more than 1e-3 standard deviations.
"""

import argparse
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config

from benchmarks.speed.graphs import load_cells, machine
from matscout.engine.process_setup import keep_freed_memory
from matscout.ensemble.members import load_members
from matscout.files import write_json
from matscout.graphs.crystal_graph import CrystalGraph, inference_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import distributions, plan_inference
from matscout.models.saved_member import LoadedMember
from matscout.params import Params, load_params

ROOT = Path(__file__).parents[2]
N_CRYSTALS = 512
PASSES = 3


def in_bfloat16(encoder: torch.nn.Module) -> Callable[[CrystalGraph], torch.Tensor]:
    """Matrix products in bfloat16, the rest in float32."""

    def run(graph: CrystalGraph) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return encoder(graph).float()

    return run


def compiled(encoder: torch.nn.Module) -> Callable[[CrystalGraph], torch.Tensor]:
    """Fused by torch's compiler, for any batch."""
    torch._dynamo.reset()  # noqa: SLF001 -- there is no public name
    return torch.compile(encoder, dynamic=True)


def measure(member: LoadedMember, store: GraphStore) -> dict[str, Any]:
    """Shifts and speeds of one member."""
    settings = {key: member.card.graph[key] for key in ("n_neighbors", "cutoff")}
    model = member.model.eval()
    batches = inference_batches(store.edge_counts(**settings), max_edges=plan_inference("cpu").max_edges)
    graphs = [store.batch(rows, **settings) for rows in batches]
    ways: dict[str, Callable[[CrystalGraph], torch.Tensor]] = {"float32": model.encoder}
    ways["bfloat16"] = in_bfloat16(model.encoder)
    if shutil.which("g++"):
        ways["compiled"] = compiled(model.encoder)
    seconds, first, outputs = dict.fromkeys(ways, float("inf")), {}, {}
    with torch.inference_mode():
        for _ in range(PASSES):
            for name, encode in ways.items():
                start = processor_seconds()
                outputs[name] = torch.cat([encode(graph) for graph in graphs]).numpy()
                took = processor_seconds() - start
                first.setdefault(name, took)
                seconds[name] = min(seconds[name], took)
    estimates = {
        name: {target: found.median() for target, found in distributions(model, embedding).items()}
        for name, embedding in outputs.items()
    }
    found = {
        name: {
            "over_float32": round(seconds["float32"] / seconds[name], 2),
            **{target: _shift(estimates["float32"][target], estimates[name][target]) for target in estimates[name]},
        }
        for name in ways
        if name != "float32"
    }
    if "compiled" in ways:
        cost, gain = first["compiled"] - seconds["compiled"], (seconds["float32"] - seconds["compiled"]) / len(store)
        found["compiled"] |= {
            "compile_processor_s": round(cost, 1),
            "pays_from_crystals": round(cost / gain) if gain > 0 else None,
        }
    return found


def processor_seconds() -> float:
    """Of this process and of the children that it waited for, such as the C++ compiler."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _shift(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    shift = np.abs(found - expected) / expected.std()
    return {"largest_shift": float(f"{shift.max():.2g}"), "mean_shift": float(f"{shift.mean():.2g}")}


def main(params: Params, members: Path) -> None:
    """Measure all members and write the file."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as all predictions do
    torch._inductor.config.compile_threads = 1  # noqa: SLF001 -- in this process, so that its time is seen
    torch._inductor.config.force_disable_caches = True  # noqa: SLF001 -- as on a machine that never compiled it
    name, cells = load_cells()
    names, crystals = zip(*cells[:N_CRYSTALS], strict=True)
    store = GraphStore.from_crystals(names, crystals, params.graphs)
    results = {}
    for member in load_members(members, list(params.members)):
        results[member.name] = measure(member, store)
        print(member.name, results[member.name])
    setting = {"cells": name, "crystals": N_CRYSTALS, "threads": 1, **machine()}
    write_json(ROOT / "benchmarks" / "results" / "precision.json", {"setting": setting, "members": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=Path, default=ROOT / "data" / "members")
    main(load_params(ROOT / "params.yaml"), parser.parse_args().members)
