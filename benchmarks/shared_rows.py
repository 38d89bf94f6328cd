"""Genuine rows of ../shared/data as rows of a curated table; nothing of them may be copied into the repository."""

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Lattice

from matscout import columns
from matscout.crystal import Crystal

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
LARGEST_ENERGY = 5.0  # eV/atom: rows beyond it are failed calculations, such as OQMD 4831941 with 25.4


@dataclass(frozen=True)
class RowSet:
    """A file of rows, and the database they came from."""

    file: str
    source: str


SETS = {
    "mp_36k": RowSet("mp_36k/mp_36k.jsonl.gz", "materials_project"),
    "oqmd_perovskites": RowSet("oqmd_perovskites/oqmd_perovskites_11265.jsonl.gz", "oqmd"),
    "mp_perovskites": RowSet("oqmd_perovskites/mp_perovskites_1784.jsonl.gz", "materials_project"),
    "oqmd_heuslers": RowSet("oqmd_heuslers/oqmd_full_heuslers.jsonl.gz", "oqmd"),
    "aflow_metals": RowSet("aflow_sp_metals_844/aflow_sp_metals.jsonl.gz", "aflow"),
}


def file_of(name: str) -> Path:
    """Where the rows of a set are, if they are."""
    return SHARED / SETS[name].file


def read_file(path: Path) -> Iterator[dict[str, Any]]:
    """All rows of a gzip JSONL file."""
    with gzip.open(path, "rt") as stream:
        for line in stream:
            yield json.loads(line)


def read_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a set that have a believable formation energy; leaves with a message where the files are absent."""
    path = file_of(name)
    if not path.is_file():
        sys.exit(f"skipped: {path} is absent")
    rows = list(read_file(path))
    for row in rows:
        row.setdefault("material_id", f"{SETS[name].source}-{row.get('idx')}")
    known = [row for row in rows if row.get(columns.FORMATION_ENERGY) is not None]
    return [row for row in known if abs(row[columns.FORMATION_ENERGY]) <= LARGEST_ENERGY]


def order(text: str) -> str:
    """Decides the place of a row: SHA-256 as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def crystal_of(row: dict[str, Any]) -> Crystal:
    """The cell of a row."""
    lattice = row["matrix"] if "matrix" in row else Lattice.from_parameters(*row["abc"], *row["angles"]).matrix
    return Crystal(np.array(lattice, dtype=float), tuple(row["species"]), np.array(row["frac"], dtype=float))


def table_row(row: dict[str, Any], source: str) -> dict[str, Any]:
    """One row as the curated table has it; the published formation energy counts as aligned."""
    crystal = crystal_of(row)
    gap = row.get(columns.BAND_GAP)
    return {
        columns.MATERIAL_ID: row["material_id"],
        columns.SOURCE: source,
        columns.FUNCTIONAL: "PBE",
        columns.SYNTHETIC: False,
        columns.DUPLICATE_GROUP: row["material_id"],
        columns.FORMULA: crystal.reduced_formula,
        **crystal.to_row(),
        columns.BAND_GAP: np.nan if gap is None else gap,
        columns.BAND_GAP_NOISE: np.nan,
        columns.FORMATION_ENERGY: row[columns.FORMATION_ENERGY],
        columns.FORMATION_ENERGY_ALIGNED: row[columns.FORMATION_ENERGY],
        columns.FORMATION_ENERGY_NOISE: np.nan,
    }


def table_of(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of a set as a curated table."""
    return pd.DataFrame([table_row(row, SETS[name].source) for row in rows])
