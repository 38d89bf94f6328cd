"""What `propose` writes: new, neutral, sane, and the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Species, Structure
from smact.screening import smact_validity

from matscout.crystal import Crystal
from matscout.discovery.candidates import CANDIDATE_SCHEMA, propose
from matscout.discovery.curated import CuratedTable, formula_key
from matscout.errors import InputError


def test_as_many_as_asked_for_with_the_columns_promised(candidates, settings):
    assert len(candidates) == settings.n
    assert list(candidates.columns) == CANDIDATE_SCHEMA.names
    assert candidates["candidate_id"].is_unique
    assert set(candidates["route"]) == {"substitution", "prototype"}


def test_every_candidate_is_charge_neutral_and_passes_smact(candidates, crystals):
    for ions, crystal in zip(candidates["ions"], crystals, strict=True):
        species = [Species.from_str(ion) for ion in ions.split()]
        charge = sum(crystal.element_counts[ion.symbol] * ion.oxi_state for ion in species)
        assert charge == 0, (ions, crystal.reduced_formula)
        assert smact_validity(crystal.reduced_formula)


def test_none_is_in_the_curated_set(candidates, crystals, materials):
    curated = CuratedTable.read(materials)
    matcher = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
    n_compared = 0
    for crystal in crystals:
        for row in curated.rows_of_formula.get(formula_key(crystal.species), []):
            n_compared += 1
            assert not matcher.fit(crystal.to_structure(), curated.crystal(row).to_structure())
    assert n_compared > 5
    known = [key in curated.rows_of_formula for key in (formula_key(c.species) for c in crystals)]
    assert candidates["formula_is_known"].tolist() == known


def test_no_two_are_the_same_structure(candidates, crystals):
    matcher = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
    n_compared = 0
    for rows in candidates.groupby("formula").groups.values():
        for i, first in enumerate(rows):
            for second in rows[i + 1 :]:
                n_compared += 1
                assert not matcher.fit(crystals[first].to_structure(), crystals[second].to_structure())
    assert n_compared > 3


def test_limits_of_the_settings_hold(candidates, crystals, settings, materials):
    assert candidates["n_atoms"].max() <= settings.max_atoms
    assert max(len(crystal.element_counts) for crystal in crystals) <= settings.max_elements
    present = {symbol for crystal in crystals for symbol in crystal.element_counts}
    assert not present & set(settings.exclude_elements)
    assert present <= CuratedTable.read(materials).elements  # an element that no model saw is no candidate


def test_cells_are_sane(candidates, crystals):
    assert candidates["volume_per_atom"].between(4, 90).all()
    for crystal in crystals[::8]:
        assert crystal.to_structure().is_valid(tol=0.8)


def test_space_group_is_the_one_of_the_cell(candidates, crystals):
    moyopy = pytest.importorskip("moyopy")
    for space_group, crystal in list(zip(candidates["space_group"], crystals, strict=True))[::8]:
        cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
        assert moyopy.MoyoDataset(cell, symprec=0.1).number == space_group


def test_parents_are_genuine_rows_or_prototypes(candidates, sample_records):
    ids = {record.material_id for record in sample_records}
    from_library = candidates["parent_id"].str.startswith("aflow-prototype:")
    assert candidates["parent_id"].isin(ids).to_numpy()[~from_library].all()
    assert from_library.any()
    assert (candidates.loc[from_library, "route"] == "prototype").all()


def test_attrition_adds_up(attrition):
    gates = attrition["gates"]
    lost = sum(n for gate, n in gates.items() if gate != "generated")
    assert gates["generated"] == lost + attrition["n_candidates"]
    assert sum(attrition["by_route"].values()) == attrition["n_candidates"]
    assert attrition["parents"]["parents"] > 0


def test_same_settings_same_bytes_whatever_the_workers(proposed, materials, settings, tmp_path):
    propose(materials, settings, tmp_path / "again", workers=2)
    for name in ("candidates.parquet", "attrition.json"):
        assert (tmp_path / "again" / name).read_bytes() == (proposed / name).read_bytes()


def test_another_seed_proposes_others(candidates, materials, settings, tmp_path):
    propose(materials, settings.model_copy(update={"seed": 18}), tmp_path / "other", workers=1)
    other = pd.read_parquet(tmp_path / "other" / "candidates.parquet", columns=["candidate_id"])
    assert 0 < len(set(other["candidate_id"]) & set(candidates["candidate_id"])) < settings.n


def test_too_few_is_an_error_with_the_attrition_and_leaves_nothing(materials, settings, tmp_path):
    greedy = settings.model_copy(update={"n": 10**6, "prototypes": False, "substitution_threshold": 0.05})
    with pytest.raises(InputError, match=r"only [\d,]+ of candidates.n = 1,000,000 .*not_charge_neutral"):
        propose(materials, greedy, tmp_path / "none", workers=1)
    assert not (tmp_path / "none").exists()


def test_user_files_join_and_broken_ones_are_told(materials, settings, sample_records, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    lattice = Lattice.cubic(4.1)
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    Structure(lattice, ["Rb", "Os", "Cl", "Cl", "Cl"], sites).to(str(folder / "mine.cif"))
    Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]]).to(str(folder / "clash.vasp"), fmt="poscar")
    sample_records[40].crystal.to_structure().to(str(folder / "known.cif"))
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a nonsense\n")
    propose(materials, settings.model_copy(update={"user_files": str(folder)}), tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out" / "candidates.parquet")
    mine = table[table["route"] == "user"]
    assert mine["formula"].tolist() == ["RbOsCl3"]
    assert len(table) == settings.n + 1
    np.testing.assert_allclose(Crystal.from_row(mine.iloc[0]).lattice, lattice.matrix, atol=1e-6)
    left_out = json.loads((tmp_path / "out" / "attrition.json").read_text())["user_files_left_out"]
    assert {(row["material_id"], row["reason"]) for row in left_out} == {
        ("broken", "unreadable_structure"),
        ("clash", "overlapping_atoms"),
        ("known", "in_curated_set"),
    }


def test_a_missing_table_and_an_empty_one_are_said(settings, materials, tmp_path):
    with pytest.raises(InputError, match="run the stage `curate`"):
        propose(tmp_path / "nowhere.parquet", settings, tmp_path / "out", workers=1)
    empty = pd.read_parquet(materials).iloc[:0]
    empty.to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="has no rows"):
        propose(tmp_path / "empty.parquet", settings, tmp_path / "out", workers=1)
