"""What the remarks on a cell say of slabs, wires, molecules and wrong units, and that known crystals get none."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from sample_rows import sample_records

from matscout.crystal import Crystal
from matscout.discovery.screen.predict_usable import ATOMIC_VOLUMES, cell_remark, volume_ratio
from matscout.sources.formats.crystal_parser import empty_widths


def salt(scale=1.0):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64 * scale), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])


def in_box(symbols, places, lengths, angles=(90, 90, 90)):
    """Atoms at Cartesian places, Å, in a cell."""
    return Structure(Lattice.from_parameters(*lengths, *angles), symbols, places, coords_are_cartesian=True)


WATER = ["O", "H", "H"], [[3, 3, 3], [3.76, 3.59, 3], [2.24, 3.59, 3]]


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (salt(), ""),
        (in_box(*WATER, (9, 9, 9)), "a molecule in a box? no atom in 7.5 Å along a, 8.4 Å along b, 9.0 Å along c"),
        (in_box(*WATER, (9, 9, 3)), "a wire in vacuum? no atom in 7.5 Å along a, 8.4 Å along b"),
        (
            in_box(["C", "C"], [[0, 0, 3], [0, 1.42, 3]], (2.46, 2.46, 8), (90, 90, 120)),
            "a layer in vacuum? no atom in 8.0",
        ),
        (salt(1.4), "2.4 times the volume that its atoms fill in known crystals"),
        (salt(0.85), "54 % of the volume that its atoms fill in known crystals"),
        (salt(1.05), ""),
    ],
)
def test_a_remark_names_what_is_unusual(structure, words):
    remark = cell_remark(Crystal.from_structure(structure))
    assert words in remark
    assert bool(words) == bool(remark)


def test_the_widths_of_empty_slabs_are_those_of_a_search_in_small_steps():
    rng = np.random.default_rng(3)
    for _ in range(5):
        lattice, places = Lattice(rng.normal(size=(3, 3)) * 3 + 4 * np.eye(3)), rng.random((4, 3)) * 3 - 1
        structure = Structure(lattice, ["Si"] * 4, places)
        levels = np.linspace(0, 1, 20_001)
        for axis, width in enumerate(empty_widths(Crystal.from_structure(structure))):
            apart = np.abs((levels[:, None] - places[:, axis] + 0.5) % 1 - 0.5).min(axis=1)
            height = lattice.volume / np.linalg.norm(np.cross(*np.delete(lattice.matrix, axis, axis=0)))
            assert width == pytest.approx(2 * apart.max() * height, rel=1e-3)


def test_few_known_crystals_get_a_remark_and_nearly_all_do_once_their_unit_is_wrong():
    crystals = [record.crystal for record in sample_records("materials_project")[::4]]
    assert np.mean([bool(cell_remark(crystal)) for crystal in crystals]) < 0.02
    for factor in (0.1, 0.529177, 1 / 0.529177, 10):  # nm, and bohr either way
        scaled = [Crystal(crystal.lattice * factor, crystal.species, crystal.frac_coords) for crystal in crystals]
        assert np.mean(["of the volume" in text or "the volume" in text for text in map(cell_remark, scaled)]) > 0.99


def test_atoms_of_known_elements_fill_what_the_elements_own_crystals_do():
    """Volume per atom of bcc iron, fcc copper, diamond; no statement on an element that the table lacks."""
    for symbol, volume in (("Fe", 11.8), ("Cu", 11.8), ("Si", 20.0), ("Al", 16.6)):
        assert ATOMIC_VOLUMES[symbol] == pytest.approx(volume, rel=0.25)
    cube = Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]])
    assert volume_ratio(Crystal.from_structure(cube)) is None
    assert volume_ratio(Crystal.from_structure(cube), {"Po": 13.5}) == pytest.approx(2.0)
