"""docs/sanity_table.py: the cells are the crystals that they are called, and the table says what was predicted."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from small_outputs import ROOT, make_outputs

from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.predictor import EnsemblePredictor

SPACE_GROUPS = {"Si": 227, "NaCl": 225, "GaAs": 216, "MgO": 225, "Fe": 229, "Cu": 225, "SrTiO3": 221, "LiFePO4": 62}
DENSITIES = {  # g/cm³, CRC Handbook
    "Si": 2.33,
    "NaCl": 2.17,
    "GaAs": 5.32,
    "MgO": 3.58,
    "Fe": 7.87,
    "Cu": 8.96,
    "SrTiO3": 5.12,
    "LiFePO4": 3.6,
}
NEAREST = {"Si": 2.35, "NaCl": 2.82, "GaAs": 2.45, "MgO": 2.11, "Fe": 2.48, "Cu": 2.56, "SrTiO3": 1.95, "LiFePO4": 1.52}


@pytest.fixture(scope="module")
def sanity():
    spec = importlib.util.spec_from_file_location("sanity_table", ROOT / "docs" / "sanity_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cells_have_the_symmetry_density_and_bonds_of_the_crystals(sanity):
    for name, structure in sanity.known_cells().items():
        formula = name.split(",")[0]
        assert SpacegroupAnalyzer(structure).get_space_group_number() == SPACE_GROUPS[formula], name
        assert structure.density == pytest.approx(DENSITIES[formula], rel=0.015), name
        distances = structure.distance_matrix + 9 * np.eye(len(structure))
        images = structure.get_neighbor_list(3.0)[3] if len(structure) < 3 else distances
        assert images.min() == pytest.approx(NEAREST[formula], abs=0.02), name


def test_the_table_holds_what_an_ensemble_predicts(sanity, tmp_path):
    made = make_outputs(tmp_path)
    evaluate(made.members, destination=tmp_path / "ensemble", **made.arguments())
    predictions = sanity.predicted(EnsemblePredictor.load(made.members, tmp_path / "ensemble"))
    labels = sanity.labels_of(pd.read_parquet(made.materials), pd.read_parquet(made.split))
    table = sanity.table_of(predictions, labels)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == list(sanity.known_cells())
    salt = predictions.loc["NaCl, rock salt"]
    assert rows[1][3] == f"{salt['band_gap']:.2f} [{salt['band_gap_lo90']:.2f}, {salt['band_gap_hi90']:.2f}]"
    assert rows[1][2] != "–"  # the small table holds NaCl
    assert rows[0][2] == rows[0][5] == "–"  # and no silicon


def test_the_page_s_markers_take_the_table(sanity):
    page = sanity.updated((ROOT / "docs" / "models.md").read_text(), "| x |\n")
    assert "-->\n| x |\n<!-- sanity: end -->" in page
    assert sanity.updated(page, "| y |\n").count("|\n<!-- sanity") == 1
