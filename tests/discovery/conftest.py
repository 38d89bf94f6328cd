"""A small curated table of genuine rows of the bundled sample, and what was proposed from it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matscout.crystal import Crystal
from matscout.discovery.propose.propose import propose
from matscout.params import Candidates, load_params
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).parents[2]
N_ROWS = 700
N_CANDIDATES = 400


def write_materials(path: Path, rows: list[dict]) -> Path:
    """A curated table with the columns that discovery reads."""
    defaults = {"source": "materials_project", "synthetic": False, "is_representative": True, "is_experimental": None}
    full = [{**defaults, "duplicate_group": row["material_id"], **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(full), path)
    return path


@pytest.fixture(scope="session")
def sample_records():
    records = list(read_snapshot(ROOT / "data/sample/materials_project"))
    chosen = np.random.default_rng(0).permutation(len(records))[:N_ROWS]
    return [records[i] for i in sorted(chosen)]


@pytest.fixture(scope="session")
def materials(sample_records, tmp_path_factory) -> Path:
    rows = [
        {
            "material_id": r.material_id,
            "n_atoms": r.crystal.n_atoms,
            "formation_energy_aligned": r.formation_energy_per_atom,
            "band_gap": r.band_gap,
            "is_experimental": (None, True, False)[place % 3],
            **r.crystal.to_row(),
        }
        for place, r in enumerate(sample_records)
    ]
    return write_materials(tmp_path_factory.mktemp("curated") / "materials.parquet", rows)


@pytest.fixture(scope="session")
def settings() -> Candidates:
    section = load_params(ROOT / "params.yaml").candidates
    return section.model_copy(update={"n": N_CANDIDATES, "max_atoms": 20})


@pytest.fixture(scope="session", autouse=True)
def _shards_elsewhere(tmp_path_factory):
    """Shards of a run lie in a folder of the tests, not in that of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("root")))
        yield


@pytest.fixture(scope="session")
def own(tmp_path_factory) -> Path:
    """The folder of a user who has no structures."""
    return tmp_path_factory.mktemp("own_candidates")


@pytest.fixture(scope="session")
def proposed(materials, settings, own, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proposed") / "candidates"
    propose(materials, settings, folder, own=own, workers=1)
    return folder


@pytest.fixture(scope="session")
def candidates(proposed) -> pd.DataFrame:
    return pd.read_parquet(proposed / "candidates.parquet")


@pytest.fixture(scope="session")
def attrition(proposed) -> dict:
    return json.loads((proposed / "attrition.json").read_text())


@pytest.fixture(scope="session")
def crystals(candidates) -> list[Crystal]:
    return [Crystal.from_row(row) for row in candidates[["lattice", "species", "frac_coords"]].to_dict("records")]
