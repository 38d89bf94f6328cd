"""Real cells, and cells made to be awkward."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice

from matscout.crystal import Crystal
from matscout.params import Graphs
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "mp_36k" / "mp_36k.jsonl.gz"


@pytest.fixture(scope="session")
def sample() -> list[tuple[str, Crystal]]:
    """The bundled Materials Project rows, every third."""
    records = read_snapshot(ROOT / "data" / "sample" / "materials_project")
    return [(record.material_id, record.crystal) for record in records if isinstance(record, Record)][::3]


@pytest.fixture(scope="session")
def real_cells(sample) -> list[tuple[str, Crystal]]:
    """Every twelfth of 36,737 cells of up to 200 atoms where they are there, the bundled sample elsewhere."""
    if not SHARED.exists():
        return sample
    with gzip.open(SHARED, "rt") as stream:
        rows = [json.loads(line) for number, line in enumerate(stream) if number % 12 == 0]
    return [
        (
            row["material_id"],
            Crystal(
                np.array(Lattice.from_parameters(*row["abc"], *row["angles"]).matrix)
                if "abc" in row
                else np.array(row["matrix"], dtype=float),
                tuple(row["species"]),
                np.array(row["frac"], dtype=float).reshape(-1, 3),
            ),
        )
        for row in rows
    ]


@pytest.fixture(scope="session")
def settings() -> Graphs:
    return Graphs(n_neighbors=24, asymmetric_unit=True, symprec=1e-3)
