"""Results that come back: compared, or refused with the reason."""

import json

import numpy as np
import pandas as pd
import pytest

from matscout.discovery.feedback import compare_feedback
from matscout.errors import InputError

ENERGY = "formation_energy_per_atom"


@pytest.fixture
def ranked(candidates, tmp_path):
    table = candidates.head(20).copy()
    table[ENERGY], table["band_gap"] = np.linspace(-2, -0.5, 20), np.linspace(0, 3, 20)
    for target in (ENERGY, "band_gap"):
        table[f"{target}_std"] = 0.1
        table[f"{target}_lo90"], table[f"{target}_hi90"] = table[target] - 0.2, table[target] + 0.2
    table.to_parquet(tmp_path / "ranked.parquet")
    return table


@pytest.fixture
def give(ranked, tmp_path):
    """Write results for the first rows and compare them."""

    def run(change=lambda row: row, n=6, extra=""):
        folder = tmp_path / "feedback"
        folder.mkdir(exist_ok=True)
        lines = []
        for row in ranked.head(n).to_dict("records"):
            result = {name: np.asarray(row[name]).tolist() for name in ("lattice", "frac_coords")}
            result |= {"species": list(row["species"]), "material_id": row["candidate_id"]}
            result |= {ENERGY: row[ENERGY] + 0.05, "band_gap": row["band_gap"] + 0.5}
            lines.append(json.dumps(change(result)))
        (folder / "round-1.jsonl").write_text("\n".join(lines) + extra)
        return compare_feedback(folder, tmp_path / "ranked.parquet")

    return run


def test_errors_and_coverage_are_those_of_the_predictions(give):
    table, rejections = give()
    assert not rejections
    energies, gaps = (table[table["label"] == label] for label in (ENERGY, "band_gap"))
    np.testing.assert_allclose(energies["error"], 0.05)
    assert energies["in_90"].all()
    np.testing.assert_allclose(gaps["error"], 0.5)
    assert not gaps["in_90"].any()


def test_a_line_that_was_cut_off_is_told_and_the_others_count(give):
    table, rejections = give(extra='\n{"material_id": "ms-')
    assert len(table) == 12
    assert [rejection.reason for rejection in rejections] == ["invalid_json"]


@pytest.mark.parametrize(("factor", "unit"), [(1000, "meV"), (1 / 27.211386, "Ha"), (96.485, "kJ/mol")])
def test_wrong_units_are_recognised(give, factor, unit):
    with pytest.raises(InputError, match=f"fits the predictions in {unit} but not in eV/atom"):
        give(lambda row: row | {ENERGY: row[ENERGY] * factor})


def test_energies_of_whole_cells_are_recognised(give):
    with pytest.raises(InputError, match="in eV/cell"):
        give(lambda row: row | {ENERGY: row[ENERGY] * len(row["species"])})


def test_predictions_that_were_merely_bad_are_no_wrong_unit(give):
    table, _ = give(lambda row: row | {ENERGY: row[ENERGY] + 1.3})
    assert (table.loc[table["label"] == ENERGY, "error"] > 1).all()


def test_unknown_ids_and_mixed_up_ones_are_refused(give, ranked):
    with pytest.raises(InputError, match=r"6 id\(s\) are no candidate"):
        give(lambda row: row | {"material_id": f"mp-{row['material_id']}"})
    first = ranked["candidate_id"].iloc[0]
    with pytest.raises(InputError, match="ids are mixed up"):
        give(lambda row: row | {"material_id": first})


def test_an_empty_folder_is_told(tmp_path, ranked):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no"):
        compare_feedback(tmp_path / "nothing", tmp_path / "ranked.parquet")
    assert len(pd.read_parquet(tmp_path / "ranked.parquet")) == 20
