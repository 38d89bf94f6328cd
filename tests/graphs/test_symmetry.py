"""Orbits against moyo, on known crystals, and by what they promise: merged atoms see the same surroundings."""

import moyopy
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from searches import find_orbits, nearest_neighbors

from matscout.crystal import Crystal
from matscout.graphs import symmetry

SYMPREC = 1e-3


def orbits_of(crystal, symprec=SYMPREC):
    return find_orbits(crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, symprec)


def partition(labels):
    seen = {}
    return tuple(seen.setdefault(label, len(seen)) for label in labels)


def moyo(crystal, symprec=SYMPREC):
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
    return moyopy.MoyoDataset(cell, symprec=symprec)


def refines(fine, coarse):
    """Whether every class of `fine` lies within one class of `coarse`."""
    return len(set(zip(fine, coarse, strict=True))) == len(set(fine))


def test_partition_is_that_of_moyo(real_cells):
    """Equal; or, where atoms lie at the tolerance itself, between moyo's at a third and at three times of it."""
    equal, outside, cells = 0, [], real_cells[::3]
    for name, crystal in cells:
        ours, theirs = orbits_of(crystal), moyo(crystal)
        sizes = np.unique(theirs.orbits, return_counts=True)[1] * len(theirs.prim_std_cell.numbers) // crystal.n_atoms
        labels = partition(ours.orbit_of_atom)
        if labels == partition(theirs.orbits) and sizes.tolist() == ours.multiplicity.tolist():
            equal += 1
        elif not refines(moyo(crystal, SYMPREC / 3).orbits, labels) or not refines(
            labels, moyo(crystal, 3 * SYMPREC).orbits
        ):
            outside.append(name)
    assert not outside
    assert equal >= 0.99 * len(cells)


def test_merged_atoms_have_the_same_surroundings(real_cells):
    merged, worst = 0, 0.0
    for _, crystal in real_cells[::9]:
        orbits = orbits_of(crystal)
        found = nearest_neighbors(crystal.lattice, crystal.frac_coords, 12)
        lengths = np.linalg.norm(found.vectors.astype(float), axis=1)
        for atom, orbit in enumerate(orbits.orbit_of_atom):
            twin = orbits.representatives[orbit]
            assert crystal.species[atom] == crystal.species[twin]
            n = min(found.counts[atom], found.counts[twin], 12)
            one, other = lengths[found.offsets[atom] :][:n], lengths[found.offsets[twin] :][:n]
            worst = max(worst, float(np.abs(one - other).max()))
            merged += int(twin != atom)
    assert merged > 1000
    assert worst < 4 * SYMPREC


ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
)
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.914, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]]
)
SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0] * 3, [0.625] * 3, [0.3874] * 3]
)


@pytest.mark.parametrize(
    ("structure", "multiplicity"),
    [(ROCK_SALT, [1, 1]), (RUTILE, [2, 4]), (QUARTZ, [3, 6]), (SPINEL, [2, 4, 8])],
    ids=["rock salt", "rutile", "quartz", "spinel"],
)
@pytest.mark.parametrize("scaling", [[1, 1, 1], [2, 1, 1], [[1, 1, 0], [0, 1, 2], [1, 0, 1]]])
def test_known_crystals_and_their_supercells(structure, multiplicity, scaling):
    supercell = structure.copy().make_supercell(scaling, in_place=False)
    assert orbits_of(Crystal.from_structure(supercell)).multiplicity.tolist() == multiplicity


def test_a_displaced_atom_breaks_the_symmetry():
    displaced = RUTILE.copy()
    displaced.translate_sites([3], [0.01, 0.004, 0.002])
    assert len(orbits_of(Crystal.from_structure(displaced)).representatives) > 2


def test_the_tolerance_decides(settings):
    rng = np.random.default_rng(5)
    noisy = Crystal.from_structure(RUTILE)
    noisy = Crystal(noisy.lattice, noisy.species, noisy.frac_coords + rng.uniform(-1e-4, 1e-4, (6, 3)))
    assert len(orbits_of(noisy, 1e-2).representatives) == 2
    assert len(orbits_of(noisy, 1e-5).representatives) == 6


def test_order_of_atoms_does_not_matter(real_cells):
    rng = np.random.default_rng(1)
    for name, crystal in real_cells[::25]:
        order = rng.permutation(crystal.n_atoms)
        shuffled = Crystal(crystal.lattice, tuple(np.array(crystal.species)[order]), crystal.frac_coords[order])
        ours, theirs = orbits_of(crystal), orbits_of(shuffled)
        assert partition(ours.orbit_of_atom[order]) == partition(theirs.orbit_of_atom), name


def n_free(structure, symprec=0.01):
    crystal = structure if isinstance(structure, Crystal) else Crystal.from_structure(structure)
    lattice, coords = (
        np.ascontiguousarray(array, dtype=np.float64) for array in (crystal.lattice, crystal.frac_coords)
    )
    return symmetry.n_free_parameters(lattice, coords, crystal.atomic_numbers, symprec)


ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
)
PYRITE = Structure.from_spacegroup("Pa-3", Lattice.cubic(5.42), ["Fe", "S"], [[0, 0, 0], [0.385, 0.385, 0.385]])
KNOWN_FREE = {"rock salt": (ROCK_SALT, 0), "pyrite": (PYRITE, 1), "rutile": (RUTILE, 2), "wurtzite": (WURTZITE, 2)}


@pytest.mark.parametrize("name", KNOWN_FREE)
def test_free_parameters_are_those_of_the_textbook_in_every_cell(name):
    """The lattice's without its volume, the atoms' without those that move the whole crystal (wurtzite's origin)."""
    structure, expected = KNOWN_FREE[name]
    assert n_free(structure) == n_free(structure.get_primitive_structure()) == n_free(structure * (2, 1, 1)) == expected


def test_a_cell_without_symmetry_leaves_everything_free():
    rng = np.random.default_rng(3)
    for n_atoms in (1, 2, 5):
        lattice = 4.0 * np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3))
        species = ("Na", "Cl", "K", "Br", "O")[:n_atoms]
        crystal = Crystal(lattice, species, rng.random((n_atoms, 3)))
        assert n_free(crystal) == 5 + 3 * (n_atoms - 1)


def moyos_free(crystal, symprec):
    """The same from moyo's operations: ranks of the projections on what they keep."""
    found = moyo(crystal, symprec)
    turns, shifts = np.array(found.operations.rotations), np.array(found.operations.translations)
    total = 0
    for atom in np.unique(found.orbits):
        misses = turns @ crystal.frac_coords[atom] + shifts - crystal.frac_coords[atom]
        keeps = np.linalg.norm((misses - np.round(misses)) @ crystal.lattice, axis=1) < 3 * symprec
        total += np.linalg.matrix_rank(turns[keeps].mean(axis=0), tol=1e-6)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    metrics = np.zeros((len(pairs), 3, 3))
    for place, (i, j) in enumerate(pairs):
        metrics[place, i, j] = metrics[place, j, i] = 1.0
    kept = np.stack([np.mean([turn.T @ metric @ turn for turn in turns], axis=0).ravel() for metric in metrics])
    return total - np.linalg.matrix_rank(turns.mean(axis=0), tol=1e-6) + np.linalg.matrix_rank(kept, tol=1e-6) - 1


def test_free_parameters_are_those_of_moyos_operations(real_cells):
    """Equal, or, where atoms lie at the tolerance itself, between those at a third and at three times of it."""
    cells = real_cells[::5]
    equal = 0
    for name, crystal in cells:
        ours = n_free(crystal, SYMPREC)
        equal += ours == moyos_free(crystal, SYMPREC)
        limits = [moyos_free(crystal, SYMPREC * factor) for factor in (0.3, 1.0, 3.0, 10.0)]
        assert min(limits) <= ours <= max(limits), name
    assert equal >= 0.97 * len(cells)
