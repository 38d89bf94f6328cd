"""Finished calculations come back: read in every form that VASP and atomate2 leave, compared, or rejected."""

import gzip
import json
from pathlib import Path

import ase
import numpy as np
import pandas as pd
import pytest
from fake_vasp import (
    settings_of,
    structure_entry,
    task_document,
    total_energy,
    write_json,
    write_outcar,
    write_vasprun,
)
from pymatgen.core import Composition, Lattice, Structure

from matscout.discovery.handoff.calculations import functional_of, read_calculations
from matscout.discovery.handoff.check_feedback import check_feedback
from matscout.discovery.handoff.collect import _with_potentials, collect, shipped_elements
from matscout.discovery.handoff.export import export_bundle
from matscout.sources.energy_corrections import TABLES, correction_per_atom
from matscout.sources.feedback_files import read_results
from matscout.sources.record import Record, RowError
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).parents[3]

N = 6


@pytest.fixture(scope="module")
def ranked(candidates, tmp_path_factory):
    has_reference = ~candidates["species"].map(lambda species: "Yb" in species)  # Yb_3: see below
    table = candidates.loc[has_reference].drop_duplicates("formula").head(N).copy()
    table["rank"] = np.arange(1, N + 1)
    for target, value in (("band_gap", 1.4), ("formation_energy_per_atom", -1.0)):
        table[target], table[f"{target}_std"] = value, 0.1
        table[f"{target}_lo90"], table[f"{target}_hi90"] = value - 0.2, value + 0.2
    table["energy_above_hull"], table["goal_probability"] = 0.0, 0.5
    path = tmp_path_factory.mktemp("screening") / "ranked.parquet"
    table.to_parquet(path)
    return path


@pytest.fixture
def handoff(ranked, tmp_path):
    export_bundle(ranked, tmp_path / "handoff", top=N)
    (tmp_path / "feedback").mkdir()
    return tmp_path / "handoff"


@pytest.fixture
def folders(handoff):
    return sorted(path for path in handoff.iterdir() if path.is_dir())


def run(folder, formation=-1.0, **changes):
    incar, labels, structure = settings_of(folder)
    incar.update(changes.pop("incar", {}))
    labels = changes.pop("labels", labels)
    name = changes.pop("name", "vasprun.xml")
    energy = changes.pop("energy", total_energy(structure, formation))
    write_vasprun(folder / name, structure, energy, incar, labels, **changes)
    return structure


def candidate_of(folder):
    return json.loads((folder / "card.json").read_text())["candidate"]["candidate_id"]


def test_every_form_gives_the_same_result(handoff, folders, tmp_path):
    for place, folder in enumerate(folders):
        incar, labels, structure = settings_of(folder)
        structure = structure.copy().scale_lattice(structure.volume * 1.02) or structure
        energy = total_energy(structure, -1.0 - place / 100)
        if place == 0:
            write_vasprun(folder / "vasprun.xml", structure, energy, incar, labels)
        elif place == 1:
            write_vasprun(folder / "vasprun.xml.gz", structure, energy, incar, labels)
        elif place == 2:
            write_outcar(folder, structure, energy, incar, labels)
        elif place == 3:
            write_json(folder / "task.json.gz", task_document(structure, energy, incar, labels))
        elif place == 4:
            metadata = {"matscout_id": candidate_of(folder)}
            document = task_document(structure, energy, incar, labels)
            write_json(handoff / "outputs.json", [{"uuid": "1", "output": document, "metadata": metadata}])
        else:
            write_json(folder / "entry.json", structure_entry(structure, energy, incar, labels))
    found = collect(handoff, tmp_path / "feedback")
    assert not found.rejections
    assert not found.waiting
    by_id = {row["material_id"]: row for row in found.rows}
    for place, folder in enumerate(folders):
        row = by_id[candidate_of(folder)]
        assert row["formation_energy_per_atom"] == pytest.approx(-1.0 - place / 100, abs=2e-5), folder
        assert row["functional"] == "PBE"
        assert row["energy_corrections"] == "mp2020"
        assert row.get("band_gap") == (None if place == 2 else pytest.approx(1.5))
    records = list(read_results(found.file))
    assert len(records) == N
    assert all(isinstance(record, Record) for record in records)


def test_what_was_collected_passes_the_check_and_is_collected_once(handoff, folders, ranked, tmp_path):
    run(folders[0])
    collect(handoff, tmp_path / "feedback")
    table, rejections = check_feedback(tmp_path / "feedback", ranked)
    assert not rejections
    assert table["error"].tolist() == pytest.approx([0.0, 0.1], abs=1e-4)
    run(folders[1])
    found = collect(handoff, tmp_path / "feedback")
    assert [row["material_id"] for row in found.rows] == [candidate_of(folders[1])]
    assert found.file.name == "handoff-2.jsonl"  # the checked file stays as it was
    assert [rejection.reason for rejection in found.rejections] == ["already_there"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_scf": 100}, "not_converged"),
        ({"nsw": 3, "steps": 3}, "not_converged"),
        ({"labels": ["X_sv", "Y"]}, "other_potentials"),
        ({"incar": {"ENCUT": 300}}, "lower_cutoff"),
        ({"incar": {"METAGGA": "R2SCAN"}}, None),
        ({"energy": 1000.0}, "implausible"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_reason(handoff, folders, tmp_path, change, reason):
    if "labels" in change:
        _, labels, _ = settings_of(folders[0])
        change = {"labels": [f"{labels[0]}_x", *labels[1:]]}
    run(folders[0], **change)
    run(folders[1])
    found = collect(handoff, tmp_path / "feedback")
    if reason is None:  # another functional without elements of its own: the gap alone
        row = next(row for row in found.rows if row["material_id"] == candidate_of(folders[0]))
        assert row["functional"] == "r2SCAN"
        assert "formation_energy_per_atom" not in row
        return
    assert [(rejection.reason, rejection.file) for rejection in found.rejections] == [
        (reason, f"{folders[0].name}/vasprun.xml")
    ]
    assert candidate_of(folders[0]) in found.waiting


def test_another_hubbard_u_is_rejected(tmp_path, ranked):
    """NiO calculated without the U of its hand-off would lie on another scale."""
    table = pd.read_parquet(ranked).head(1)
    for name, value in (("species", ["Ni", "O"]), ("frac_coords", [0.0, 0, 0, 0.5, 0.5, 0.5]), ("formula", "NiO")):
        table[name] = [value]
    table["lattice"] = [list((np.ones((3, 3)) - np.eye(3)).ravel() * 2.09)]
    table.to_parquet(tmp_path / "ranked.parquet")
    export_bundle(tmp_path / "ranked.parquet", tmp_path / "handoff", top=1)
    (tmp_path / "feedback").mkdir()
    (folder,) = (path for path in (tmp_path / "handoff").iterdir() if path.is_dir())
    incar, labels, structure = settings_of(folder)
    assert dict(zip(structure.symbol_set, incar["LDAUU"], strict=True)) == {"Ni": 6.2, "O": 0}
    energy = total_energy(structure, -1.2)
    write_vasprun(folder / "vasprun.xml", structure, energy, {"ENCUT": 520, "LDAU": False}, labels)
    found = collect(tmp_path / "handoff", tmp_path / "feedback")
    assert [rejection.reason for rejection in found.rejections] == ["other_hubbard"]
    write_vasprun(folder / "vasprun.xml", structure, energy, incar, labels)
    (row,) = collect(tmp_path / "handoff", tmp_path / "feedback").rows
    assert row["hubbards"] == {"Ni": 6.2}
    assert row["formation_energy_per_atom"] == pytest.approx(-1.2, abs=1e-5)


def test_own_elements_of_another_functional_make_its_formation_energy(handoff, folders, tmp_path):
    structure = run(folders[0], incar={"METAGGA": "R2SCAN"}, energy=-40.0)
    for element, n in structure.composition.items():
        place = handoff / "elements" / element.symbol
        place.mkdir(parents=True)
        cell = Structure(Lattice.cubic(3), [element.symbol] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])
        write_vasprun(place / "vasprun.xml", cell, -2.0, {"METAGGA": "R2SCAN"}, [element.symbol])
        assert n > 0
    (row,) = collect(handoff, tmp_path / "feedback").rows
    assert row["formation_energy_per_atom"] == pytest.approx(-40.0 / len(structure) + 1.0)
    assert row["energy_corrections"] == "none"
    assert row["elements"] == "own elements (r2SCAN)"


def test_an_element_s_energy_with_another_potential_is_no_reference():
    """The shipped energy of ytterbium is that of Yb_2; a compound with Yb_3 needs a run of the element with it."""
    with_two = _with_potentials(["Yb_2", "O"])
    assert set(with_two) - set(_with_potentials(["Yb_3", "O"])) == {"Yb"}
    assert with_two["O"] == shipped_elements()["O"]


def test_of_several_runs_the_static_one_counts_and_an_unconverged_one_never(handoff, folders, tmp_path):
    for name in ("relax1", "relax2", "static"):
        (folders[0] / name).mkdir()
    run(folders[0], -1.5, name="relax1/vasprun.xml", nsw=9, steps=9)
    run(folders[0], -1.3, name="relax2/vasprun.xml", nsw=9, steps=2)
    run(folders[0], -1.2, name="static/vasprun.xml")
    found = collect(handoff, tmp_path / "feedback")
    assert found.rows[0]["formation_energy_per_atom"] == pytest.approx(-1.2, abs=1e-5)
    assert found.rows[0]["file"].endswith("static/vasprun.xml")
    assert {rejection.reason for rejection in found.rejections} == {"not_converged", "superseded"}


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz", "OUTCAR", "task.json", "entry.json.gz"])
def test_a_file_that_was_cut_off_is_rejected(handoff, folders, tmp_path, name):
    incar, labels, structure = settings_of(folders[0])
    path = folders[0] / name
    if name.startswith("vasprun"):
        write_vasprun(path, structure, -9.0, incar, labels)
    elif name == "OUTCAR":
        write_outcar(folders[0], structure, -9.0, incar, labels)
    else:
        write_json(path, task_document(structure, -9.0, incar, labels))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RowError, match=r"cut_off|unreadable"):
        list(read_calculations(path))
    (told,) = collect(handoff, tmp_path / "feedback").rejections
    assert told.file == f"{folders[0].name}/{name}"


def test_published_energies_give_published_formation_energies():
    """Oracle: total energies of the Materials Project's compounds, against formation energies in the sample."""
    with gzip.open(TABLES / "calc_compounds.json.gz") as stream:
        compounds = json.load(stream)
    published = {record.material_id: record for record in read_snapshot(ROOT / "data/sample/materials_project")}
    errors = []
    for formula, entry in compounds.items():
        record = published.get(entry["entry_id"])
        if len(Composition(formula)) == 1 or record is None or record.formation_energy_per_atom is None:
            continue
        counts = entry["composition"]
        bare = entry["energy"] - sum(n * shipped_elements()[symbol] for symbol, n in counts.items())
        structure = record.crystal.to_structure()
        energy = bare / sum(counts.values()) + correction_per_atom(structure, "mp2020")
        published_as = record.formation_energy_per_atom - correction_per_atom(structure, record.energy_corrections)
        errors.append(abs(energy - published_as - correction_per_atom(structure, "mp2020")))
    assert len(errors) > 100
    assert np.median(errors) < 0.006  # eV/atom
    assert np.quantile(errors, 0.9) < 0.025


def test_a_genuine_file_is_read():
    """Of ASE's own tests, written by VASP."""
    folder = Path(ase.__file__).parent / "test" / "testdata" / "vasp"
    if not folder.is_dir():
        pytest.skip("this ASE comes without the files of its tests")
    (found,) = read_calculations(folder / "vasprun_dfpt.xml")
    assert found.structure.composition.reduced_formula == "NaCl"
    assert found.energy == pytest.approx(-6.74587304)
    assert found.potentials == ("Na", "Cl")
    assert found.functional == "PBE"
    assert found.band_gap == pytest.approx(5.4988, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "PBE"),
        ({"GGA": "PE"}, "PBE"),
        ({"GGA": "PS"}, "PBEsol"),
        ({"METAGGA": "R2SCAN"}, "r2SCAN"),
        ({"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.25}, "HSE06"),
        ({"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.4}, "hybrid"),
        ({"IVDW": 12}, "PBE+D12"),
    ],
)
def test_functionals_have_their_names(settings, name):
    assert functional_of(settings) == name
