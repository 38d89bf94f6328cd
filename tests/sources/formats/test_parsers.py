"""Native rows of each service to records, and what becomes of broken ones."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import sample_pages

from matscout.crystal_checks import Rejection
from matscout.sources.record import Record
from matscout.sources.services import aflow, materials_project, oqmd
from matscout.sources.services.page_formats import FORMATS, parse_page

NAN = float("nan")


def page_of(name, n_rows=2):
    page = copy.deepcopy(sample_pages(name)[0])
    if name == "materials_project":
        return {"data": page["data"][:n_rows]}
    if name == "aflow":
        return page[:n_rows]
    return {key: {"data": page[key]["data"][:n_rows]} for key in ("labels", "structures")}


def first(name, page):
    shape = FORMATS[{"materials_project": materials_project, "aflow": aflow, "oqmd": oqmd}[name].FORMAT]
    return next(iter(parse_page(page, shape, source=name, file="p")))


def set_in(page, path, value):
    for key in path[:-1]:
        page = page[key]
    page[path[-1]] = value


MP, AFLOW = ("data", 0), (0,)
LABEL, CELL = ("labels", "data", 0), ("structures", "data", 0, "attributes")


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        ("materials_project", (*MP, "structure", "sites", 0, "species", 0, "element"), "Xx", "unknown_element"),
        ("materials_project", (*MP, "structure", "sites", 0, "species", 0, "occu"), 0.5, "disordered"),
        ("materials_project", (*MP, "structure", "sites", 0, "abc"), [NAN, 0, 0], "coordinates_not_finite"),
        ("materials_project", (*MP, "structure", "sites", 0, "abc"), [0, 0], "coordinates_malformed"),
        ("materials_project", (*MP, "structure", "sites"), [], "no_atoms"),
        (
            "materials_project",
            (*MP, "structure", "lattice", "matrix"),
            [[1, 0, 0], [2, 0, 0], [0, 0, 1]],
            "zero_volume",
        ),
        ("materials_project", (*MP, "structure", "lattice", "matrix"), None, "lattice_missing"),
        ("materials_project", (*MP, "structure"), None, "missing_field"),
        ("materials_project", (*MP, "structure"), {"@class": "Structure"}, "structure_malformed"),
        ("materials_project", (*MP, "material_id"), None, "missing_field"),
        ("materials_project", (*MP, "band_gap"), "wide", "not_a_number"),
        ("materials_project", (*MP, "bulk_modulus"), 12.0, "not_a_number"),
        ("materials_project", MP, "a row that is text", "invalid_row"),
        ("aflow", (*AFLOW, "composition"), [99], "count_mismatch"),
        ("aflow", (*AFLOW, "composition"), [1.5], "not_a_number"),
        ("aflow", (*AFLOW, "positions_fractional"), None, "missing_field"),
        ("aflow", (*AFLOW, "positions_fractional"), [[0, 0]], "coordinates_malformed"),
        ("aflow", (*AFLOW, "geometry"), [1, 2, 3], "lattice_malformed"),
        ("aflow", (*AFLOW, "geometry"), [3, 3, 0, 90, 90, 90], "zero_volume"),
        ("aflow", (*AFLOW, "dft_type"), ["PAW_LDA"], "other_functional"),
        ("oqmd", (*LABEL, "natoms"), 99, "count_mismatch"),
        ("oqmd", (*LABEL, "volume"), 1.0, "cell_mismatch"),
        ("oqmd", (*LABEL, "formationenergy_id"), 1, "structure_missing"),
        ("oqmd", (*CELL, "species_at_sites"), ["Xx"], "unknown_element"),
        ("oqmd", (*CELL, "cartesian_site_positions"), None, "coordinates_missing"),
        ("oqmd", (*CELL, "lattice_vectors"), [[0, 0, 0]] * 3, "zero_volume"),
    ],
)
def test_a_broken_row_is_rejected_with_its_reason_and_the_next_one_passes(name, path, value, reason):
    page = page_of(name)
    set_in(page, path, value)
    shape = FORMATS[{"materials_project": materials_project, "aflow": aflow, "oqmd": oqmd}[name].FORMAT]
    broken, whole = parse_page(page, shape, source=name, file="pages-00000.json.gz")
    assert isinstance(broken, Rejection)
    assert (broken.reason, broken.file, broken.row, broken.source) == (reason, "pages-00000.json.gz", 0, name)
    assert broken.detail
    assert isinstance(whole, Record)


def rows_within(name, page):
    """The objects of a page whose fields a service might fill with anything."""
    if name == "aflow":
        return [page[0]]
    if name == "materials_project":
        return [page["data"][0], page["data"][0]["structure"], page["data"][0]["structure"]["sites"][0]]
    return [page["labels"]["data"][0], page["structures"]["data"][0]["attributes"]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_whatever_stands_in_one_field_no_parser_raises(data):
    name = data.draw(st.sampled_from(["materials_project", "aflow", "oqmd"]))
    page = page_of(name)
    row = data.draw(st.sampled_from(rows_within(name, page)))
    key = data.draw(st.sampled_from(sorted(row)))
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
    row[key] = data.draw(anything)
    assert isinstance(first(name, page), Record | Rejection)


def test_labels_that_are_text_are_read_and_nan_is_kept_for_curation():
    page = page_of("materials_project")
    page["data"][0] |= {"band_gap": "1.25", "formation_energy_per_atom": NAN, "energy_above_hull": None}
    record = first("materials_project", page)
    assert record.band_gap == 1.25
    assert math.isnan(record.formation_energy_per_atom)
    assert record.energy_above_hull is None


def test_thermo_documents_replace_the_energies_of_the_summary():
    page = page_of("materials_project")
    ids = [document["material_id"] for document in page["data"]]
    for document in page["data"]:
        document |= {"energy_above_hull": 9.0, "formation_energy_per_atom": 9.0}
    page["thermo"] = [
        {"material_id": ids[0], "energy_above_hull": 0.1, "formation_energy_per_atom": -1.0, "energy_type": "GGA+U"}
    ]
    shape = FORMATS[materials_project.FORMAT]
    with_thermo, without = parse_page(page, shape, source="materials_project", file="p")
    assert (with_thermo.energy_above_hull, with_thermo.formation_energy_per_atom) == (0.1, -1.0)
    assert with_thermo.is_hubbard
    assert without.energy_above_hull is None
    assert without.formation_energy_per_atom is None


@pytest.mark.parametrize(
    ("written", "meant"), [("mp-149", "mp-149"), ("mp-aaaaaaft", "mp-149"), ("mvc-12", "mvc-12"), ("mp-ft", "mp-149")]
)
def test_both_spellings_of_a_materials_project_id_are_one(written, meant):
    assert materials_project.normalise_id(written) == meant


def as_of_2018(rows):
    """The AFLUX answer of 2017 to 2020: keyed by number, all values text."""

    def text(value):
        if isinstance(value, list):
            nested = value and isinstance(value[0], list)
            return ";".join(",".join(map(str, v)) for v in value) if nested else ",".join(map(str, value))
        return None if value is None else str(value)

    return {
        f"{n} of {len(rows)}": {key: value if key == "synthetic" else text(value) for key, value in row.items()}
        for n, row in enumerate(rows, 1)
    }


def test_both_shapes_of_an_aflux_answer_give_the_same_records():
    rows = page_of("aflow", n_rows=12)
    shape = FORMATS[aflow.FORMAT]
    today = list(parse_page(rows, shape, source="aflow", file="p"))
    before = list(parse_page(json.loads(json.dumps(as_of_2018(rows))), shape, source="aflow", file="p"))
    assert [str(record) for record in before] == [str(record) for record in today]


def test_aflow_writes_a_negative_gap_for_none_and_dates_as_text_or_list():
    page = page_of("aflow")
    page[0] |= {"Egap": -1.0, "aflowlib_date": ["20161203_10:00:00_GMT-5", "x"]}
    record = first("aflow", page)
    assert record.band_gap is None
    assert record.year == 2016


def test_oqmd_labels_join_their_cells_by_formationenergy_id_in_any_order():
    page = page_of("oqmd", n_rows=5)
    shape = FORMATS[oqmd.FORMAT]
    expected = [str(item) for item in parse_page(page, shape, source="oqmd", file="p")]
    page["structures"]["data"].reverse()
    assert [str(item) for item in parse_page(page, shape, source="oqmd", file="p")] == expected
