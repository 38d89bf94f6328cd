"""Speed of graph building, batching and storing: `python -m benchmarks.speed.graphs` -> benchmarks/results/graphs.json.

Cells: *bench6k* (6,000 Materials Project cells of up to 50 atoms) where ../shared/data is present, else the bundled
sample. One core, no threads; the yardstick is pymatgen's neighbour list at 8 Å over the same cells in the same run.
"""

import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import typer

from benchmarks.shared_rows import ROOT, crystal_of, file_of, order, read_rows
from matscout import columns
from matscout.crystal import Crystal
from matscout.files import write_json, write_parquet
from matscout.graphs.graph_store import GraphStore, build_store
from matscout.graphs.pack_crystals import CrystalBlock, pack_graphs
from matscout.params import Graphs
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

SYMPREC = 1e-3
REPEATS = 3
FULL_SCALE = 230_000


def main(out: Path = ROOT / "benchmarks" / "results" / "graphs.json", n_yardstick: int = 1500) -> None:
    """Measure and write the figures; `n_yardstick` cells go through pymatgen."""
    name, cells = load_cells()
    small = [cell for cell in cells if 8 <= cell[1].n_atoms <= 12]
    results = {
        "cells": {"name": name, "n": len(cells), "mean_atoms": float(np.mean([c.n_atoms for _, c in cells]))},
        "all_cells": build_rates(cells, n_yardstick),
        "cells_of_8_to_12_atoms": build_rates(small, n_yardstick),
        "store": store_figures(cells),
        "machine": machine(),
    }
    write_json(out, results)
    print(json.dumps(results, indent=2))


def load_cells() -> tuple[str, list[tuple[str, Crystal]]]:
    """The benchmark's cells, in its order."""
    if not file_of("mp_36k").is_file():
        records = read_snapshot(ROOT / "data" / "sample" / "materials_project")
        return "bundled sample", [(r.material_id, r.crystal) for r in records if isinstance(r, Record)]
    rows = [row for row in read_rows("mp_36k") if len(row["species"]) <= 50]
    rows.sort(key=lambda row: order(row["material_id"]))
    return "bench6k", [(row["material_id"], crystal_of(row)) for row in rows[:6000]]


def best_seconds(work: Callable[[], object]) -> float:
    """Fewest processor seconds of a few runs, after one that compiles and warms.

    Processor time of one thread, so that other processes on the machine disturb it less than the clock.
    """
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def build_rates(cells: list[tuple[str, Crystal]], n_yardstick: int) -> dict[str, float]:
    """Crystals per second and core, cell to graph."""
    names, crystals = zip(*cells, strict=True)
    block = CrystalBlock.from_crystals(names, crystals)
    structures = [crystal.to_structure() for crystal in crystals[:n_yardstick]]
    yardstick = len(structures) / best_seconds(lambda: [s.get_neighbor_list(8.0) for s in structures])
    rates = {"n": float(len(cells)), "pymatgen_get_neighbor_list_8": yardstick}
    for label, asymmetric in (("asymmetric_unit", True), ("full_cell", False)):
        for k in (12, 24):
            settings = Graphs(n_neighbors=k, asymmetric_unit=asymmetric, symprec=SYMPREC)
            rate = len(cells) / best_seconds(lambda settings=settings: pack_graphs(block, settings))
            rates |= {f"{label}_k{k}": rate, f"{label}_k{k}_over_pymatgen": rate / yardstick}
    settings = Graphs(n_neighbors=12, asymmetric_unit=True, symprec=SYMPREC)
    rates["from_crystal_objects_k12"] = len(cells) / best_seconds(
        lambda: GraphStore.from_crystals(names, crystals, settings)
    )
    packed = pack_graphs(block, settings)
    rates["atoms_left_by_asymmetric_unit"] = len(packed.atomic_numbers) / len(block.numbers)
    return rates


def store_figures(cells: list[tuple[str, Crystal]]) -> dict[str, float]:
    """Bytes, build time and batch rate of a store with 24 neighbours."""
    settings = Graphs(n_neighbors=24, asymmetric_unit=True, symprec=SYMPREC)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        table, directory = Path(folder) / "materials.parquet", Path(folder) / "graphs"
        write_parquet(table, pd.DataFrame([{columns.MATERIAL_ID: name, **c.to_row()} for name, c in cells]))
        start = time.perf_counter()
        build_store(table, directory, settings, workers=1)
        seconds = time.perf_counter() - start
        n_bytes = sum(path.stat().st_size for path in directory.iterdir())
        figures = {
            "build_crystals_per_s": len(cells) / seconds,
            "bytes_per_crystal_k24": n_bytes / len(cells),
            "gigabytes_for_230000": n_bytes / len(cells) * FULL_SCALE / 1e9,
            "open_ms": 1e3 * best_seconds(lambda: GraphStore.open(directory)),
        }
        store = GraphStore.open(directory)
        for size in (64, 256):
            rows = np.random.default_rng(0).permutation(len(store))
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]
            seconds = best_seconds(lambda parts=parts: [store.batch(p, n_neighbors=12, cutoff=8.0) for p in parts])
            figures[f"batch_{size}_crystals_per_s"] = len(store) / seconds
    return figures


def machine() -> dict[str, str]:
    names = ("numba", "numpy", "pymatgen", "torch")
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"cpu": cpu[0] if cpu else platform.processor(), "python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


if __name__ == "__main__":
    typer.run(main)
