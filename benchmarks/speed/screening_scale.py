"""Proposing and screening at scale: time per crystal and peak memory of the two stages, of graphs, and of the sort.

    python -m benchmarks.speed.screening_scale --sizes 2000 10000 40000

Runs `stages/propose.py` and `stages/screen.py` on the curated table and the members of the last `make repro` (or of
`--data`), each in a process of its own with `candidates.n` set, and writes benchmarks/results/screening_scale.json.
`--featurize` runs `stages/featurize.py` on the candidates too: the graphs of as many crystals as a whole database has.
Memory is that of the process and all its children together; what does not grow with n is the libraries, the curated
table and one shard. The bundled sample yields a million candidates only from less likely substitutions:
`--sizes 1000000 --threshold 0.00001`. `--candidates FILE` proposes none, but takes the first of an earlier run's, row
group by row group. `--cascade fast 0.3 --distilled FOLDER` screens once more with a cascade, whose
member lies in FOLDER/fast (benchmarks/discovery/cascade.py leaves one in .checkpoints/cascade) or is one of the
ensemble. While it runs, the screening keeps about 1 kB a candidate in .checkpoints/.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.speed.graphs import machine
from benchmarks.speed.process_tree import run_watched
from matscout.discovery.rank.pareto import pareto_front
from matscout.files import write_json

ROOT = Path(__file__).resolve().parents[2]
CASCADE = ROOT / "benchmarks" / "discovery" / "cascade.yaml"
STAND_INS = "hypothetical/crystals.parquet"
RANKED = "screening/ranked.parquet"
SORTED = (200_000, 4)  # points and objectives of the non-dominated sort


def run_stage(folder: Path, stage: str, **options: Path) -> dict[str, float]:
    """Seconds of wall and processor, and the peak of memory, of one stage run in `folder`; noted there."""
    note = folder / f"{stage}.json"
    if not note.exists():
        load = round(os.getloadavg()[0], 1)
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "DVC_ROOT": str(folder)}
        arguments = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        took = run_watched([sys.executable, str(ROOT / f"stages/{stage}.py"), *arguments], folder, environment)
        write_json(note, took | {"load_average": [load, round(os.getloadavg()[0], 1)]})
    return json.loads(note.read_text())


def measure(n: int, given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The stages with `n` candidates, in a folder of their own."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["candidates"]["n"] = n
    if given.threshold is not None:
        params["candidates"]["substitution_threshold"] = given.threshold
    (folder / "own").mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    data, candidates = given.data.resolve(), folder / "candidates/candidates.parquet"
    materials, crystals = data / "curated/materials.parquet", folder / "crystals.parquet"
    stages, proposed = {}, n
    if given.candidates:
        proposed = first_of(given.candidates, n, candidates)
    else:
        stages["propose"] = run_stage(
            folder, "propose", materials=materials, own=folder / "own", out=folder / "candidates"
        )
    if given.featurize:
        as_materials(candidates, crystals)
        stages["featurize"] = run_stage(folder, "featurize", materials=crystals, out=folder / "graphs")
    stages["screen"] = run_stage(
        folder, "screen", candidates=candidates, members=data / "members", ensemble=data / "ensemble",
        materials=materials, stand_ins=data / STAND_INS, hull=data / "own_hull",
        distilled=folder / "distilled", out=folder / "screening",
    )  # fmt: skip
    if given.cascade:
        stages["screen with a cascade"] = run_cascade(given, params, folder, candidates)
    summary = json.loads((folder / "screening/summary.json").read_text())
    sizes = {path: (folder / path).stat().st_size for path in ("candidates/candidates.parquet", RANKED)}
    return {
        "n_candidates": n,
        "first_of": proposed,
        "substitution_threshold": params["candidates"]["substitution_threshold"],
        "cascade": given.cascade,
        **stages,
        "milliseconds_per_crystal": {
            stage: round(1000 * took["processor_seconds"] / n, 2) for stage, took in stages.items()
        },
        "bytes_per_crystal": {path: round(size / n) for path, size in sizes.items()},
        "n_goal_met": summary["n_goal_met"],
        "n_quarantined": summary["n_quarantined"],
        "machine": machine(),
    }


def run_cascade(given: argparse.Namespace, params: dict[str, Any], folder: Path, candidates: Path) -> dict[str, float]:
    """The stage `screen` with a cascade, in a folder of its own."""
    member, keep = given.cascade
    inside, data = folder / "cascade", given.data.resolve()
    inside.mkdir(exist_ok=True)
    params["screening"]["cascade"] = {"member": member, "keep": float(keep)}
    if given.distilled:
        params["distilled"] = {member: yaml.safe_load(CASCADE.read_text())[member]}
        shutil.copytree(given.distilled / member, inside / "data/distilled" / member, dirs_exist_ok=True)
    (inside / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return run_stage(
        inside, "screen", candidates=candidates, members=data / "members", ensemble=data / "ensemble",
        materials=data / "curated/materials.parquet", stand_ins=data / STAND_INS, hull=data / "own_hull",
        distilled=inside / "data/distilled", out=inside / "screening",
    )  # fmt: skip


def first_of(path: Path, n: int, to: Path) -> int:
    """The first `n` rows of a table of candidates, as a table; how many it has."""
    to.parent.mkdir(exist_ok=True)
    try:
        file, left = pq.ParquetFile(path), n
    except (OSError, pa.ArrowInvalid) as error:
        raise SystemExit(f"--candidates {path}: no candidates.parquet of an earlier run ({error})") from error
    if file.metadata.num_rows < n:
        raise SystemExit(f"{path}: {file.metadata.num_rows} candidates, {n} asked for")
    with pq.ParquetWriter(to, file.schema_arrow) as writer:
        for i in range(file.num_row_groups):
            part = file.read_row_group(i).slice(0, left)
            writer.write_table(part)
            left -= len(part)
            if left == 0:
                break
    return file.metadata.num_rows


def as_materials(candidates: Path, path: Path) -> None:
    """The candidates as a table that `featurize` reads, row group by row group."""
    file = pq.ParquetFile(candidates)
    names = {"candidate_id": "material_id", "lattice": "lattice", "species": "species", "frac_coords": "frac_coords"}
    parts = (file.read_row_group(i, columns=list(names)).rename_columns(names) for i in range(file.num_row_groups))
    with pq.ParquetWriter(path, file.read_row_group(0, columns=list(names)).rename_columns(names).schema) as writer:
        for part in parts:
            writer.write_table(part)


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
    parser.add_argument("--candidates", type=Path, help="candidates.parquet of an earlier run; the first are taken")
    parser.add_argument("--featurize", action="store_true", help="build the graph store of the candidates too")
    parser.add_argument("--cascade", nargs=2, metavar=("MEMBER", "KEEP"), help="screen with a cascade too")
    parser.add_argument("--distilled", type=Path, help="folder of distilled members, where MEMBER is one")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder of curated/, members/ and ensemble/")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/screening_scale.json")
    parser.add_argument(
        "--work", type=Path, help="folder that keeps each stage's outputs, so that a killed run goes on"
    )
    given = parser.parse_args()
    for n in given.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            run = measure(n, given, (given.work or Path(temporary)).resolve() / f"n-{n}")
        print(json.dumps(run))
        before = json.loads(given.out.read_text())["runs"] if given.out.exists() else []
        runs = {old["n_candidates"]: old for old in before} | {n: run}
        result = {
            "command": " ".join(["python", *sys.argv]),
            "cores": len(os.sched_getaffinity(0)),
            "non_dominated_sort": sort_time(),
            "runs": [runs[size] for size in sorted(runs)],
        }
        write_json(given.out, result)


if __name__ == "__main__":
    main()
