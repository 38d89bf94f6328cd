"""Proposing and screening at scale: time per crystal and peak memory of the two stages, and of the sort.

    python benchmarks/screening_scale.py --sizes 2000 10000 40000

Runs `stages/propose.py` and `stages/screen.py` on the curated table and the members of the last `make repro`, each in a
process of its own with `candidates.n` set, and writes benchmarks/results/screening_scale.json. Peak memory is the
largest resident set of the process or of one of its children, whichever is larger; what does not grow with n is the
libraries, the curated table and one shard. The bundled sample yields a million candidates only from less likely
substitutions: `--sizes 1000000 --threshold 0.00001`. The screening keeps about 1 kB of disk a candidate in
.checkpoints/ while it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from matscout.discovery.pareto import pareto_front

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
SORTED = (200_000, 4)  # points and objectives of the non-dominated sort


def run_stage(folder: Path, *arguments: str) -> dict[str, float]:
    """Seconds of wall and processor, and the peak of memory, of one stage run in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "DVC_ROOT": str(folder)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stderr=(folder / "log").open("w")
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments[0]} failed: {(folder / 'log').read_text()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }


def measure(n: int, threshold: float | None) -> dict[str, object]:
    """Both stages with `n` candidates."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["candidates"]["n"] = n
        if threshold is not None:
            params["candidates"]["substitution_threshold"] = threshold
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        materials = DATA / "curated/materials.parquet"
        own = folder / "own"
        own.mkdir()
        proposed = run_stage(
            folder, str(ROOT / "stages/propose.py"), "--materials", str(materials), "--own", str(own),
            "--out", str(folder / "candidates"),
        )  # fmt: skip
        screened = run_stage(
            folder, str(ROOT / "stages/screen.py"), "--candidates", str(folder / "candidates/candidates.parquet"),
            "--members", str(DATA / "members"), "--ensemble", str(DATA / "ensemble"), "--materials", str(materials),
            "--out", str(folder / "screening"),
        )  # fmt: skip
        summary = json.loads((folder / "screening/summary.json").read_text())
        sizes = {
            name: (folder / name).stat().st_size
            for name in ("candidates/candidates.parquet", "screening/ranked.parquet")
        }
    return {
        "n_candidates": n,
        "substitution_threshold": params["candidates"]["substitution_threshold"],
        "propose": proposed,
        "screen": screened,
        "milliseconds_per_crystal": {
            stage: round(1000 * took["processor_seconds"] / n, 2)
            for stage, took in (("propose", proposed), ("screen", screened))
        },
        "bytes_per_crystal": {name: round(size / n) for name, size in sizes.items()},
        "n_goal_met": summary["n_goal_met"],
    }


def sort_time() -> dict[str, float]:
    """One non-dominated sort, compiled before."""
    points = np.random.default_rng(17).normal(size=SORTED)
    pareto_front(points[:30_000])
    started = time.perf_counter()
    on_front = int(pareto_front(points).sum())
    took = round(time.perf_counter() - started, 3)
    return {"points": SORTED[0], "objectives": SORTED[1], "on_front": on_front, "seconds": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000, 40_000])
    parser.add_argument("--threshold", type=float, help="candidates.substitution_threshold, where it is to be another")
    arguments = parser.parse_args()
    path = ROOT / "benchmarks/results/screening_scale.json"
    before = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = {run["n_candidates"]: run for run in before} | {n: measure(n, arguments.threshold) for n in arguments.sizes}
    result = {
        "command": " ".join(["python", *sys.argv]),
        "cores": len(os.sched_getaffinity(0)),
        "non_dominated_sort": sort_time(),
        "runs": [runs[n] for n in sorted(runs)],
    }
    path.write_text(f"{json.dumps(result, indent=2)}\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
