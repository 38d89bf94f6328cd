"""What bounds the speed: where the seconds of `screen` go, and how far the encoders are from their arithmetic.

    python -m benchmarks.speed.bounds [--candidates 10000]

Screens the last `make repro`'s candidates once more in a process of its own, with a clock around its parts, and runs
each member's encoder on some of its graphs. The floor is the rate at which the matrix products of its plain layers
alone (torch's flop counter) would run at the rate of a large one, on one thread of this machine in this run; the
shares are of the plain layers' time under torch's profiler, which sees no operator within a kernel.
Writes benchmarks/results/bounds.json.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.graphs import machine
from benchmarks.speed.subnormals import variant
from matscout.engine.process_setup import keep_freed_memory
from matscout.files import write_json
from matscout.graphs.crystal_graph import inference_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import plan_inference
from matscout.models.saved_member import load_member

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
CANDIDATES = DATA / "candidates/candidates.parquet"
PARTS = {  # of the stage, none within another: what is called, where it is looked up
    "known phases and members, read": [
        ("matscout.discovery.stability.energy_above_hull", "References.read"),
        ("matscout.ensemble.predictor", "EnsemblePredictor.load"),
    ],
    "graphs": [("matscout.graphs.graph_store", "GraphStore.from_usable")],
    "encoders": [("matscout.ensemble.predictor", "run_members")],
    "distances from the training set": [("matscout.ensemble.training_distance", "TrainingReference.distance")],
    "convex hulls": [
        ("matscout.discovery.stability.energy_above_hull", "References.decompose_all"),
        ("matscout.discovery.stability.energy_above_hull", "References.hull_energies"),
    ],
    "ranking": [("matscout.discovery.screen.candidate_scores", "rank_candidates")],
    "convex hulls of the shortlist's draws": [
        ("matscout.discovery.stability.energy_above_hull", "References.draw_hulls")
    ],
    "writing": [
        ("matscout.discovery.screen.screen", "write_cifs"),
        ("matscout.discovery.screen.scored_file", "ScoredFile.write_ranked"),
    ],
}
IMPORTS, REST = "interpreter and imports", "heads, calibration, columns and the rest"
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "gathers and sums": ("aten::index_select", "aten::scatter_add_", "aten::scatter_reduce", "aten::gather"),
}
POINTWISE = "pointwise and the rest"
SIZE, PASSES, N_PROFILED = 1536, 5, 2048


def clocked(spent: dict[str, float]) -> None:
    """Put a clock around each of the parts; a part within a part counts for the outer one."""
    inside: list[str] = []

    def around(part: str, function: Any) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if inside:
                return function(*args, **kwargs)
            inside.append(part)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start
                inside.pop()

        return timed

    for part, places in PARTS.items():
        for module, name in places:
            owner: Any = import_module(module)
            *classes, last = name.split(".")
            for each in classes:
                owner = getattr(owner, each)
            bound = vars(owner)[last]
            is_classmethod = isinstance(bound, classmethod)
            function = around(part, bound.__func__ if is_classmethod else bound)
            setattr(owner, last, classmethod(function) if is_classmethod else function)


def screen_here(began: float, n: int) -> None:
    """Body of the process that is timed: prints its parts as JSON."""
    from matscout.engine.process_setup import collect_garbage_rarely

    collect_garbage_rarely()
    from matscout.discovery.screen.screen import screen
    from matscout.params import load_params

    imported = time.time() - began
    spent: dict[str, float] = defaultdict(float)
    clocked(spent)
    with tempfile.TemporaryDirectory() as folder:
        candidates = first_of(CANDIDATES, n, Path(folder))
        start = time.perf_counter()
        screen(
            candidates,
            params=load_params(),
            members=DATA / "members",
            ensemble=DATA / "ensemble",
            materials=DATA / "curated/materials.parquet",
            stand_ins=DATA / "hypothetical/crystals.parquet",
            distilled=DATA / "distilled",
            destination=Path(folder) / "screening",
        )
        total = time.perf_counter() - start
    print(json.dumps({IMPORTS: imported, **spent, REST: total - sum(spent.values())}))


def first_of(path: Path, n: int, folder: Path) -> Path:
    """The first `n` candidates, in a file of their own."""
    table = pq.read_table(path).slice(0, n)
    pq.write_table(table, folder / "candidates.parquet", row_group_size=len(table))
    return folder / "candidates.parquet"


def parts_of_screen(n: int) -> dict[str, float]:
    """Seconds of wall by part of the stage."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--here", str(time.time()), "--candidates", str(n)],
        stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return {part: round(seconds, 2) for part, seconds in json.loads(done.stdout.splitlines()[-1]).items()}


def peak_gflops() -> float:
    """Of a large matrix product in float32, one thread: the best of a few."""
    a, best = torch.randn(SIZE, SIZE), 0.0
    for _ in range(PASSES):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * SIZE**3 / (time.perf_counter() - start) / 1e9)
    return best


def bound_of(name: str, store: GraphStore, gflops: float) -> dict[str, Any]:
    """One member's encoder: arithmetic a crystal, rate, floor, and shares of its time."""
    member = load_member(DATA / "members" / name)
    settings = {key: member.card.graph[key] for key in ("n_neighbors", "cutoff")}
    rows = np.arange(min(len(store), N_PROFILED))
    cut = inference_batches(store.edge_counts(**settings)[rows], max_edges=plan_inference("cpu").max_edges)
    batches = [store.batch(rows[some], **settings) for some in cut]
    encoder = member.model.encoder
    with (
        variant("plain"),
        torch.enable_grad(),
        FlopCounterMode(display=False) as counter,
    ):  # its tracker needs gradients
        for batch in batches:
            encoder(batch)
    with torch.inference_mode():
        times = []
        for _ in range(PASSES):
            start = time.perf_counter()
            for batch in batches:
                encoder(batch)
            times.append(time.perf_counter() - start)
        with variant("plain"), profile(activities=[ProfilerActivity.CPU]) as profiled:
            for batch in batches:
                encoder(batch)
    spent = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(spent.values())
    shares = {kind: sum(spent.get(key, 0.0) for key in keys) / total for kind, keys in KINDS.items()}
    flops = counter.get_total_flops() / len(rows)
    return {
        "megaflop_per_crystal": round(flops / 1e6, 2),
        "crystals_per_s_of_one_core": round(len(rows) / min(times)),
        "floor_per_s_of_one_core": round(gflops * 1e9 / flops),
        "shares": {**{kind: round(s, 2) for kind, s in shares.items()}, POINTWISE: round(1 - sum(shares.values()), 2)},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here is not None:
        screen_here(given.here, given.candidates)
        return
    if not CANDIDATES.exists():
        sys.exit(f"{CANDIDATES} is absent; run `make repro` first")
    n = min(given.candidates, pq.read_metadata(CANDIDATES).num_rows)
    parts = parts_of_screen(n)
    torch.set_num_threads(1)
    keep_freed_memory()  # as all predictions do
    store, gflops = GraphStore.open(DATA / "graphs"), peak_gflops()
    members = sorted(path.name for path in (DATA / "members").iterdir())
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "screen": {"n": n, "seconds": parts},
        "gflops_of_one_core": round(gflops, 1),
        "members": {name: bound_of(name, store, gflops) for name in members},
    }
    print(json.dumps(result, indent=1))
    write_json(ROOT / "benchmarks/results/bounds.json", result)


if __name__ == "__main__":
    main()
