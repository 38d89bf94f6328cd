"""Measurement 3: validity, duplicates and splits of 10,000 to 230,000 structures; one process per size."""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.curation.disguised_rows import disguise, record_of, substitute
from benchmarks.shared_rows import crystal_of, file_of, read_file
from matscout.curated_table import load_materials_database
from matscout.curation.curate import curate_records
from matscout.curation.splits import make_split
from matscout.params import load_params
from matscout.sources.record import Record


def make_records(n: int, seed: int) -> list[Record]:
    """Genuine crystals, then a disguised twin of each, then substituted ones, in rounds over all parents.

    Smaller runs take their parents at random, so that the share of twins stays the same.
    """
    rng = np.random.default_rng(seed)
    parents = [crystal_of(row) for row in read_file(file_of("mp_36k"))]
    rounds = 230_000 / len(parents)
    chosen = rng.permutation(len(parents))[: int(np.ceil(n / rounds))]
    records: list[Record] = []
    for position in range(n):
        parent = parents[chosen[position % len(chosen)]]
        turn = position // len(chosen)
        crystal = parent if turn == 0 else disguise(parent, rng) if turn == 1 else substitute(parent, rng)
        source = ("materials_project", "oqmd", "aflow")[min(turn, 2)]
        records.append(record_of(f"{source}-{position:06d}", source, crystal, band_gap=0.0))
    return records


def measure(n: int, workers: int) -> dict[str, float]:
    """Wall and processor time and peak memory of one run over `n` structures."""
    params = load_params()
    records = make_records(n, seed=17)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        curate_records(records, [], {}, params.curation, Path(folder), workers=workers)
        curated = time.perf_counter()
        materials = load_materials_database(Path(folder))
        summary = json.loads((Path(folder) / "summary.json").read_text())
        split = make_split(materials, params.split)
    ended = time.perf_counter()
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "structures": n,
        "workers": workers,
        "load_average": round(os.getloadavg()[1], 1),
        "wall_s": round(ended - started, 1),
        "split_s": round(ended - curated, 1),
        "processor_s": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 1),
        "peak_memory_gb": round((own.ru_maxrss + workers * children.ru_maxrss) / 1e6, 2),
        "kept": len(split),
        "groups": summary["duplicates"]["groups"],
        "edges": summary["duplicates"]["edges"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.write_text(json.dumps(measure(arguments.n, arguments.workers), indent=2) + "\n")
