"""One text is one crystal, or one refusal, at every door; and never another crystal than the file itself says."""

import gzip
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser
from sample_rows import database, sample_records
from written_files import CELL, FILES, JARVIS, OPTIMADE, PYMATGEN, SITES, cif, content_of, poscar, said, write_all

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.params import FileImport
from matscout.sources.acquire import acquire
from matscout.sources.files.file_rows import is_gzip
from matscout.sources.files.import_file import import_file
from matscout.sources.files.named_structures import read_structures, read_text
from matscout.sources.formats.cif import settings_of
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

PLAIN = FileImport(format="auto", columns={}, units={}, functional="PBE")


def read_as(item):
    return dict(sorted(item.crystal.element_counts.items())) if isinstance(item, Record) else item.reason


def expected(name):
    found = FILES[name][1]
    return dict(sorted(found.items())) if isinstance(found, dict) else found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("files")
    write_all(home)
    return home


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_what_it_says_or_refused_with_the_reason(folder, name):
    (item,) = read_structures([folder / name])
    assert read_as(item) == expected(name), getattr(item, "detail", "")
    assert item.file.endswith(name)


def test_every_door_reads_the_same(folder, tmp_path, monkeypatch):
    """Files one by one, their folder, an import of each, the stage `acquire`, and posted texts."""
    monkeypatch.setattr("matscout.sources.acquire._labelled", lambda items, *_: items)  # none of these has a label
    assert len(FILES) >= 50
    told = {item.file: read_as(item) for item in read_structures([folder])}
    assert told == {str(folder / name): expected(name) for name in FILES}
    imported = {item.file: read_as(item) for item in import_file(folder, PLAIN, "lab")}
    assert {Path(file).name: found for file, found in imported.items()} == {name: expected(name) for name in FILES}
    acquire("lab", database("aflow", origin="file", path=str(folder)), tmp_path / "snapshot")
    stored = {item.file: read_as(item) for item in read_snapshot(tmp_path / "snapshot")}
    assert stored == imported
    for name in FILES:
        content = content_of(name)
        posted = gzip.decompress(content) if is_gzip(folder / name) else content
        assert read_as(read_text(posted, name)) == expected(name), name


def test_names_tell_files_apart(tmp_path):
    places = ["POSCAR.GaAs", "POSCAR.SiO2", "a/CONTCAR", "b/CONTCAR", "c/CONTCAR", "one.cif", "one.vasp", "d/one.cif"]
    for place in places:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        text = cif("Cs 0 0 0\nCl .5 .5 .5\n", head=said(group="P 1")) if place.endswith("cif") else poscar()
        (tmp_path / place).write_text(text)
    below = {item.file: item.material_id for item in read_structures([tmp_path])}
    expected = ["POSCAR.GaAs", "POSCAR.SiO2", "a/CONTCAR", "b/CONTCAR", "c/CONTCAR", "one.cif", "one.vasp", "d/one"]
    assert [below[str(tmp_path / place)] for place in places] == expected
    given = [item.material_id for item in read_structures([tmp_path / place for place in places])]
    assert len(set(given)) == len(places)
    assert given[:5] == expected[:5]


def test_the_same_file_twice_is_told(tmp_path):
    (tmp_path / "POSCAR").write_text(poscar())
    first, second, third = read_structures([tmp_path / "POSCAR"] * 3)
    assert first.material_id == f"{tmp_path.name}/POSCAR"
    assert second.reason == third.reason == "duplicate_id"


def test_a_file_name_that_is_no_text_is_read(tmp_path):
    name = b"caf\xe9.vasp".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_text(poscar())
    (item,) = read_structures([tmp_path])
    assert item.material_id.encode()  # can be stored
    assert read_as(item) == {"Cl": 1, "Cs": 1}


@pytest.mark.parametrize("seed", range(3))
def test_cif_agrees_with_pymatgen_on_what_pymatgen_writes(seed):
    """The library's own files, with full symmetry and without, give the crystal that the library reads."""
    chosen = [r for r in sample_records("materials_project") if r.crystal.n_atoms <= 30][seed::600]
    for record in chosen:
        structure = record.crystal.to_structure()
        for symprec in (None, 0.01):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                text = structure.to(fmt="cif", symprec=symprec)
                theirs = CifParser(io.StringIO(text)).parse_structures(primitive=False)[0]
            ours = read_text(text, "x")
            assert isinstance(ours, Record), (record.material_id, ours)
            assert ours.crystal.element_counts == {s: int(n) for s, n in theirs.composition.get_el_amt_dict().items()}
            near = Structure(theirs.lattice, ours.crystal.species, ours.crystal.frac_coords)
            for site in theirs:
                distances = near.lattice.get_all_distances(site.frac_coords, near.frac_coords)[0]
                assert near[int(distances.argmin())].specie.symbol == site.specie.symbol
                assert distances.min() < 0.02


PUBLISHED = sorted(Path(sys.prefix).glob("lib/python3*/site-packages/ase/test/testdata/minerals/*.cif"))


@pytest.mark.skipif(not PUBLISHED, reason="this ASE came without its test files")
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_minerals_of_the_open_database_are_read_as_their_formula_says(path):
    (item,) = read_structures([path])
    assert isinstance(item, Record), item
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CifParser(path).parse_structures(primitive=False)[0]
    assert item.crystal.reduced_formula == theirs.composition.reduced_formula
    assert item.crystal.n_atoms == len(theirs)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("F d -3 m :2", ("2",)), ("Fd-3m", ("1", "2")), ("R -3 m :H", ("H",)), ("R-3m", ("H", "R")),
        ("P 21/n", ("b2",)), ("P 1 21/c 1", ("b1",)), ("P m 3 m", ("",)), ("C m c a", ("",)), ("I a 3 d", ("",)),
    ],
)  # fmt: skip
def test_names_of_space_groups_mean_their_settings(name, settings):
    import moyopy

    found = [moyopy.HallSymbolEntry(number).setting for number in settings_of(name)]
    assert set(settings) <= set(found)
    assert len(found) <= 3


# ------------------------------------------------------------------------------------------ files of many rows
def ids_of(path):
    return [item.material_id if isinstance(item, Record) else item.reason for item in import_file(path, PLAIN, "lab")]


def test_frames_and_answers_of_every_shape_are_read(tmp_path):
    text = cif("Cs 0 0 0\nCl .5 .5 .5\n", head=said(group="P 1"))
    shapes = {
        "columns.json": {"structure": {"0": PYMATGEN, "1": PYMATGEN}, "band_gap": {"0": 1.5, "1": 2.5}},
        "records.json": [{"structure": PYMATGEN, "band_gap": gap} for gap in (1.5, 2.5)],
        "index.json": {"a": {"structure": PYMATGEN, "band_gap": 1.5}, "b": {"structure": PYMATGEN, "band_gap": 2.5}},
        "split.json": {
            "columns": ["structure", "band_gap"],
            "index": [0, 1],
            "data": [[PYMATGEN, 1.5], [PYMATGEN, 2.5]],
        },
        "megnet.json": [
            {"structure": text, "material_id": f"mp-{n}", "band_gap": gap} for n, gap in enumerate((1.5, 2.5))
        ],
        "id_prop.json": [{"atoms": JARVIS, "jid": f"JVASP-{n}", "band_gap": gap} for n, gap in enumerate((1.5, 2.5))],
        "answer.json": {
            "links": {"next": None},
            "data": [
                {"id": f"odb-{n}", "type": "structures", "attributes": OPTIMADE | {"_mp_band_gap": gap}}
                for n, gap in enumerate((1.5, 2.5))
            ],
            "meta": {"api_version": "1.1.0"},
        },
    }
    for name, content in shapes.items():
        (tmp_path / name).write_text(json.dumps(content))
        records = list(import_file(tmp_path / name, PLAIN, "lab"))
        assert [read_as(item) for item in records] == [{"Cl": 1, "Cs": 1}] * 2, (name, records)
        assert [item.band_gap for item in records] == [1.5, 2.5], name
    assert ids_of(tmp_path / "index.json") == ["a", "b"]
    assert ids_of(tmp_path / "answer.json") == ["odb-0", "odb-1"]


def test_optimade_lines_are_predictable_too(tmp_path):
    lines = [{"x-optimade": {"meta": {}}}, {"type": "info", "id": "structures"}]
    lines += [{"type": "structures", "id": "odb-7", "attributes": OPTIMADE}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (item,) = read_structures([tmp_path / "x.jsonl"])
    assert item.material_id == "odb-7"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_parted_by_semicolons_are_read(tmp_path, separator):
    text = cif("Cs 0 0 0\nCl .5 .5 .5\n", head="# Münster\n" + said(group="P 1"))
    rows = [separator.join(("material_id", "band_gap", "cif")), separator.join(("a", "1.5", f'"{text}"'))]
    (tmp_path / "x.csv").write_bytes("\n".join(rows).encode("latin-1"))
    (item,) = import_file(tmp_path / "x.csv", PLAIN, "lab")
    assert (item.material_id, item.band_gap) == ("a", 1.5)


def test_an_alignn_folder_names_poscars_and_no_file_outside(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_text(poscar())
    (home / "POSCAR-1.vasp").write_text(poscar())
    (home / "id_prop.csv").write_text(f"POSCAR-1.vasp,1.5\n../secret,2.5\n{tmp_path / 'secret'},2.5\n")
    options = PLAIN.model_copy(update={"columns": {"band_gap": "1"}})
    found, *outside = import_file(home, options, "lab")
    assert (found.material_id, found.band_gap) == ("POSCAR-1", 1.5)
    assert [item.reason for item in outside] == ["structure_missing"] * 2


# ------------------------------------------------------------------------------------------ bad rows among good ones
GOOD = {"material_id": "good", "lattice": np.eye(3).ravel().tolist(), "species": ["Po"], "frac_coords": [0, 0, 0]}
GOOD["lattice"] = [3.35, 0, 0, 0, 3.35, 0, 0, 0, 3.35]
BAD_LINES = {
    "deep": ("[" * 200_000, "invalid_json"),
    "a number": ("5", "invalid_json"),
    "null": ("null", "invalid_json"),
    "a list": ("[1,2]", "invalid_json"),
    "species": (json.dumps(GOOD | {"species": 5}), "species_malformed"),
    "year": (json.dumps(GOOD | {"year": float("inf")}), "not_a_number"),
    "late year": (json.dumps(GOOD | {"year": 1e12}), "not_a_year"),
    "long label": (json.dumps(GOOD)[:-1] + ', "band_gap": ' + "9" * 400 + "}", "not_a_number"),
    "potentials": (json.dumps(GOOD | {"pseudopotentials": ["PAW_PBE"]}), "not_text"),
    "half a letter": (json.dumps(GOOD | {"material_id": "\ud800"}), "not_text"),
    "word": (json.dumps(GOOD | {"synthetic": "maybe"}), "not_a_flag"),
    "no atoms": (json.dumps(GOOD | {"species": [], "frac_coords": []}), "no_atoms"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_bad_line_is_rejected_and_the_others_stay(tmp_path, kind, place):
    line, reason = BAD_LINES[kind]
    lines = [line, json.dumps(GOOD | {"band_gap": 0.0})]
    (tmp_path / "x.jsonl").write_text("\n".join(lines if place == "first" else lines[::-1]))
    acquire("lab", database("aflow", origin="file", path=str(tmp_path / "x.jsonl")), tmp_path / "out")
    items = list(read_snapshot(tmp_path / "out"))
    assert [item.material_id for item in items if isinstance(item, Record)] == ["good"]
    (bad,) = [item for item in items if isinstance(item, Rejection)]
    assert (bad.reason, bad.file, bad.row) == (reason, "x.jsonl", 0 if place == "first" else 1)


@pytest.mark.parametrize(
    ("word", "truth"), [("false", False), ("no", False), ("0", False), ("yes", True), (True, True)]
)
def test_words_for_no_are_no(tmp_path, word, truth):
    (tmp_path / "x.jsonl").write_text(json.dumps(GOOD | {"synthetic": word, "is_hubbard": word}))
    (item,) = import_file(tmp_path / "x.jsonl", PLAIN, "lab")
    assert (item.synthetic, item.is_hubbard) == (truth, truth)


def test_what_a_folder_holds_beside_crystals_is_named(tmp_path):
    for name, content in {
        "a.vasp": poscar(),
        "INCAR": "ENCUT = 520",
        "b.docx": "x",
        ".hidden": "",
        "README.md": "",
    }.items():
        (tmp_path / name).write_text(content)
    items = list(read_structures([tmp_path]))
    passed = [Path(item.file).name for item in items if isinstance(item, Rejection) and item.reason == "passed_over"]
    assert passed == ["INCAR", "b.docx"]


def test_a_site_in_too_many_images_is_refused_at_once():
    operators = [f"x+{n}/192,y,z" for n in range(192)]
    sites = "".join(f"Cs{n} {n / 1000} 0 0\n" for n in range(1000))
    item = read_text(
        f"data_x\n{CELL.format(a=9, b=9, c=9, alpha=90, beta=90, gamma=90)}{said(operators=operators)}{SITES}{sites}",
        "x",
    )
    assert item.reason == "too_many_atoms"


def test_an_unknown_path_is_told_before_any_file_is_read(tmp_path):
    (tmp_path / "a.vasp").write_text(poscar())
    with pytest.raises(InputError, match="does not exist"):
        next(iter(read_structures([tmp_path / "a.vasp", tmp_path / "absent"])))
