"""The hand-off loads again where it has to: pymatgen, OPTIMADE, Python."""

import ast
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from optimade.models import StructureResource
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar

from matscout.crystal import Crystal
from matscout.discovery.cif_files import folder_name
from matscout.discovery.handoff.candidate_records import Origins, warnings_of
from matscout.discovery.handoff.export import export_bundle, write_vasp_inputs
from matscout.errors import InputError


@pytest.fixture(scope="module")
def ranked(candidates, tmp_path_factory):
    """A ranking as `screen` writes it, with invented predictions."""
    table = candidates.head(12).copy()
    n = len(table)
    table["rank"] = np.arange(1, n + 1)
    for target in ("band_gap", "formation_energy_per_atom", "energy_above_hull"):
        table[target] = np.linspace(0, 1, n)
        table[f"{target}__cgcnn"] = np.linspace(0, 1.1, n)
    table["goal_probability"] = np.linspace(1, 0, n)
    path = tmp_path_factory.mktemp("screening") / "ranked.parquet"
    table.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def bundle(ranked, materials, tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    (root / "members" / "cgcnn").mkdir(parents=True)
    (root / "members" / "cgcnn" / "member.json").write_text(json.dumps({"weights_sha256": "ab12"}))
    origins = Origins(root / "members", root / "ensemble", materials, root / "raw")
    export_bundle(ranked, root / "out", top=5, origins=origins)
    return root / "out"


@pytest.fixture(scope="module")
def folders(bundle):
    return sorted(path for path in bundle.iterdir() if path.is_dir())


def test_an_export_replaces_only_an_untouched_export(ranked, tmp_path):
    """What somebody computed in a hand-off, and any folder that is none, stays as it is."""
    export_bundle(ranked, tmp_path / "out", top=2)
    export_bundle(ranked, tmp_path / "out", top=1)
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    (folder / "OUTCAR").write_text("three weeks of computing")
    with pytest.raises(InputError, match="OUTCAR; choose another folder"):
        export_bundle(ranked, tmp_path / "out", top=1)
    (folder / "OUTCAR").unlink()
    (folder / "INCAR").write_text("ENCUT = 700")
    with pytest.raises(InputError, match="INCAR; choose another folder"):
        export_bundle(ranked, tmp_path / "out", top=1)
    assert (folder / "INCAR").read_text() == "ENCUT = 700"


def test_an_export_leaves_the_working_directory_its_ranking_and_other_folders(ranked, tmp_path, monkeypatch):
    own = tmp_path / "here" / "g.parquet"
    own.parent.mkdir()
    own.write_bytes(ranked.read_bytes())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("chapter one")
    monkeypatch.chdir(own.parent)
    for place in (".", "..", "../docs", "g.parquet", str(tmp_path)):
        with pytest.raises(InputError, match="give a folder that is absent or empty"):
            export_bundle(own, place, top=1)
    assert own.read_bytes() == ranked.read_bytes()
    assert (tmp_path / "docs" / "thesis.tex").read_text() == "chapter one"


def expected(candidates, folder):
    identity = json.loads((folder / "card.json").read_text())["candidate"]["candidate_id"]
    row = candidates[candidates["candidate_id"] == identity].iloc[0]
    return Crystal.from_row(row).to_structure()


def test_cif_and_poscar_hold_the_candidate(candidates, folders):
    assert len(folders) == 5
    for folder in folders:
        structure = expected(candidates, folder)
        poscar = Poscar.from_file(folder / "POSCAR").structure
        assert poscar.composition == structure.composition
        np.testing.assert_allclose(sorted(poscar.lattice.abc), sorted(structure.lattice.abc), atol=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pymatgen tells of the coordinates that it rounds
            cif = Structure.from_file(folder / "candidate.cif")
        assert cif.composition.reduced_formula == structure.composition.reduced_formula
        assert cif.volume / len(cif) == pytest.approx(structure.volume / len(structure), rel=1e-3)


def test_vasp_inputs_load_again_and_name_every_potential(folders):
    for folder in folders:
        incar = Incar.from_file(folder / "INCAR")
        assert incar["ENCUT"] == 520
        assert incar["ISIF"] == 3
        assert np.prod(Kpoints.from_file(folder / "KPOINTS").kpts[0]) >= 1
        symbols = Poscar.from_file(folder / "POSCAR").site_symbols
        potentials = (folder / "POTCAR.spec").read_text().split()
        assert [name.split("_")[0] for name in potentials] == symbols


@pytest.mark.parametrize(("symbols", "expected"), [(["Yb", "O"], "Yb_3 O"), (["Ca", "O"], "Ca_sv O")])
def test_ytterbium_is_computed_with_the_potential_of_today(tmp_path, symbols, expected):
    structure = Structure(Lattice.cubic(4.8), symbols, [[0, 0, 0], [0.5, 0.5, 0.5]])
    write_vasp_inputs(structure, tmp_path)
    assert (tmp_path / "POTCAR.spec").read_text().split() == expected.split()


def test_optimade_entries_are_valid(bundle, candidates):
    header, *lines = (bundle / "candidates.jsonl").read_text().splitlines()
    assert json.loads(header)["x-optimade"]["meta"]["api_version"].startswith("1.")
    for line, row in zip(lines, candidates.to_dict("records"), strict=False):
        entry = StructureResource.model_validate(json.loads(line))
        assert entry.id == row["candidate_id"]
        assert entry.attributes.nsites == row["n_atoms"]
        np.testing.assert_allclose(entry.attributes.lattice_vectors, np.reshape(row["lattice"], (3, 3)))


def test_the_workflow_script_is_python_and_finds_its_folders(bundle, folders):
    tree = ast.parse((bundle / "relax_with_atomate2.py").read_text())
    names = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert {folder.name for folder in folders} <= set(names)


def test_cards_say_where_everything_comes_from(folders, candidates):
    for folder in folders:
        card = json.loads((folder / "card.json").read_text())
        row = candidates[candidates["candidate_id"] == card["candidate"]["candidate_id"]].iloc[0]
        assert card["parent"]["id"] == row["parent_id"]
        is_known = not row["parent_id"].startswith("aflow-prototype")
        assert card["parent"]["source"] == ("materials_project" if is_known else "")
        assert set(card["members"]) == {"cgcnn"}
        assert card["weights_sha256"] == {"cgcnn": "ab12"}
        assert len(card["files_sha256"]["ranked"]) == 64
        assert card["units"]["band_gap"] == "eV"


def test_the_table_has_one_row_a_candidate_and_no_arrays(bundle):
    table = pd.read_csv(bundle / "candidates.csv")
    assert len(table) == 5
    assert not {"lattice", "species", "frac_coords"} & set(table.columns)


def test_a_card_begins_with_what_matters(folders):
    card = json.loads((folders[0] / "card.json").read_text())
    assert list(card)[:7] == [
        *("formula", "goal", "stability_judged", "stability_remark", "missing_references", "date", "warnings"),
    ]
    assert folders[0].name == f"0001_{card['formula']}" or "(" in card["formula"]


def test_magnetic_order_is_warned_of():
    assert "MagneticStructureEnumerator" in warnings_of(["Ni", "O"])[0]
    assert warnings_of(["Na", "Cl"]) == warnings_of(["Ni", "Al"]) == []


def test_folders_are_named_by_rank_and_formula():
    row = {"candidate_id": "ms-2f59651b072a", "rank": 1, "species": ["Se"] * 4 + ["Cu", "Y", "Rb", "Y"]}
    assert folder_name(row) == "0001_RbY2CuSe4"
    phosphate = {"candidate_id": "ms-1", "rank": 12, "species": ["Ca"] * 3 + ["P"] * 2 + ["O"] * 8}
    assert folder_name(phosphate) == "0012_Ca3P2O8"


def test_the_diverse_batch_is_exported_in_its_order(ranked, tmp_path):
    table = pd.read_parquet(ranked)
    with pytest.raises(InputError, match="holds no batch"):
        export_bundle(ranked, tmp_path / "out", batch=True)
    table["batch"] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]
    table.to_parquet(tmp_path / "ranked.parquet")
    rows = export_bundle(tmp_path / "ranked.parquet", tmp_path / "out", batch=True, top=2)
    assert rows["candidate_id"].tolist() == table["candidate_id"].iloc[[3, 4]].tolist()


def test_a_ranking_older_than_the_parameters_is_not_exported(ranked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data" / "screening" / "ranked.parquet"
    place.parent.mkdir(parents=True)
    place.write_bytes(ranked.read_bytes())
    (tmp_path / "params.yaml").write_text("screening: {goal: battery}\ncompute: {device: cpu}\n")
    lock = {
        "stages": {"screen": {"params": {"params.yaml": {"screening": {"goal": "battery"}, "compute.device": "cpu"}}}}
    }
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))
    assert len(export_bundle(place, tmp_path / "out", top=1)) == 1
    (tmp_path / "params.yaml").write_text("screening: {goal: catalyst}\ncompute: {device: cpu}\n")
    with pytest.raises(InputError, match=r"is older than params.yaml: screening changed .* run `dvc repro`"):
        export_bundle(place, tmp_path / "out", top=1)


def test_named_candidates_come_in_the_order_asked_for(ranked, tmp_path):
    ids = pd.read_parquet(ranked)["candidate_id"].tolist()
    assert export_bundle(ranked, tmp_path / "out", ids=[ids[7], ids[2]])["candidate_id"].tolist() == [ids[7], ids[2]]


@pytest.mark.parametrize(
    ("arguments", "words"), [({"ids": ["ms-nothing"]}, "holds no candidate"), ({"top": 0}, "leaves nothing")]
)
def test_nothing_to_export_is_said(ranked, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        export_bundle(ranked, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_relaxed_cell_is_handed_on_with_the_proposed_one_beside_it(ranked, tmp_path):
    table = pd.read_parquet(ranked).head(3)
    table.to_parquet(tmp_path / "ranked.parquet")
    crystal = ["lattice", "species", "frac_coords"]
    relaxed = table[["candidate_id", *crystal]].join(table[crystal].add_suffix("_before"))
    relaxed = relaxed.assign(
        lattice=relaxed["lattice"].map(lambda lattice: np.asarray(lattice) * 1.1),
        rank=pd.array([2, 1, None], dtype="Int64"),
        potential_energy_after=-3.0,
    )
    (tmp_path / "relaxed").mkdir()
    relaxed.to_parquet(tmp_path / "relaxed" / "relaxed.parquet")
    rows = export_bundle(tmp_path / "ranked.parquet", tmp_path / "out", relaxed=tmp_path / "relaxed", top=3)
    assert rows["candidate_id"].tolist() == table["candidate_id"].tolist()[1::-1], "the third has left the shortlist"
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pymatgen tells of the coordinates that it rounds
        before, after = (Structure.from_file(folders[0] / name) for name in ("unrelaxed.cif", "candidate.cif"))
    assert after.volume / len(after) == pytest.approx(1.1**3 * before.volume / len(before), rel=1e-3)


def test_same_ranking_same_bytes(ranked, bundle, materials, tmp_path):
    origins = Origins(bundle.parent / "members", bundle.parent / "ensemble", materials, bundle.parent / "raw")
    export_bundle(ranked, tmp_path / "again", top=5, origins=origins)
    for path in bundle.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(bundle)).read_bytes() == path.read_bytes()
