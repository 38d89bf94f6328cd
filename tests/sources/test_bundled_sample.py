"""The bundled sample: what it holds, that it is what it says, that every row of it parses."""

import json
import re

import numpy as np
import pytest
from pymatgen.core import Composition, Structure
from sample_rows import ROOT, SAMPLE, sample_pages, sample_records

from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot_files import read_manifest, read_page

DATABASES = ("materials_project", "aflow", "oqmd")


@pytest.mark.parametrize(("folders", "limit"), [(DATABASES, 2e6), (("potential",), 8e6), (("pretrained",), 8e6)])
def test_the_sample_stays_small(folders, limit):
    files = [path for folder in folders for path in (SAMPLE / folder).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < limit


@pytest.mark.parametrize("name", DATABASES)
def test_every_row_parses_and_ids_are_unique(name):
    items = sample_records(name)
    assert all(isinstance(item, Record) for item in items)
    assert len({item.material_id for item in items}) == len(items) == read_manifest(SAMPLE / name).n_rows


def test_the_counts_of_the_join_are_those_of_the_readme():
    records = sample_records("materials_project")
    labels = ("formation_energy_per_atom", "band_gap", "energy_above_hull", "bulk_modulus", "shear_modulus")
    counts = [sum(getattr(r, label) is not None for r in records) for label in labels]
    assert [len(records), *counts] == [6317, 6306, 6285, 3938, 1181, 1181]
    text = (SAMPLE / "README.md").read_text()
    assert all(f"{count:,}" in text for count in (6317, 6306, 6285, 3938, 1181))


def test_known_materials_have_their_published_values_and_energies_of_today():
    by_id = {record.material_id: record for record in sample_records("materials_project")}
    for material_id, formula, gap, energy, bulk in (
        ("mp-149", "Si", 0.612, 0.0, 83.0),
        ("mp-22862", "NaCl", 5.003, -2.115, 22.6),
        ("mp-1265", "MgO", 4.740, -3.057, 151.5),
        ("mp-2534", "GaAs", 0.189, -0.347, 60.7),
    ):
        record = by_id[material_id]
        assert record.crystal.reduced_formula == formula
        assert record.band_gap == pytest.approx(gap, abs=1e-3)
        assert record.formation_energy_per_atom == pytest.approx(energy, abs=1e-3)
        assert record.bulk_modulus == pytest.approx(bulk, abs=0.1)


def test_pages_are_summary_documents_that_pymatgen_reads():
    document = sample_pages("materials_project")[0]["data"][0]
    structure = Structure.from_dict(document["structure"])
    assert np.allclose(structure.lattice.matrix, document["structure"]["lattice"]["matrix"])


@pytest.mark.parametrize("name", ["aflow", "oqmd"])
def test_every_row_of_a_stand_in_says_that_it_is_synthetic(name):
    assert all(record.synthetic for record in sample_records(name))
    assert not any(record.synthetic for record in sample_records("materials_project"))


@pytest.mark.parametrize("name", ["aflow", "oqmd"])
def test_least_squares_on_the_twins_finds_the_planted_offsets(name):
    """Oracle: ordinary least squares of twin minus parent on atomic fractions of the planted elements."""
    planted = read_manifest(SAMPLE / name).planted
    parents = {record.material_id: record for record in sample_records("materials_project")}
    rows, differences = [], []
    for record, parent_id, is_twin in twins(name):
        if is_twin:
            fractions = Composition(record.crystal.reduced_formula).fractional_composition
            rows.append([1.0, *(fractions[element] for element in planted["elements"])])
            differences.append(record.formation_energy_per_atom - parents[parent_id].formation_energy_per_atom)
    rows, differences = np.array(rows), np.array(differences)
    found, *_ = np.linalg.lstsq(rows, differences, rcond=None)
    expected = np.array([planted["constant"], *planted["elements"].values()])
    error = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))) * planted["noise"]
    assert np.all(np.abs(found - expected) < 4 * error)
    assert np.std(differences - rows @ expected) == pytest.approx(planted["noise"], rel=0.2)


def twins(name):
    rows = [row for page in sample_pages(name) for row in (page if name == "aflow" else page["labels"]["data"])]
    for record, row in zip(sample_records(name), rows, strict=True):
        yield record, row["synthetic_parent"], row["synthetic_twin"]


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")  # of noble gases, says pymatgen
@pytest.mark.parametrize("name", ["aflow", "oqmd"])
def test_rows_without_a_twin_have_formulas_that_the_real_sample_lacks(name):
    real = {record.crystal.reduced_formula for record in sample_records("materials_project")}
    others = [record for record, _, is_twin in twins(name) if not is_twin]
    assert len(others) == 150
    assert not real & {record.crystal.reduced_formula for record in others}


def assert_same(found, expected):
    """Equal, but for the last digit written of a number: processors round a cell's products differently."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=2e-6)
    else:
        assert found == expected


def content_of(path):
    """What a file of a snapshot says; of a manifest without the hashes of its pages."""
    if path.suffix == ".gz":
        return read_page(path)
    content = json.loads(path.read_text())
    return content | {"pages": sorted(content["pages"])} if "pages" in content else content


@pytest.mark.slow
def test_the_stand_ins_are_rebuilt_from_their_recipe(tmp_path, monkeypatch):
    import importlib.util
    import shutil
    import warnings

    spec = importlib.util.spec_from_file_location("build_synthetic", SAMPLE / "build_synthetic.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "build_synthetic", module)
    spec.loader.exec_module(module)
    shutil.copytree(SAMPLE / "materials_project", tmp_path / "materials_project")
    monkeypatch.setattr(module, "HERE", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity, says pymatgen
        module.main()
    for name in ("aflow", "oqmd"):
        for path in sorted((SAMPLE / name).iterdir()):
            assert_same(content_of(tmp_path / name / path.name), content_of(path))


def test_no_registry_host_is_named():
    for script in SAMPLE.glob("*.py"):
        assert not re.search(r"https?://", script.read_text())
    assert (ROOT / "data" / "sample" / "README.md").exists()
