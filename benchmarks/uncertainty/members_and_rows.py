"""Inputs of the uncertainty benchmark: the pipeline's own outputs, or the mp_36k benchmark splits."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.shared_rows import ROOT, order, read_rows, table_of
from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.engine import n_workers
from matscout.files import write_parquet
from matscout.graphs.graph_store import build_store
from matscout.params import Params

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
    inputs = Inputs(work / "materials.parquet", work / "graphs", work / "split.parquet")
    if inputs.split.exists():
        return inputs
    rows = sorted(read_rows("mp_36k"), key=lambda row: order(row["material_id"]))
    if small:
        rows = [row for row in rows if len(row["species"]) <= BENCH6K_SITES]
    sizes = (
        BENCH6K_FOLDS
        if small
        else (int(0.8 * len(rows)), int(0.1 * len(rows)), len(rows) - int(0.8 * len(rows)) - int(0.1 * len(rows)))
    )
    folds = np.repeat([columns.TRAIN, columns.VALIDATION, columns.TEST], sizes)
    rows = rows[: len(folds)]
    write_parquet(inputs.materials, table_of("mp_36k", rows))
    build_store(inputs.materials, inputs.graphs, params.graphs, workers=n_workers())
    ids = [row["material_id"] for row in rows]
    write_parquet(inputs.split, pd.DataFrame({columns.MATERIAL_ID: ids, columns.FOLD: folds}))
    return inputs


def hold_out(inputs: Inputs, work: Path, element: str) -> tuple[Inputs, list[str]]:
    """The same rows with every crystal that holds `element` in no fold; and those crystals' ids."""
    materials = CuratedTable(inputs.materials).rows([columns.MATERIAL_ID, columns.SPECIES, columns.SYNTHETIC])
    holds = np.array([element in species for species in materials[columns.SPECIES]])
    real = ~materials[columns.SYNTHETIC].to_numpy(bool)
    held = set(materials.loc[holds, columns.MATERIAL_ID])
    split = pd.read_parquet(inputs.split)
    split.loc[split[columns.MATERIAL_ID].isin(held), columns.FOLD] = columns.UNUSED
    write_parquet(work / "split_held_out.parquet", split)
    ids = materials.loc[holds & real, columns.MATERIAL_ID].tolist()
    return Inputs(inputs.materials, inputs.graphs, work / "split_held_out.parquet"), ids
