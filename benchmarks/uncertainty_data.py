"""Inputs of the uncertainty benchmark: the pipeline's own outputs, or the mp_36k benchmark splits."""

import gzip
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice

from matscout import columns
from matscout.crystal import Crystal
from matscout.engine import n_workers
from matscout.files import write_parquet
from matscout.graphs.store import build_store
from matscout.params import Params

ROOT = Path(__file__).parents[1]
MP_36K = ROOT.parent / "shared" / "data" / "mp_36k" / "mp_36k.jsonl.gz"
BENCH6K_SITES, BENCH6K_FOLDS = 50, (5000, 500, 500)


@dataclass(frozen=True)
class Inputs:
    """Paths of a curated table, its graphs and its folds."""

    materials: Path
    graphs: Path
    split: Path


def pipeline_inputs() -> Inputs:
    """What `dvc repro` left."""
    inputs = Inputs(ROOT / "data/curated/materials.parquet", ROOT / "data/graphs", ROOT / "data/splits/split.parquet")
    if not inputs.split.exists():
        sys.exit(f"{inputs.split} is absent; run `make repro` first")
    return inputs


def mp_inputs(params: Params, work: Path, *, small: bool) -> Inputs:
    """The mp_36k split (order by SHA-256 of the id; 80/10/10), or its small variant bench6k."""
    if not MP_36K.is_file():
        sys.exit(f"skipped: {MP_36K} is absent")
    inputs = Inputs(work / "materials.parquet", work / "graphs", work / "split.parquet")
    if inputs.split.exists():
        return inputs
    with gzip.open(MP_36K, "rt") as stream:
        rows = [json.loads(line) for line in stream]
    rows = [row for row in rows if abs(row[columns.FORMATION_ENERGY]) <= 5]
    if small:
        rows = [row for row in rows if len(row["species"]) <= BENCH6K_SITES]
    rows.sort(key=lambda row: hashlib.sha256(row["material_id"].encode()).hexdigest())
    sizes = (
        BENCH6K_FOLDS
        if small
        else (int(0.8 * len(rows)), int(0.1 * len(rows)), len(rows) - int(0.8 * len(rows)) - int(0.1 * len(rows)))
    )
    folds = np.repeat([columns.TRAIN, columns.VALIDATION, columns.TEST], sizes)
    rows = rows[: len(folds)]
    write_parquet(inputs.materials, pd.DataFrame([_row(row) for row in rows]))
    build_store(inputs.materials, inputs.graphs, params.graphs, workers=n_workers())
    ids = [row["material_id"] for row in rows]
    write_parquet(inputs.split, pd.DataFrame({columns.MATERIAL_ID: ids, columns.FOLD: folds}))
    return inputs


def hold_out(inputs: Inputs, work: Path, element: str) -> tuple[Inputs, list[str]]:
    """The same rows with every crystal that holds `element` in no fold; and those crystals' ids."""
    materials = pd.read_parquet(inputs.materials, columns=[columns.MATERIAL_ID, columns.SPECIES, columns.SYNTHETIC])
    holds = np.array([element in species for species in materials[columns.SPECIES]])
    real = ~materials[columns.SYNTHETIC].to_numpy(bool)
    held = set(materials.loc[holds, columns.MATERIAL_ID])
    split = pd.read_parquet(inputs.split)
    split.loc[split[columns.MATERIAL_ID].isin(held), columns.FOLD] = columns.UNUSED
    write_parquet(work / "split_held_out.parquet", split)
    ids = materials.loc[holds & real, columns.MATERIAL_ID].tolist()
    return Inputs(inputs.materials, inputs.graphs, work / "split_held_out.parquet"), ids


def _row(row: dict) -> dict:
    lattice = row["matrix"] if "matrix" in row else Lattice.from_parameters(*row["abc"], *row["angles"]).matrix
    crystal = Crystal(np.array(lattice, dtype=float), tuple(row["species"]), np.array(row["frac"], dtype=float))
    return {
        columns.MATERIAL_ID: row["material_id"],
        columns.SOURCE: "materials_project",
        columns.SYNTHETIC: False,
        columns.DUPLICATE_GROUP: row["material_id"],
        **crystal.to_row(),
        columns.BAND_GAP: row[columns.BAND_GAP],
        columns.BAND_GAP_NOISE: np.nan,
        columns.FORMATION_ENERGY_ALIGNED: row[columns.FORMATION_ENERGY],
        columns.FORMATION_ENERGY_NOISE: np.nan,
    }
