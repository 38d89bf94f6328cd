"""Users' files: every kind is read, every broken one is a rejection with its reason, the others go on."""

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matscout.errors import InputError
from matscout.sources.files.named_structures import read_structures
from matscout.sources.record import Record, Rejection

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def item_of(items, reason):
    (item,) = (item for item in items if isinstance(item, Rejection) and item.reason == reason)
    return item


def write(path, fmt):
    path.write_text(SALT.to(fmt=fmt))
    return path


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("salt.cif", "cif"),
        ("POSCAR", "poscar"),
        ("CONTCAR_2", "poscar"),
        ("salt.vasp", "poscar"),
        ("salt.json", "json"),
    ],
)
def test_each_kind_of_file_gives_the_same_crystal(tmp_path, name, fmt):
    (item,) = read_structures([write(tmp_path / name, fmt)])
    assert isinstance(item, Record)
    assert sorted(item.crystal.species) == ["Cl"] * 4 + ["Na"] * 4
    np.testing.assert_allclose(item.crystal.volume, SALT.volume, rtol=1e-6)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in ("b.cif", "a.cif", "below/c.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "cif")
    (tmp_path / "notes.txt").write_text("no structure")
    assert [item.material_id for item in read_structures([tmp_path])] == ["a", "b", "below/c", ""]
    assert item_of(read_structures([tmp_path]), "passed_over").file.endswith("notes.txt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.cif", "", "empty_file"),
        ("cut.cif", "data_NaCl\n_cell_length_a 5.64\n", "unreadable_structure"),
        ("POSCAR", "NaCl\n1.0\n5.6 0 0\n", "unreadable_structure"),
        ("x.json", "{", "truncated_file"),
        ("flat.vasp", "NaCl\n1.0\n1 0 0\n2 0 0\n0 0 1\nNa\n1\ndirect\n0 0 0\n", "unreadable_structure"),
    ],
)
def test_a_broken_file_is_told_and_the_others_go_on(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    write(tmp_path / "zz.cif", "cif")
    broken, good = read_structures([tmp_path])
    assert isinstance(broken, Rejection)
    assert broken.reason in {reason, "zero_volume"}
    assert broken.file.endswith(name)
    assert isinstance(good, Record)


def test_partial_occupation_is_rejected(tmp_path):
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    (tmp_path / "alloy.json").write_text(alloy.to(fmt="json"))
    (item,) = read_structures([tmp_path])
    assert item.reason == "disordered"


def test_record_lines_are_read_one_by_one(tmp_path):
    (record,) = read_structures([write(tmp_path / "salt.cif", "cif")])
    good = json.dumps(record.to_row())
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{good}\n\n{good[:50]}\n")
    first, second = read_structures([file])
    assert first.material_id == "salt"
    assert (second.reason, second.row) == ("invalid_json", 2)


def test_what_cannot_be_meant_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no structure")
    (tmp_path / "empty").mkdir()
    for path, told in (
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "notes.txt", "unknown kind"),
        (tmp_path / "empty", "no structure"),
    ):
        with pytest.raises(InputError, match=told):
            list(read_structures([path]))
