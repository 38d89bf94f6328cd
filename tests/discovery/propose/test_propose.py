"""What `propose` writes: new, neutral, sane, and the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest
import smact
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Lattice, Species, Structure
from smact.screening import smact_validity

from matscout.crystal import Crystal
from matscout.discovery.known_materials import KnownMaterials, formula_key
from matscout.discovery.propose import novelty
from matscout.discovery.propose.crystal_templates import make_template
from matscout.discovery.propose.propose import CANDIDATE_SCHEMA, _broken_gate, propose
from matscout.errors import InputError


def test_as_many_as_asked_for_with_the_columns_promised(candidates, settings):
    assert len(candidates) == settings.n
    assert list(candidates.columns) == CANDIDATE_SCHEMA.names
    assert candidates["candidate_id"].is_unique
    assert set(candidates["route"]) == {"substitution", "prototype", "intermetallic"}


def test_every_candidate_says_whether_its_parent_was_ever_made(candidates, sample_records):
    made = {r.material_id: (None, True, False)[place % 3] for place, r in enumerate(sample_records)}
    expected = [made.get(parent) for parent in candidates["parent_id"]]  # a prototype was no crystal
    found = [None if pd.isna(flag) else bool(flag) for flag in candidates["parent_is_experimental"]]
    assert found == expected
    assert set(found) == {None, True, False}


def test_a_parent_was_made_if_a_duplicate_of_it_was(tmp_path):
    rows = [
        ("a", "1", None),
        ("b", "1", True),
        ("c", "1", False),
        ("d", "2", False),
        ("e", "2", None),
        ("f", "3", None),
    ]
    table = [
        {
            "material_id": name,
            "duplicate_group": group,
            "is_experimental": flag,
            "n_atoms": 1,
            "lattice": [3.0, 0, 0, 0, 3.0, 0, 0, 0, 3.0],
            "species": ["Fe"],
            "frac_coords": [0.0, 0.0, 0.0],
        }
        for name, group, flag in rows
    ]
    pd.DataFrame(table).assign(synthetic=False).to_parquet(tmp_path / "materials.parquet")
    curated = KnownMaterials.read(tmp_path / "materials.parquet")
    assert curated.made == {"a": True, "b": True, "c": True, "d": False, "e": False}


def test_every_salt_is_charge_neutral_and_passes_smact(candidates, crystals):
    for ions, crystal, route in zip(candidates["ions"], crystals, candidates["route"], strict=True):
        if route == "intermetallic":
            continue
        species = [Species.from_str(ion) for ion in ions.split()]
        charge = sum(crystal.element_counts[ion.symbol] * ion.oxi_state for ion in species)
        assert charge == 0, (ions, crystal.reduced_formula)
        assert smact_validity(crystal.reduced_formula)


def test_intermetallics_are_metals_like_those_of_their_parents(candidates, sample_records):
    parents = {record.material_id: record.crystal for record in sample_records}
    chosen = candidates[candidates["route"] == "intermetallic"]
    assert len(chosen) > 10
    assert chosen["probability"].isna().all()
    for row in chosen.to_dict("records"):
        pairs = [replaced.split(">") for replaced in row["substitution"].split()]
        assert {old for old, _ in pairs} == set(parents[row["parent_id"]].species)
        assert all(Element(symbol).is_metal for pair in pairs for symbol in pair)
        assert max(abs(smact.Element(old).pauling_eneg - smact.Element(new).pauling_eneg) for old, new in pairs) <= 0.4
        assert len({new for _, new in pairs}) == len(pairs)


def test_a_route_with_no_share_makes_nothing(materials, settings, own, tmp_path):
    routes = settings.routes.model_copy(update={"substitution": 0.0, "prototype": 0.0})
    changed = settings.model_copy(update={"routes": routes, "n": 50})
    propose(materials, changed, tmp_path / "metals", own=own, workers=1)
    told = json.loads((tmp_path / "metals" / "attrition.json").read_text())
    assert told["by_route"] == {"intermetallic": 50}


def test_none_is_in_the_curated_set(candidates, crystals, materials):
    curated = KnownMaterials.read(materials)
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
    assert present <= KnownMaterials.read(materials).elements  # an element that no model saw is not a candidate


def test_cells_are_sane(candidates, crystals):
    assert candidates["volume_per_atom"].between(4, 100).all()
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


def test_attrition_adds_up_for_salts_and_for_metals(attrition):
    metals = attrition["by_route"]["intermetallic"]
    for gates, kept in (
        (attrition["gates"], attrition["n_candidates"] - metals),
        (attrition["intermetallic_gates"], metals),
    ):
        lost = sum(n for gate, n in gates.items() if gate != "generated")
        assert gates["generated"] == lost + kept
    assert sum(attrition["by_route"].values()) == attrition["n_candidates"]
    assert attrition["parents"]["parents"] > 0


def test_same_settings_same_bytes_whatever_the_workers_and_buckets(
    proposed, materials, settings, own, tmp_path, monkeypatch
):
    monkeypatch.setattr(novelty, "BUCKET_ROWS", 90)
    propose(materials, settings, tmp_path / "again", own=own, workers=2)
    for name in ("candidates.parquet", "attrition.json"):
        assert (tmp_path / "again" / name).read_bytes() == (proposed / name).read_bytes()


def test_a_killed_run_goes_on_where_it_stopped(proposed, materials, settings, own, tmp_path, monkeypatch):
    monkeypatch.setattr(novelty, "BUCKET_ROWS", 90)
    judge, asked = novelty._judge_bucket, []

    def dies_in_the_third(pool, rows, *rest, **options):
        asked.append(len(rows))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return judge(pool, rows, *rest, **options)

    monkeypatch.setattr(novelty, "_judge_bucket", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        propose(materials, settings, tmp_path / "out", own=own, workers=1)
    assert not (tmp_path / "out").exists()
    n_before = len(asked)
    propose(materials, settings, tmp_path / "out", own=own, workers=1)
    assert asked[n_before] == asked[2]  # the first two buckets were not judged again
    assert (tmp_path / "out/candidates.parquet").read_bytes() == (proposed / "candidates.parquet").read_bytes()


def test_another_seed_proposes_others(candidates, materials, settings, own, tmp_path):
    propose(materials, settings.model_copy(update={"seed": 18}), tmp_path / "other", own=own, workers=1)
    other = pd.read_parquet(tmp_path / "other" / "candidates.parquet", columns=["candidate_id"])
    assert 0 < len(set(other["candidate_id"]) & set(candidates["candidate_id"])) < settings.n


def test_too_few_is_an_error_with_the_attrition_and_leaves_nothing(materials, settings, own, tmp_path):
    routes = settings.routes.model_copy(update={"prototype": 0.0})
    greedy = settings.model_copy(update={"n": 10**6, "routes": routes, "substitution_threshold": 0.05})
    with pytest.raises(InputError, match=r"only [\d,]+ of candidates.n = 1,000,000 .*not_charge_neutral"):
        propose(materials, greedy, tmp_path / "none", own=own, workers=1)
    assert not (tmp_path / "none").exists()


def test_user_files_pass_the_gates_or_are_told(materials, settings, sample_records, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    lattice = Lattice.cubic(4.9)
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    Structure(lattice, ["Rb", "Os", "Cl", "Cl", "Cl"], sites).to(str(folder / "mine.cif"))
    Structure(Lattice.cubic(3.1), ["Sc", "Os"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(folder / "alloy.cif"))
    Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]]).to(str(folder / "clash.vasp"), fmt="poscar")
    Structure(Lattice.cubic(9), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(folder / "gas.cif"))
    Structure(Lattice.cubic(3.0), ["Sr", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(folder / "radical.cif"))
    salt = next(r for r in sample_records if {"O"} < set(r.crystal.species) and r.formation_energy_per_atom < -2)
    salt.crystal.to_structure().to(str(folder / "known.cif"))
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a nonsense\n")
    propose(materials, settings, tmp_path / "out", own=folder, workers=1)
    table = pd.read_parquet(tmp_path / "out" / "candidates.parquet")
    mine = table[table["route"] == "user"].set_index("parent_id")
    assert mine["formula"].to_dict() == {"mine": "RbOsCl3", "alloy": "ScOs"}
    assert len(table) == settings.n + 2
    np.testing.assert_allclose(Crystal.from_row(mine.loc["mine"]).lattice, lattice.matrix, atol=1e-6)
    told = json.loads((tmp_path / "out" / "attrition.json").read_text())
    reasons = {row["material_id"]: row["reason"] for row in told["user_files_left_out"]}
    assert reasons == {
        "broken": "unreadable_structure",
        "clash": "atoms_too_close",
        "gas": "insane_volume",
        "radical": "not_charge_neutral",
        "known": "in_curated_set",
    }
    assert told["user_files"] == {"given": 7, **dict.fromkeys(reasons.values(), 1)}


@pytest.mark.parametrize("species", [["Rf", "O", "O"], ["Og", "Ts"], ["Rf", "Db"], ["He", "O"]])
def test_elements_without_a_known_ion_are_told_as_such(species):
    """No balance is claimed that was not tried."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    crystal = Crystal(np.diag([4.2, 4.2, 4.2]), tuple(species), np.array(places[: len(species)], dtype=float))
    gate, detail = _broken_gate(crystal.reduced_formula, make_template("x", crystal))
    assert gate == "not_charge_neutral"
    assert "no oxidation state of" in detail


def test_the_folder_of_the_user_must_exist(materials, settings, tmp_path):
    with pytest.raises(InputError, match="may be empty, but it must exist"):
        propose(materials, settings, tmp_path / "out", own=tmp_path / "nowhere", workers=1)


def test_a_missing_table_and_an_empty_one_are_said(settings, materials, own, tmp_path):
    with pytest.raises(InputError, match="dvc repro curate"):
        propose(tmp_path / "nowhere.parquet", settings, tmp_path / "out", own=own, workers=1)
    empty = pd.read_parquet(materials).iloc[:0]
    empty.to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="has no rows"):
        propose(tmp_path / "empty.parquet", settings, tmp_path / "out", own=own, workers=1)
