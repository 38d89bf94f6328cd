"""Thousands of genuine rows through the replayed services, where ../shared/data lies beside the repository."""

import gzip
import json

import numpy as np
import pytest
from pymatgen.core import Lattice
from replay import Aflux, MaterialsProject
from sample_rows import ROOT, database, split
from services import clear_heartbeat

from matscout.sources.acquire import acquire
from matscout.sources.snapshots.snapshot import read_snapshot

SHARED = ROOT.parent / "shared" / "data"
N_ROWS = 3000


def genuine(path, n_rows):
    if not (SHARED / path).exists():
        pytest.skip("../shared/data is absent")
    with gzip.open(SHARED / path, "rt") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(n_rows), strict=False)]


def matrix_of(row):
    return row["matrix"] if "matrix" in row else Lattice.from_parameters(*row["abc"], *row["angles"]).matrix.tolist()


def block_for(name, url):
    changes = {"origin": "api", "endpoint": url, "query__limit": 10**5, "query__energy_above_hull": None}
    return database(name, service__requests_per_second=1000.0, service__page_size=500, **changes)


@pytest.mark.slow
def test_genuine_materials_project_rows_survive_the_real_client(tmp_path):
    rows = genuine("mp_36k/mp_36k.jsonl.gz", N_ROWS)
    documents = [
        {
            "material_id": row["material_id"],
            "structure": {
                "lattice": {"matrix": matrix_of(row)},
                "sites": [
                    {"species": [{"element": s, "occu": 1}], "abc": f}
                    for s, f in zip(row["species"], row["frac"], strict=True)
                ],
            },
            "band_gap": row["band_gap"],
            "formation_energy_per_atom": row["formation_energy_per_atom"],
        }
        for row in rows
    ]
    with MaterialsProject(documents) as server:
        clear_heartbeat()
        acquire("materials_project", block_for("materials_project", server.url), tmp_path / "raw")
    records, rejections = split(read_snapshot(tmp_path / "raw"))
    check(records, rejections, {row["material_id"]: row for row in rows})


@pytest.mark.slow
def test_genuine_aflow_rows_survive_both_shapes(tmp_path):
    rows = genuine("aflow_sp_metals_844/aflow_sp_metals.jsonl.gz", N_ROWS)
    answers = []
    for number, row in enumerate(rows):
        order = np.argsort(row["species"], kind="stable")
        names = sorted(set(row["species"]))
        answers.append(
            {
                "auid": f"aflow:{number:016x}",
                "geometry": list(Lattice(matrix_of(row)).parameters),
                "species": names,
                "composition": [row["species"].count(name) for name in names],
                "positions_fractional": [row["frac"][i] for i in order],
                "enthalpy_formation_atom": row.get("formation_energy_per_atom"),
                "Egap": 0.0,
                "dft_type": ["PAW_PBE"],
            }
        )
    for shape in ("today", "2018"):
        with Aflux(answers, shape=shape) as server:
            acquire("aflow", block_for("aflow", server.url), tmp_path / shape)
        records, rejections = split(read_snapshot(tmp_path / shape))
        check(records, rejections, {answer["auid"]: row for answer, row in zip(answers, rows, strict=True)})


def check(records, rejections, rows):
    assert not rejections
    assert {record.material_id for record in records} == rows.keys()
    for record in records:
        row = rows[record.material_id]
        assert sorted(record.crystal.species) == sorted(row["species"])
        assert record.crystal.volume == pytest.approx(abs(np.linalg.det(matrix_of(row))), rel=1e-6)
        expected = row.get("formation_energy_per_atom")
        assert record.formation_energy_per_atom == (expected if expected is None else pytest.approx(expected))
